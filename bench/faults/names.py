"""The fault `dns`: a name server that lies, says nothing, fails, dies and comes back, while clients ask all the time.

Each proxy finds its servers by name, and has what a careful operator of it would write. Plimsoll and HAProxy ask every server `/healthz` each second, so
that a wrong address gets nothing once that has failed. HAProxy keeps what it knows for an hour when the name server fails (its default is half a minute). nginx of
Debian has no `server … resolve` (1.27.3 brought it), so the name stands in a variable, which is resolved anew when its TTL is over; it has no checks, and no
connections to servers are kept.
"""
import asyncio
import threading
import time

from clients import Clients
from nameserver import ZONE, NameServer
from origins import Origin, free_port
from proxies import Haproxy, Nginx, Plimsoll
from seen import PATIENCE, RATE, start, summed_up

GOOD = [f"127.0.0.{last}" for last in (31, 32, 33, 34)]
OTHER, STRANGER, NOBODY = "127.0.0.35", "127.0.0.38", "127.0.0.39"
STRANGERS = [f"127.0.0.{last}" for last in (41, 42, 43, 44, 45, 46)]
BEFORE, LIE, TRUTH, BACK = 2.0, 4.0, 3.0, 8.0  # seconds

# What it says, for how long, and under which head what is lost meanwhile is counted. A lie is followed by the truth, which is counted with it.
EPISODES = [
    (None, BEFORE, lambda server: server.says(GOOD)),
    ("one of four is nobody", LIE, lambda server: server.says([*GOOD[:3], NOBODY])),
    ("one of four is nobody", TRUTH, lambda server: server.says(GOOD)),
    ("one of four is somebody else's", LIE, lambda server: server.says([*GOOD[:3], STRANGER])),
    ("one of four is somebody else's", TRUTH, lambda server: server.says(GOOD)),
    ("six of ten are somebody else's", LIE, lambda server: server.says([*GOOD, *STRANGERS])),
    ("six of ten are somebody else's", TRUTH, lambda server: server.says(GOOD)),
    ("nobody alone", LIE, lambda server: server.says([NOBODY])),
    ("nobody alone", TRUTH, lambda server: server.says(GOOD)),
    ("empty", LIE, lambda server: server.says([])),
    ("SERVFAIL", LIE, lambda server: server.fails()),
    ("dead", LIE, lambda server: server.dies()),
    ("back, with another list", BACK, lambda server: server.says([*GOOD[1:], OTHER])),
]
SECONDS = sum(lasts for _, lasts, _ in EPISODES)
HEADS = list(dict.fromkeys(head for head, _, _ in EPISODES if head))
FOLLOWS = "the new server gets"


class Discovering(Plimsoll):
    def backend(self, servers):
        resolver, port = servers
        return f"""discover = {{ dns = "{ZONE}:{port}", resolver = "127.0.0.1:{resolver}" }}
health = {{ path = "/healthz", method = "HEAD", every = "1s", timeout = "500ms" }}"""


class Resolving(Nginx):
    to = "http://$web"

    def upstream(self, servers):
        return ""

    def text(self, number, servers):
        resolver, port = servers
        self.more = f"resolver 127.0.0.1:{resolver} ipv6=off; resolver_timeout 500ms; set $web {ZONE}:{port};"
        return super().text(number, servers)


class Templated(Haproxy):
    checked = True

    def servers(self, servers):
        return (f"  server-template s 20 {ZONE}:{servers[1]} check inter 1s fall 3 rise 2 observe layer7 error-limit 5 on-error mark-down"
                " resolvers here resolve-prefer ipv4 init-addr none")

    check = "HEAD /healthz"

    def text(self, number, servers):
        self.sections = f"""resolvers here
  nameserver one 127.0.0.1:{servers[0]}
  timeout resolve 1s
  timeout retry 500ms
  hold obsolete 30s
  hold valid 1s
  hold other 1h
  hold refused 1h
  hold nx 1h
  hold timeout 1h
"""
        return super().text(number, servers)


PROXIES = [Discovering, Resolving, Templated]


def measure(peer):
    port, began_at = free_port(), []
    server = NameServer(peer.path("knot"), free_port())
    addresses = [*GOOD, OTHER, STRANGER, *STRANGERS]
    origins = {address: Origin(Plimsoll.program(), address, port) for address in addresses}

    def direct(began):
        at = began
        for _, lasts, act in EPISODES:
            time.sleep(max(0, at - time.monotonic()))
            began_at.append(time.monotonic() - began)
            act(server)
            at += lasts

    try:
        for origin in origins.values():
            origin.start()
        for address in [STRANGER, *STRANGERS]:
            origins[address].page({"status": 404})
        server.says(GOOD)
        start(peer, (server.port, port))
        began = time.monotonic() + 0.2
        director = threading.Thread(target=direct, args=(began,))
        director.start()
        asked = asyncio.run(Clients(peer.port, RATE, PATIENCE).run(began, SECONDS))
        director.join()
        taken = origins[OTHER].page()["methods"].get("GET", 0)
    finally:
        peer.stop()
        server.dies()
        for origin in origins.values():
            origin.stop()
    if len(began_at) != len(EPISODES):
        raise RuntimeError("the name server did not do what it was told")
    seen = summed_up(asked, SECONDS, SECONDS, None)
    lost = dict.fromkeys(HEADS, 0)
    for one in asked:
        episode = max(number for number, at in enumerate([0, *began_at[1:]]) if at <= one.at)
        head = EPISODES[episode][0]
        if one.became != "good":
            if head is None:
                raise RuntimeError(f"lost before there was a fault: {one}")
            lost[head] += 1
    seen.more = {**lost, FOLLOWS: taken}
    return seen


def keeps_to_bounds(seen):
    """Nothing is lost, but for what a busy machine delays, and what is said in the end is followed."""
    return seen.failed == 0 and seen.timed_out <= 0.02 * seen.requests and seen.more[FOLLOWS] > 0
