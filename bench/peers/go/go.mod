module plimsoll-bench-proxy

go 1.21
