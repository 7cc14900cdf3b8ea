"""Equivalent settings of each balancer, by policy, and the command that serves them on one port.

Alike for all: one worker; a failed request takes a server out for three seconds (HAProxy: a refused connection, until a check finds it
again, every 200 ms); a GET without an answer is tried at another server, as many at once as need it.
"""
import json
import os
from dataclasses import dataclass

OUT = 3  # seconds


@dataclass(frozen=True)
class Run:
    group: str
    peer: str
    policy: str  # as `plimsoll verify --policy` calls what it is held against
    setting: str  # as the peer calls it
    weights: str = ""

    @property
    def title(self):
        return f"{self.peer} `{self.setting}`" if self.setting else f"{self.peer} default"

    @property
    def label(self):
        return f"{self.group}: {self.peer} {self.setting}"


WEIGHTS = "6,1,1,1,1,1"
TWO, TURNS, WEIGHTED, LEAST, KEYS = "Best of two", "Round robin", "Weighted round robin", "Least connections", "Hash of a header"
RUNS = [
    Run(TWO, "plimsoll", "p2c", "p2c"),
    Run(TWO, "nginx", "p2c", "random two least_conn"),
    Run(TWO, "haproxy", "p2c", "random(2)"),
    Run(TWO, "caddy", "p2c", "random_choose 2"),
    Run(TWO, "envoy", "p2c", "LEAST_REQUEST"),
    Run(TURNS, "plimsoll", "round_robin", "round_robin"),
    Run(TURNS, "nginx", "round_robin", ""),
    Run(TURNS, "haproxy", "round_robin", "roundrobin"),
    Run(TURNS, "caddy", "round_robin", "round_robin"),
    Run(TURNS, "envoy", "round_robin", "ROUND_ROBIN"),
    Run(WEIGHTED, "plimsoll", "round_robin", "round_robin", WEIGHTS),
    Run(WEIGHTED, "nginx", "round_robin", "", WEIGHTS),
    Run(WEIGHTED, "haproxy", "round_robin", "roundrobin", WEIGHTS),
    Run(WEIGHTED, "envoy", "round_robin", "ROUND_ROBIN", WEIGHTS),
    Run(LEAST, "plimsoll", "least_conn", "least_conn"),
    Run(LEAST, "nginx", "least_conn", "least_conn"),
    Run(LEAST, "haproxy", "least_conn", "leastconn"),
    Run(LEAST, "caddy", "least_conn", "least_conn"),
    Run(KEYS, "plimsoll", "hash", "hash"),
    Run(KEYS, "nginx", "hash", "hash consistent"),
    Run(KEYS, "nginx", "hash", "hash"),
    Run(KEYS, "haproxy", "hash", "hdr, consistent"),
    Run(KEYS, "haproxy", "hash", "hdr"),
    Run(KEYS, "caddy", "hash", "header"),
    Run(KEYS, "envoy", "hash", "MAGLEV"),
    Run(KEYS, "envoy", "hash", "RING_HASH"),
]


def command(run, program, directory, port, servers):
    weights = [int(w) for w in run.weights.split(",")] if run.weights else [1] * len(servers)
    return MAKERS[run.peer](run, program, directory, port, list(zip(servers, weights)))


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w") as f:
        f.write(text)
    return path


def plimsoll(run, program, directory, port, servers):
    listed = ", ".join(f'{{ address = "127.0.0.1:{p}", weight = {w} }}' for p, w in servers)
    balance = '{ policy = "hash", key = "header:x-user" }' if run.policy == "hash" else f'"{run.setting}"'
    conf = write(directory, "plimsoll.toml", f"""workers = 1
[log]
format = "off"
[[listen]]
bind = "127.0.0.1:{port}"
to = "all"
[backend.all]
balance = {balance}
slow_start = "0s"
servers = [{listed}]
""")
    return [program, "run", "-c", conf]


def nginx(run, program, directory, port, servers):
    rule = {"hash consistent": "hash $http_x_user consistent;", "hash": "hash $http_x_user;", "": ""}.get(run.setting, f"{run.setting};")
    listed = " ".join(f"server 127.0.0.1:{p} weight={w} fail_timeout={OUT}s;" for p, w in servers)
    spaces = " ".join(f"{n}_temp_path {directory}/{n};" for n in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf = write(directory, "nginx.conf", f"""daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/error crit;
events {{ worker_connections 1024; }}
http {{ {spaces} access_log off; keepalive_requests 1000000;
upstream all {{ {rule} {listed} keepalive 64; }}
proxy_http_version 1.1; proxy_set_header Connection "";
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://all; }} }} }}
""")
    return [program, "-p", directory, "-c", conf]


def haproxy(run, program, directory, port, servers):
    rule = {"hdr, consistent": "hdr(x-user)\n  hash-type consistent", "hdr": "hdr(x-user)"}.get(run.setting, run.setting)
    listed = "".join(f"  server s{p} 127.0.0.1:{p} weight {w} check inter 200ms fall 1 rise 1 observe layer4 error-limit 1 on-error mark-down\n" for p, w in servers)
    conf = write(directory, "haproxy.cfg", f"""global
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 2s
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response
frontend f
  bind 127.0.0.1:{port}
  default_backend all
backend all
  balance {rule}
{listed}""")
    return [program, "-f", conf]


def caddy(run, program, directory, port, servers):
    rule = "header X-User" if run.policy == "hash" else run.setting
    to = " ".join(f"127.0.0.1:{p}" for p, _ in servers)
    conf = write(directory, "Caddyfile", f"""{{
 admin off
 auto_https off
}}
http://:{port} {{
 bind 127.0.0.1
 reverse_proxy {to} {{
  lb_policy {rule}
  lb_try_duration 2s
  lb_try_interval 10ms
  fail_duration {OUT}s
  max_fails 1
 }}
}}
""")
    return ["env", "GOMAXPROCS=1", f"XDG_DATA_HOME={directory}", f"XDG_CONFIG_HOME={directory}", program, "run", "--config", conf,
            "--adapter", "caddyfile"]


def envoy(run, program, directory, port, servers):
    def endpoint(server):
        address = {"socket_address": {"address": "127.0.0.1", "port_value": server[0]}}
        return {"endpoint": {"address": address}, "load_balancing_weight": server[1]}
    route = {"cluster": "all", "retry_policy": {
        "retry_on": "connect-failure,reset,refused-stream", "num_retries": 3, "host_selection_retry_max_attempts": 10,
        "retry_host_predicate": [{"name": "previous", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}]}}
    if run.policy == "hash":
        route["hash_policy"] = [{"header": {"header_name": "x-user"}}]
    out = {"consecutive_5xx": 1, "consecutive_gateway_failure": 1, "consecutive_local_origin_failure": 1, "interval": "0.1s",
           "base_ejection_time": f"{OUT}s", "max_ejection_time": f"{OUT}s", "max_ejection_percent": 100,
           "split_external_local_origin_errors": True, "enforcing_consecutive_gateway_failure": 100, "enforcing_consecutive_5xx": 0,
           "enforcing_consecutive_local_origin_failure": 100, "enforcing_success_rate": 0, "enforcing_local_origin_success_rate": 0}
    cluster = {"name": "all", "connect_timeout": "2s", "type": "STATIC", "lb_policy": run.setting, "outlier_detection": out,
               # Three at once by default, and a server that dies leaves more than that to be tried again.
               "circuit_breakers": {"thresholds": [{"max_retries": 1024}]},
               "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
               "load_assignment": {"cluster_name": "all", "endpoints": [{"lb_endpoints": [endpoint(s) for s in servers]}]}}
    kinds = "type.googleapis.com/envoy.extensions.filters."
    manager = {"@type": kinds + "network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "f", "codec_type": "HTTP1",
               "http_filters": [{"name": "router", "typed_config": {"@type": kinds + "http.router.v3.Router"}}],
               "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]}}
    listener = {"name": "f", "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}
    conf = write(directory, "envoy.json", json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    return [program, "-c", conf, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]


MAKERS = {"plimsoll": plimsoll, "nginx": nginx, "haproxy": haproxy, "caddy": caddy, "envoy": envoy}
