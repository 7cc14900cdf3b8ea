#!/usr/bin/env python3
"""A first speed check: CPU time of the proxy per request, side by side with nginx and HAProxy.

One core for the proxy under test, the other for wrk and an nginx that answers 1 KiB. The proxies take turns, round after round, so
that drift hits all alike; the figure is the kernel's run time of the proxy's threads (/proc/PID/task/*/schedstat) divided by wrk's
count of requests. Read the ratios, not the microseconds.

    cargo build --release && bench/speed_check.py [--connections 64] [--seconds 4] [--rounds 5] [--log]

Needs nginx, haproxy and wrk (Debian's packages of those names) and two cores. Talks to loopback only.
"""
import argparse, glob, os, re, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROXY_CORE, LOAD_CORE = "0", "1"
HEADERS = {
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "Cache-Control": "no-cache",
    "Cookie": "session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes",
    "Pragma": "no-cache",
    "Priority": "u=0, i",
    "Referer": "http://example.com/some/page",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-User": "?1",
    "Upgrade-Insecure-Requests": "1",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
}  # with Host: fifteen


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    sys.exit(f"nothing listens on port {port}")


def start(core, argv, **kwargs):
    return subprocess.Popen(["taskset", "-c", core, *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **kwargs)


def nginx(directory, name, body, core):
    path = os.path.join(directory, name)
    os.makedirs(path)
    conf = os.path.join(path, "nginx.conf")
    with open(conf, "w") as f:
        f.write(f"daemon off; worker_processes 1; pid {path}/pid; error_log {path}/error crit;\n"
                "events { worker_connections 8192; }\n"
                f"http {{ client_body_temp_path {path}/1; proxy_temp_path {path}/2; fastcgi_temp_path {path}/3;"
                f" uwsgi_temp_path {path}/4; scgi_temp_path {path}/5;\n{body}\n}}\n")
    return start(core, ["nginx", "-p", path, "-c", conf])


def backend(directory, port):
    text = "x" * 1024
    return nginx(directory, "backend",
                 f"access_log off; keepalive_requests 1000000000; server {{ listen 127.0.0.1:{port} backlog=4096;"
                 f" location / {{ default_type text/plain; return 200 '{text}'; }} }}", LOAD_CORE)


def proxies(directory, to, log):
    ports = {name: free_port() for name in ("plimsoll", "nginx", "haproxy")}
    access = f"access_log {directory}/nginx.log combined buffer=32k flush=1s;" if log else "access_log off;"
    children = {"nginx": nginx(directory, "proxy", f"""{access} keepalive_requests 1000000000;
        upstream b {{ server 127.0.0.1:{to}; keepalive 2048; keepalive_requests 1000000000; }}
        server {{ listen 127.0.0.1:{ports["nginx"]} backlog=4096; location / {{ proxy_pass http://b; proxy_http_version 1.1;
          proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
          proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host; }} }}""", PROXY_CORE)}
    conf = os.path.join(directory, "haproxy.cfg")
    with open(conf, "w") as f:
        f.write(f"""global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 2s
  http-reuse always
  {"option httplog" if log else ""}
  {"log stdout format raw local0" if log else ""}
frontend f
  bind 127.0.0.1:{ports["haproxy"]} backlog 4096
  option forwardfor
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  default_backend b
backend b
  balance random(2)
  server s 127.0.0.1:{to} pool-max-conn 2048
""")
    children["haproxy"] = start(PROXY_CORE, ["haproxy", "-f", conf])
    conf = os.path.join(directory, "plimsoll.toml")
    with open(conf, "w") as f:
        output = f'format = "json"\noutput = "{directory}/plimsoll.log"' if log else 'format = "off"'
        f.write(f"""workers = 1
[limits]
requests_per_connection = 1000000000
[log]
{output}
[[listen]]
bind = "127.0.0.1:{ports["plimsoll"]}"
to = "b"
[backend.b]
max_requests = 60000
servers = ["127.0.0.1:{to}"]
""")
    binary = os.environ.get("PLIMSOLL", os.path.join(ROOT, "target/release/plimsoll"))
    children["plimsoll"] = start(PROXY_CORE, [binary, "run", "-c", conf])
    return ports, children


def family(pid):
    pids = [pid]
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        with open(path) as f:
            for child in f.read().split():
                pids += family(int(child))
    return pids


def run_time(pid):
    """Nanoseconds that the process, its threads and children have run."""
    total = 0
    for p in family(pid):
        for path in glob.glob(f"/proc/{p}/task/*/schedstat"):
            with open(path) as f:
                total += int(f.read().split()[0])
    return total


def load(port, script, connections, seconds):
    out = subprocess.run(["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, "--latency",
                          f"http://127.0.0.1:{port}/"], capture_output=True, text=True).stdout
    count = int(re.search(r"(\d+) requests in", out).group(1))
    p99 = re.search(r"99%\s+(\S+)", out).group(1)
    errors = re.findall(r"(?:Socket errors|Non-2xx).*", out)
    return count, p99, errors


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--log", action="store_true", help="with access logs to files")
    args = parser.parse_args()
    for program in ("nginx", "haproxy", "wrk", "taskset"):
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
            sys.exit(f"{program} is missing: apt-get install nginx-light haproxy wrk util-linux")
    os.environ["PATH"] += ":/usr/sbin"
    directory = tempfile.mkdtemp(prefix="plimsoll-speed-")
    os.chmod(directory, 0o755)
    script = os.path.join(directory, "headers.lua")
    with open(script, "w") as f:
        f.writelines(f'wrk.headers["{name}"] = "{value}"\n' for name, value in HEADERS.items())
    to = free_port()
    children = {"backend": backend(directory, to)}
    try:
        wait_for(to)
        ports, started = proxies(directory, to, args.log)
        children.update(started)
        for port in ports.values():
            wait_for(port)
        per_request = {name: [] for name in ports}
        for round_number in range(args.rounds + 1):
            for name, port in ports.items():
                before = run_time(children[name].pid)
                count, p99, errors = load(port, script, args.connections, args.seconds if round_number else 1)
                used = run_time(children[name].pid) - before
                if round_number:  # the first is a warm-up
                    per_request[name].append(used / count / 1000)
                    print(f"round {round_number} {name:9} {used / count / 1000:6.2f} us/request  {count / args.seconds:8.0f} requests/s"
                          f"  p99 {p99} {' '.join(errors)}", flush=True)
        medians = {name: statistics.median(values) for name, values in per_request.items()}
        best = min(medians["nginx"], medians["haproxy"])
        print(f"\n{args.connections} connections, median of {args.rounds} rounds{', access logs on' if args.log else ''}:")
        for name, value in medians.items():
            print(f"{name:9} {value:6.2f} us of CPU per request, {value / best:.2f} of the better of nginx and HAProxy")
    finally:
        for child in children.values():
            child.send_signal(signal.SIGTERM)
        for child in children.values():
            child.wait()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
