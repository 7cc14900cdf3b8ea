"""The fault `changes`: 10,000 changes of the server list, one after another, while clients ask all the time.

Each proxy is told in its own way, and a change counts once it is in force. Servers come that are told a weight, drain, are ready again, and go: five changes each.
Plimsoll is told by its admin API and HAProxy by its Runtime API, which both answer when the change is in force; nginx of Debian knows only its file, so it is
written anew and reloaded, and the change is in force once a new connection is answered by it. Who makes the changes is a process of its own, makes at most
500 a second, and stops after a minute; how far it came is said.
"""
import asyncio
import http.client
import json
import multiprocessing
import socket
import threading
import time
import urllib.parse

from clients import Clients
from origins import Origin, free_port
from proxies import Haproxy, Nginx, Plimsoll, peers
from seen import PATIENCE, RATE, SERVERS, start, summed_up

CHANGES, LONGEST = 10_000, 60.0  # how many, and seconds that they may take
EVERY = 1 / 500  # seconds from one to the next at least: what comes has to be there for long enough to be asked something
BEFORE, AFTER = 2.0, 2.0  # seconds of clients around the changes
ACTS = ["add", "weight", "drain", "ready", "remove"]
MADE, MEAN, SLOWEST = "changes", "each took", "the slowest"


class Ordered(Plimsoll):
    """By the admin API, on one connection for each change, as anybody's script does it."""

    def text(self, number, servers):
        self.admin = free_port()
        self.more = f'[admin]\nbind = "127.0.0.1:{self.admin}"\naudit = "{self.path("audit")}"'
        return super().text(number, servers)

    def change(self, act, name, port):
        servers = "/v1/backends/web/servers"
        own = f"{servers}/{urllib.parse.quote(name)}"
        method, path, body = {
            "add": ("POST", servers, {"address": f"127.0.0.1:{port}", "name": name}),
            "weight": ("PATCH", own, {"weight": 3}),
            "drain": ("PATCH", own, {"state": "drain"}),
            "ready": ("PATCH", own, {"state": "ready"}),
            "remove": ("DELETE", own, None),
        }[act]
        wire = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=10)
        wire.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"} if body else {})
        answer = wire.getresponse()
        said = answer.read()
        wire.close()
        if answer.status not in (200, 201, 204):
            raise RuntimeError(f"{act} {name}: {answer.status} {said.decode()}")

    def finish(self):
        """Nothing is left to do."""


class Reloaded(Nginx):
    """The file is written anew and reloaded. What drains is `down` there."""

    def configure(self, number, servers):
        self.known = servers
        super().configure(number, servers)

    own = ""

    def upstream(self, servers):
        return super().upstream(servers).replace(" keepalive 64;", f"{self.own} keepalive 64;")

    def text(self, number, servers):
        self.number, self.more = number, f'location = /round {{ return 200 "{number}"; }}'
        return super().text(number, servers)

    def change(self, act, name, port):
        told = {"add": "", "weight": " weight=3", "drain": " weight=3 down", "ready": " weight=3", "remove": None}[act]
        self.own = "" if told is None else f" server 127.0.0.1:{port} max_fails=5 fail_timeout=10s{told};"
        self.configure(self.number + 1, self.known)
        self.reload()
        if not peers.wait_until(self.is_in_force, 10):
            raise RuntimeError(f"{act} is not in force")

    def is_in_force(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as wire:
                wire.sendall(b"GET /round HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                answer = b""
                while piece := wire.recv(4096):
                    answer += piece
        except OSError:
            return False
        return answer.rpartition(b"\r\n")[2] == str(self.number).encode()

    def finish(self):
        """Nothing is left to do."""


class Commanded(Haproxy):
    """By the Runtime API. A server can be deleted only once no connection to it idles, so those that are to go wait in maintenance until then."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.more, self.leaving = f"stats socket {self.path('admin.sock')} level admin", []

    def command_line(self, line):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
            wire.settimeout(10)
            wire.connect(self.path("admin.sock"))
            wire.sendall(line.encode() + b"\n")
            answer = b""
            while piece := wire.recv(4096):
                answer += piece
        return answer.decode().strip()

    def change(self, act, name, port):
        own = f"web/{name}"
        lines = {
            "add": [f"add server {own} 127.0.0.1:{port} pool-purge-delay 500ms", f"enable server {own}"],
            "weight": [f"set server {own} weight 3"],
            "drain": [f"set server {own} state drain"],
            "ready": [f"set server {own} state ready"],
            "remove": [f"set server {own} state maint"],
        }[act]
        for line in lines:
            said = self.command_line(line)
            if said and "New server registered" not in said:
                raise RuntimeError(f"{line}: {said}")
        if act == "remove":
            self.leaving.append(own)
            self.delete()

    def delete(self):
        """Deletes those that can be by now, the oldest first."""
        while self.leaving and "Server deleted" in self.command_line(f"del server {self.leaving[0]}"):
            self.leaving.pop(0)

    def finish(self):
        if not peers.wait_until(lambda: self.delete() or not self.leaving, 60):
            raise RuntimeError(f"{len(self.leaving)} servers cannot be deleted: {self.command_line(f'del server {self.leaving[0]}')}")


PROXIES = [Ordered, Reloaded, Commanded]


def operate(peer, ports, begin, out):
    """Makes the changes from `begin` on, and tells how many, and how long they took on average and at most; or what went wrong."""
    time.sleep(max(0, begin - time.monotonic()))
    try:
        began, took = time.monotonic(), []
        while len(took) < CHANGES and time.monotonic() - began < LONGEST:
            round_, act = divmod(len(took), len(ACTS))
            at = time.monotonic()
            peer.change(ACTS[act], f"own{round_}", ports[round_ % len(ports)])
            took.append(time.monotonic() - at)
            time.sleep(max(0, at + EVERY - time.monotonic()))
        peer.finish()
        out.put((len(took), sum(took) / len(took), max(took)))
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        out.put(repr(error))


def measure(peer):
    origins = [Origin(Plimsoll.program()) for _ in range(SERVERS + 2)]
    out, results = multiprocessing.Queue(), []
    try:
        for origin in origins:
            origin.start()
        ports = [origin.port for origin in origins]
        start(peer, ports[:SERVERS])
        clients, began = Clients(peer.port, RATE, PATIENCE), time.monotonic() + 0.5
        operator = multiprocessing.Process(target=operate, args=(peer, ports[SERVERS:], began + BEFORE, out), daemon=True)
        operator.start()

        def direct():
            try:
                results.append(out.get(timeout=LONGEST + 90))
                time.sleep(AFTER)
            finally:
                clients.stop()
        director = threading.Thread(target=direct)
        director.start()
        asked = asyncio.run(clients.run(began, LONGEST + 100))
        director.join()
        operator.join()
    finally:
        peer.stop()
        for origin in origins:
            origin.stop()
    if not results or isinstance(results[0], str):
        raise RuntimeError(f"{peer.name} does not take a change: {results}")
    made, mean, slowest = results[0]
    seen = summed_up(asked, 0, began, None)
    seen.more = {MADE: f"{made:,}", MEAN: f"{mean * 1000:.2f} ms", SLOWEST: f"{slowest * 1000:.0f} ms"}
    return seen


def keeps_to_bounds(seen):
    return seen.failed == 0 and seen.timed_out <= 0.02 * seen.requests and seen.more[MADE] == f"{CHANGES:,}"
