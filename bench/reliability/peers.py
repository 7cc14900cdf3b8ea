"""The proxies: how each is given the same configuration, is told to take a new one, and is stopped.

A configuration is a round's number and its servers with their weights. Server 0 stays in every round and serves the unchanged route. The
number is answered at `/round`, so that a change counts only once it is in force.

Each proxy runs from a copy of its program in the peer's own directory. An upgrade replaces that copy, as a package manager does, and then goes
the way that the proxy's documentation tells. By the copy all processes of a peer are found, whoever their parent is by then.
"""
import functools
import os
import re
import shutil
import signal
import subprocess
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
WORKERS = 2


class Peer:
    """Needs from each kind `name`, the ways that `how` tells, `program`, `arguments`, `text`, `reload` and `hand_over`."""
    name, how = "", {}

    def __init__(self, directory, port):
        self.directory, self.port, self.process = directory, port, None
        os.mkdir(self.path("bin"))
        self.install()

    def path(self, name):
        return os.path.join(self.directory, name)

    def install(self):
        """Puts the program in place, in one step; what runs keeps the file that it was started from."""
        shutil.copy(self.program(), self.path("bin/new"))
        os.replace(self.path("bin/new"), self.path("bin/proxy"))

    def command(self):
        return [self.path("bin/proxy"), *self.arguments()]

    def configure(self, number, servers):
        """Writes the configuration, in one step."""
        with open(self.path("new"), "w") as f:
            f.write(self.text(number, servers))
        os.replace(self.path("new"), self.path("conf"))

    def start(self):
        with open(self.path("said"), "w") as said:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=said, stderr=said)

    def upgrade(self, is_in_force):
        """Replaces the binary and hands over. `is_in_force` waits until the new one answers. True if it is in force, by the new binary."""
        self.install()
        return self.hand_over(is_in_force) and self.runs_what_is_installed()

    def processes(self):
        """Those that run the copy, also one that was replaced since: (id, whether it is the copy in place)."""
        place, found = self.path("bin/"), []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/exe").startswith(place):
                    found.append((int(pid), os.path.samefile(f"/proc/{pid}/exe", self.path("bin/proxy"))))
            except OSError:
                pass  # it has ended, or is the kernel's
        return found

    def runs_what_is_installed(self):
        return any(is_new for _, is_new in self.processes())

    def stop(self):
        """Kills all its processes; one that is just being started is found by the next look."""
        while found := self.processes():
            for pid, _ in found:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if self.process:
                self.process.poll()
            time.sleep(0.01)
        if self.process:
            self.process.wait()


def wait_until(is_so, patience=5):
    """Whether it becomes so in time."""
    until = time.monotonic() + patience
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def found(name, variable):
    return os.environ.get(variable) or shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")


class Plimsoll(Peer):
    name, how = "Plimsoll", {"reload": "HUP", "upgrade": "USR2"}

    @staticmethod
    @functools.cache
    def program():
        named = os.environ.get("PLIMSOLL")
        if not named:
            subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "plimsoll"], cwd=ROOT, check=True)
        return named or os.path.join(ROOT, "target", "release", "plimsoll")

    def arguments(self):
        return ["run", "-c", self.path("conf")]

    def serving(self):
        """The process that serves, as the last one that handed over has said."""
        with open(self.path("said")) as said:
            successors = re.findall(r"upgraded: process (\d+) serves now", said.read())
        return int(successors[-1]) if successors else self.process.pid

    def reload(self):
        os.kill(self.serving(), signal.SIGHUP)

    def hand_over(self, is_in_force):
        old = self.serving()
        os.kill(old, signal.SIGUSR2)
        return is_in_force() and wait_until(lambda: self.serving() != old)

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
    """The way of https://nginx.org/en/docs/control.html: USR2 to the old master, then WINCH for its workers, then QUIT for itself.

    nginx ignores USR2 as long as the master that started it lives, and that one lives as long as its workers have a tunnel.
    """
    name, how = "nginx", {"reload": "nginx -s reload", "upgrade": "USR2, WINCH, QUIT"}

    @staticmethod
    def program():
        return found("nginx", "NGINX")

    def arguments(self):
        # Not `daemon off`: it would take whoever starts it for an old master, and ignore USR2 for ever.
        return ["-p", self.directory, "-c", self.path("conf")]

    def master(self, suffix=""):
        """The process of the pid file, or None if there is none."""
        try:
            with open(self.path("pid") + suffix) as f:
                return int(f.read())
        except (FileNotFoundError, ValueError):  # not there, or not written yet
            return None

    def reload(self):
        subprocess.run([*self.command(), "-s", "reload"], check=True, capture_output=True, timeout=20)

    def hand_over(self, is_in_force):
        old = self.master()
        os.kill(old, signal.SIGUSR2)
        # The old workers accept too, until they are told. The file is the new master's once it is not the old one's.
        if not (is_in_force() and wait_until(lambda: self.master() not in (None, old))):
            return False
        os.kill(old, signal.SIGWINCH)
        os.kill(old, signal.SIGQUIT)
        return True

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


class NginxInHaste(Nginx):
    """Ends an old master that still has something, so that the next upgrade is possible."""
    name, how = "nginx in haste", {"upgrade": "TERM to the one before, then USR2, WINCH, QUIT"}

    def hand_over(self, is_in_force):
        before = self.master(".oldbin")
        if before:
            try:
                os.kill(before, signal.SIGTERM)
            except ProcessLookupError:
                pass  # it has ended by itself
            wait_until(lambda: not os.path.exists(f"/proc/{before}"))
        return super().hand_over(is_in_force)


class Haproxy(Peer):
    """The master executes its own file again on USR2, so a reload and an upgrade are one and the same: management.txt, section 3."""
    name, how = "HAProxy", {"reload": "USR2 to the master, expose-fd", "upgrade": "USR2 to the master, expose-fd"}

    @staticmethod
    def program():
        return found("haproxy", "HAPROXY")

    def arguments(self):
        return ["-W", "-f", self.path("conf")]

    def reload(self):
        self.process.send_signal(signal.SIGUSR2)

    def hand_over(self, is_in_force):
        self.reload()
        return is_in_force()

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
    argument, pattern = {"Plimsoll": ("--version", r"(\S+)\s*$"), "nginx": ("-v", r"nginx/(\S+)"), "HAProxy": ("-v", r"version (\S+)")}[peer.name.split()[0]]
    out = subprocess.run([peer.program(), argument], capture_output=True, text=True, timeout=20)
    match = re.search(pattern, out.stdout + out.stderr)
    return match.group(1) if match else "?"


PEERS = [Plimsoll, Nginx, NginxInHaste, Haproxy]
