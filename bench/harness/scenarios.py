"""The scenarios as data: which load on which site, who takes part, and what Plimsoll should reach."""
from dataclasses import dataclass, field
from typing import Callable, Optional

from .peers import Route, Site

ALL = ("plimsoll", "nginx", "haproxy", "relay", "envoy", "go", "caddy")


@dataclass
class Load:
    """What wrk does."""
    connections: int = 64
    targets: list = field(default_factory=lambda: [("/1k", "")])  # and the Host, if it matters
    upload: int = 0
    close: bool = False


@dataclass
class Target:
    """`figure` of Plimsoll, divided by that of `to` if there is one, is at most `limit`."""
    figure: str
    limit: float
    to: Optional[str] = "peer"  # the better of nginx and HAProxy; "relay"; "first" (of its own variants); or None


@dataclass
class Scenario:
    name: str
    title: str
    load: Load = field(default_factory=Load)
    kind: str = "wrk"  # wrk | pace | pace-same | idle | burst
    peers: tuple = ALL
    servers: int = 1
    site: Callable = lambda servers: Site([servers])
    log: bool = False
    targets: list = field(default_factory=list)
    variants: list = field(default_factory=list)  # of ("PEER COUNT", servers, site, load), in place of one of each peer


def sixteen_routes(servers):
    return Site([servers[i::16] for i in range(16)], [Route(i, prefix=f"/r{i}/") for i in range(16)])


def many_routes(count):
    """Each with a path of its own; a hundred hosts among them, as far as they go. One group of servers, so that only routing grows."""
    hosts = [f"h{i % 100}.example.com" for i in range(count)]
    routes = [Route(0, prefix=f"/r{i:05}/", host=host) for i, host in enumerate(hosts)]
    step = max(1, count // 64)
    asked = [(f"{r.prefix}1k", r.host) for r in routes[::step]]
    # As many different requests whatever the number of routes, so that the load does the same work.
    asked = [asked[i % len(asked)] for i in range(64)]
    return lambda servers: Site([servers], routes), Load(targets=asked)


def growing_routes():
    return [(f"plimsoll {count}", 1, *many_routes(count)) for count in (1, 100, 10_000)]


def growing_servers():
    """The peers' first and last beside ours: 64 connections over a thousand sockets cost the kernel more, whoever holds them."""
    wanted = [("plimsoll", count) for count in (1, 10, 100, 1000)] + [(peer, count) for peer in ("nginx", "haproxy") for count in (1, 1000)]
    return [(f"{peer} {count}", count, lambda servers: Site([servers]), Load()) for peer, count in wanted]


CPU, P99 = "cpu_us", "p99_us"

SCENARIOS = {s.name: s for s in [
    Scenario("keepalive-64", "64 keep-alive connections, 1 KB responses", targets=[Target(CPU, 0.80), Target(CPU, 1.15, "relay")]),
    Scenario("keepalive-512", "512 keep-alive connections, 1 KB responses", Load(512), targets=[Target(CPU, 0.70)]),
    Scenario("keepalive-2000", "2,000 keep-alive connections, 1 KB responses", Load(2000), targets=[Target(CPU, 0.60)]),
    Scenario("response-64k", "64 KB responses, 64 connections", Load(targets=[("/64k", "")]), targets=[Target(CPU, 0.90)]),
    Scenario("response-1m", "1 MB responses, 16 connections", Load(16, [("/1m", "")]), targets=[Target(CPU, 1.00)]),
    Scenario("upload-64k", "64 KB request bodies, 64 connections", Load(upload=64 << 10), targets=[Target(CPU, 1.00)]),
    Scenario("connect", "a new client connection for each request, 64 at a time", Load(close=True), targets=[Target(CPU, 0.90)]),
    Scenario("backends", "100 servers in 16 groups behind 16 routes, 64 connections", servers=100, site=sixteen_routes,
             load=Load(targets=[(f"/r{i}/1k", "") for i in range(16)])),
    Scenario("log", "64 connections, access log to a file", log=True, peers=("plimsoll", "nginx", "haproxy", "envoy", "go", "caddy"),
             targets=[Target(CPU, 0.85)]),
    Scenario("pace", "Poisson arrivals at 70 % of what each itself can do, 64 connections", kind="pace", targets=[Target(P99, 1.00)]),
    Scenario("pace-same", "Poisson arrivals at 70 % of what the better of nginx and HAProxy can do, 64 connections", kind="pace-same",
             targets=[Target(P99, 1.00)]),
    Scenario("idle-5000", "5,000 idle keep-alive connections, each after one request, one at a time", kind="idle",
             targets=[Target("anonymous_bytes", 2048, None)]),
    Scenario("idle-burst", "5,000 idle keep-alive connections, each after one request, all at once", kind="burst"),
    Scenario("growth-servers", "1 to 1,000 servers, 64 connections", variants=growing_servers(), targets=[Target(CPU, 1.05, "first")]),
    Scenario("growth-routes", "1 to 10,000 routes by host and path, 64 connections", variants=growing_routes(),
             targets=[Target(CPU, 1.05, "first")]),
]}

GROUPS = {"growth": ["growth-servers", "growth-routes"]}
