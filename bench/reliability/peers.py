"""The proxies: how each is given the same configuration, is told to take a new one, and is stopped.

A configuration is a round's number and its servers with their weights. Server 0 stays in every round and serves the unchanged route. The
number is answered at `/round`, so that a reload counts only once it is in force.
"""
import os
import re
import shutil
import signal
import subprocess

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
WORKERS = 2


class Peer:
    name = ""

    def __init__(self, directory, port):
        self.directory, self.port, self.process = directory, port, None

    def path(self, name):
        return os.path.join(self.directory, name)

    def configure(self, number, servers):
        """Writes the configuration, in one step."""
        with open(self.path("new"), "w") as f:
            f.write(self.text(number, servers))
        os.replace(self.path("new"), self.path("conf"))

    def start(self):
        with open(self.path("said"), "w") as said:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)

    def stop(self):
        """Ends the process and what it has started, which has a session of its own."""
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()


def found(name, variable):
    return os.environ.get(variable) or shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")


class Plimsoll(Peer):
    name, how = "Plimsoll", "HUP"

    @staticmethod
    def program():
        named = os.environ.get("PLIMSOLL")
        if not named:
            subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "plimsoll"], cwd=ROOT, check=True)
        return named or os.path.join(ROOT, "target", "release", "plimsoll")

    def command(self):
        return [self.program(), "run", "-c", self.path("conf")]

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def text(self, number, servers):
        web = ", ".join(f'{{ address = "127.0.0.1:{port}", weight = {weight} }}' for port, weight in servers)
        return f"""workers = {WORKERS}
[[listen]]
bind = "127.0.0.1:{self.port}"
to = "web"
[limits]
requests_per_connection = 1000000
[backend.web]
servers = [{web}]
[backend.stays]
servers = ["127.0.0.1:{servers[0][0]}"]
[[route]]
path = "/tunnel"
to = "stays"
[[route]]
path = "/other-tunnel"
to = "web"
timeout = {{ tunnel = "{3600 + number}s" }}
[[route]]
path = "/round"
respond = {{ body = "{number}" }}
[log]
format = "off"
"""


class Nginx(Peer):
    name, how = "nginx", "nginx -s reload"

    @staticmethod
    def program():
        return found("nginx", "NGINX")

    def command(self):
        return [self.program(), "-p", self.directory, "-c", self.path("conf"), "-g", "daemon off;"]

    def reload(self):
        subprocess.run([*self.command(), "-s", "reload"], check=True, capture_output=True, timeout=20)

    def text(self, number, servers):
        web = "".join(f"server 127.0.0.1:{port} weight={weight};" for port, weight in servers)
        tunnel = "proxy_set_header Connection Upgrade; proxy_set_header Upgrade $http_upgrade;"
        return f"""worker_processes {WORKERS};
worker_rlimit_nofile 20000;
pid {self.path("pid")};
error_log {self.path("error.log")};
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {self.path("body")};
  proxy_temp_path {self.path("proxy")};
  fastcgi_temp_path {self.path("fastcgi")};
  uwsgi_temp_path {self.path("uwsgi")};
  scgi_temp_path {self.path("scgi")};
  client_max_body_size 0;
  keepalive_requests 1000000;
  proxy_http_version 1.1;
  proxy_request_buffering off;
  proxy_read_timeout 1h;
  upstream web {{ {web} keepalive 64; }}
  upstream stays {{ server 127.0.0.1:{servers[0][0]}; }}
  server {{
    listen 127.0.0.1:{self.port} backlog=4096;
    location = /round {{ return 200 "{number}"; }}
    location = /tunnel {{ proxy_pass http://stays; {tunnel} }}
    location = /other-tunnel {{ proxy_pass http://web; {tunnel} proxy_send_timeout {3600 + number}s; }}
    location / {{ proxy_pass http://web; proxy_set_header Connection ""; }}
  }}
}}
"""


class Haproxy(Peer):
    name, how = "HAProxy", "USR2 to the master, expose-fd"

    @staticmethod
    def program():
        return found("haproxy", "HAPROXY")

    def command(self):
        return [self.program(), "-W", "-f", self.path("conf")]

    def reload(self):
        self.process.send_signal(signal.SIGUSR2)

    def text(self, number, servers):
        web = "\n".join(f"  server s{port} 127.0.0.1:{port} weight {weight}" for port, weight in servers)
        return f"""global
  nbthread {WORKERS}
  maxconn 4096
  stats socket {self.path("admin.sock")} level admin expose-fd listeners
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
  timeout http-keep-alive 75s
  option http-keep-alive
frontend f
  bind 127.0.0.1:{self.port} backlog 4096
  http-request return status 200 content-type text/plain string "{number}" if {{ path /round }}
  use_backend stays if {{ path /tunnel }}
  use_backend other if {{ path /other-tunnel }}
  default_backend web
backend web
{web}
backend stays
  server stays 127.0.0.1:{servers[0][0]}
backend other
  timeout tunnel {3600 + number}s
{web}
"""


def version(peer):
    argument, pattern = {"Plimsoll": ("--version", r"(\S+)\s*$"), "nginx": ("-v", r"nginx/(\S+)"), "HAProxy": ("-v", r"version (\S+)")}[peer.name]
    out = subprocess.run([peer.program(), argument], capture_output=True, text=True, timeout=20)
    match = re.search(pattern, out.stdout + out.stderr)
    return match.group(1) if match else "?"


PEERS = [Plimsoll, Nginx, Haproxy]
