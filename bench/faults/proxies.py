"""The proxies under equivalent settings: two random servers and the one with fewer requests, 500 ms for an answer to begin, one retry.

Five failures take a server out, as far as each can do that: nginx counts them within `fail_timeout`; HAProxy needs health checks beside
(every 2 s here, and every second while it is out), which also bring the server back. nginx has no checks without a subscription, no queue and no classes.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reliability"))
import peers


class Limits:
    """Requests in flight at once on a server, and whether those that find none wait for half a second."""
    at_once = None
    """Whether `/healthz` is asked four times a second; three failures take a server out and two passes bring it back."""
    checked = False
    """Whether `/high` goes before all else that waits."""
    classed = False


class Plimsoll(Limits, peers.Plimsoll):
    """Lines of its own for what a fault needs beside."""
    more = ""

    def backend(self, servers):
        limit = f'max_requests = {self.at_once}\nqueue = {{ timeout = "500ms" }}' if self.at_once else ""
        if self.checked:
            limit = 'health = { path = "/healthz", every = "250ms", every_down = "250ms", timeout = "250ms" }'
        return f"""servers = [{", ".join(f'"127.0.0.1:{port}"' for port in servers)}]
{limit}"""

    def text(self, number, servers):
        rules = """to = "web"
timeout = { first_byte = "500ms" }
retry = { attempts = 1, on = ["connect", "reset", "timeout", "502", "503", "504"] }"""
        high = f'[[route]]\npath = "/high"\npriority = "high"\n{rules}' if self.classed else ""
        return f"""workers = {peers.WORKERS}
[[listen]]
bind = "127.0.0.1:{self.port}"
to = "web"
[limits]
requests_per_connection = 1000000
[backend.web]
{self.backend(servers)}
{high}
[[route]]
{rules}
[log]
format = "off"
{self.more}
"""


class Nginx(Limits, peers.Nginx):
    """Where it sends requests, and lines of its server for what a fault needs beside."""
    to, more = "http://web", ""

    def upstream(self, servers):
        limit = f" max_conns={self.at_once}" if self.at_once else ""
        web = "".join(f"server 127.0.0.1:{port} max_fails=5 fail_timeout=10s{limit};" for port in servers)
        return f"upstream web {{ zone web 1m; random two least_conn; {web} keepalive 64; }}"

    def text(self, number, servers):
        temporary = "".join(f"{kind}_temp_path {self.path(kind)};" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
        return f"""worker_processes {peers.WORKERS};
pid {self.path("pid")};
error_log {self.path("error.log")};
events {{ worker_connections 8192; }}
http {{
  access_log off;
  {temporary}
  keepalive_requests 1000000;
  proxy_http_version 1.1;
  proxy_connect_timeout 500ms;
  proxy_read_timeout 500ms;
  proxy_next_upstream error timeout http_502 http_503 http_504;
  proxy_next_upstream_tries 2;
  {self.upstream(servers)}
  server {{
    listen 127.0.0.1:{self.port} backlog=4096;
    {self.more}
    location / {{ proxy_pass {self.to}; proxy_set_header Connection ""; }}
  }}
}}
"""


class Haproxy(Limits, peers.Haproxy):
    """Lines of `global`, and sections of its own, for what a fault needs beside."""
    more, sections, check = "", "", ""

    def servers(self, servers):
        limit = f" maxconn {self.at_once}" if self.at_once else ""
        observe = "" if self.at_once else " check inter 2s downinter 1s fall 3 rise 2 observe layer7 error-limit 5 on-error mark-down"
        if self.checked:
            observe = " check inter 250ms fall 3 rise 2"
        return "\n".join(f"  server s{port} 127.0.0.1:{port}{observe}{limit}" for port in servers)

    def text(self, number, servers):
        return f"""global
  nbthread {peers.WORKERS}
  maxconn 8192
  {self.more}
defaults
  mode http
  timeout connect 500ms
  timeout client 60s
  timeout server 500ms
  timeout queue 500ms
  timeout http-keep-alive 75s
  option http-keep-alive
  option abortonclose
  retries 1
  option redispatch 1
  retry-on conn-failure empty-response response-timeout 502 503 504
frontend f
  bind 127.0.0.1:{self.port} backlog 4096
  default_backend web
{self.sections}
backend web
  balance random(2)
  {"http-request set-priority-class int(-1) if { path /high }" if self.classed else ""}
  option httpchk {self.check or ("GET /healthz" if self.checked else "GET /")}
{self.servers(servers)}
"""


PROXIES = [Plimsoll, Nginx, Haproxy]
