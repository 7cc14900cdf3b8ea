"""One scenario: start the backend and the proxies, let them take turns under load, and gather the rounds.

The proxies stand side by side on one core and take turns, round after round, so that drift of the machine hits all alike. A
scenario starts them anew, so that peaks of memory are its own.
"""
import math
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

from . import load
from .machine import LOAD_CORE, PROXY_CORE, TOOLS, Broken, Children, cpu_ns, free_port, others_load, peak_kb, wait_for
from .peers import PEERS, Job

IDLE_CONNECTIONS = 5000


class Proxy:
    """A proxy that runs, under the name by which the results know it."""

    def __init__(self, label, child, job, script, kind):
        self.label, self.child, self.job, self.script, self.kind = label, child, job, script, kind
        self.rounds, self.rate, self.failed = [], None, False


def addresses(count, port):
    return [f"127.1.{n // 250}.{1 + n % 250}:{port}" for n in range(count)]


def start_backend(children, servers, directory):
    with open(os.path.join(directory, "backend.out"), "wb") as out:
        child = children.start(LOAD_CORE, [os.path.join(TOOLS, "backend"), *servers], out, out)
    host, port = servers[0].rsplit(":", 1)
    # It listens on the last address once it listens on the first: it answers only when it has all.
    wait_for_address(host, int(port), child)


def wait_for_address(host, port, child):
    end = time.monotonic() + 20
    while time.monotonic() < end and child.poll() is None:
        with socket.socket() as s:
            if s.connect_ex((host, port)) == 0:
                return
        time.sleep(0.02)
    raise Broken("the backend does not start: is bench/tools built?")


def start_proxy(children, directory, label, program, site, kind, log):
    name = label.split()[0]
    peer = PEERS[name]
    own = os.path.join(directory, label.replace(" ", "-"))
    os.makedirs(own)
    os.chmod(own, 0o777)  # nginx gives up root
    job = Job(free_port(), own, site, log)
    said = os.path.join(own, "said")
    with open(said, "wb") as err:
        if log and name == "haproxy":  # it writes to its standard output or to a socket, never to a file
            with open(job.access_log, "ab") as out:
                child = children.start(PROXY_CORE, peer.command(program, job), out, err)
        else:
            child = children.start(PROXY_CORE, peer.command(program, job), err, err)
    wait_for(job.port, child, label, said)
    return Proxy(label, child, job, load.wrk_script(os.path.join(own, "load.lua"), kind), kind)


def start_all(children, directory, scenario, programs):
    port = free_port()
    variants = scenario.variants or [(name, scenario.servers, scenario.site, scenario.load) for name in scenario.peers]
    servers = addresses(max(count for _, count, _, _ in variants), port)
    start_backend(children, servers, directory)
    proxies = []
    for label, count, site, kind in variants:
        name = label.split()[0]
        if name in programs:
            proxies.append(start_proxy(children, directory, label, programs[name], site(servers[:count]), kind, scenario.log))
    return proxies


def one_round(scenario, proxy, seconds):
    before = cpu_ns(proxy.child.pid)
    if scenario.kind == "wrk":
        result = load.wrk(proxy.job.port, proxy.script, proxy.kind, seconds)
    elif scenario.kind in ("pace", "pace-same"):
        result = load.pace(proxy.job.port, proxy.job.directory, 64, proxy.rate, seconds)
    else:
        result = load.idle(proxy.job.port, proxy.child.pid, IDLE_CONNECTIONS, scenario.kind == "burst")
    if not result["requests"]:
        raise Broken("no request was answered")
    if proxy.child.poll() is not None:
        raise Broken(f"{proxy.label} ended by itself with {proxy.child.returncode}")
    result["cpu_us"] = round((cpu_ns(proxy.child.pid) - before) / 1000 / result["requests"], 3)
    if scenario.log:
        result["logged"] = round(lines_of(proxy.job.access_log) / result["requests"], 4)
    return result


def lines_of(path):
    """Lines in a log, which is emptied. The peers flush within a second."""
    time.sleep(1.2)
    with open(path, "rb+") as f:
        lines = sum(piece.count(b"\n") for piece in iter(lambda: f.read(1 << 20), b""))
        f.truncate(0)
    return lines


def calibrate(scenario, proxies):
    """The rates of an open loop: 70 % of what a closed one reaches."""
    reached = {p.label: max(load.wrk(p.job.port, p.script, p.kind, 1)["rps"] for _ in range(3)) for p in proxies}
    better = max((reached[name] for name in ("nginx", "haproxy") if name in reached), default=None)
    for p in proxies:
        same = scenario.kind == "pace-same" and better
        p.rate = math.floor(0.7 * min(better, reached[p.label]) if same else 0.7 * reached[p.label])


def run(scenario, programs, rounds, seconds, say):
    """The results of each proxy by its label."""
    directory = tempfile.mkdtemp(prefix="plimsoll-bench-")
    os.chmod(directory, 0o755)
    loads = []
    try:
        with Children() as children:
            proxies = start_all(children, directory, scenario, programs)
            if scenario.kind.startswith("pace"):
                calibrate(scenario, proxies)
            elif scenario.kind == "wrk":
                for proxy in proxies:  # warms pools, caches and allocators
                    one_round(scenario, proxy, 1)
            # What sits idle is measured once: memory that was given back to an allocator spoils a second time.
            for number in range(1 if scenario.kind in ("idle", "burst") else rounds):
                loads.append(others_load())
                for proxy in [p for p in proxies if not p.failed]:
                    try:
                        result = one_round(scenario, proxy, seconds)
                    except (Broken, OSError, subprocess.SubprocessError) as error:
                        proxy.failed = True
                        say(f"{scenario.name} {number + 1} {proxy.label:13} FAILED: {error}")
                        continue
                    proxy.rounds.append(result)
                    say(f"{scenario.name} {number + 1} {proxy.label:13} {show(result)}")
            return {p.label: summary(p) for p in proxies if not p.failed}, max(loads)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def summary(proxy):
    figures = {key: statistics.median(r[key] for r in proxy.rounds) for key in proxy.rounds[0]}
    figures["errors"] = sum(r["errors"] for r in proxy.rounds)
    figures["peak_kb"] = peak_kb(proxy.child.pid)
    if proxy.rate:
        figures["rate"] = proxy.rate
    return {**figures, "rounds": proxy.rounds}


def show(result):
    shown = [f"{result['cpu_us']:8.2f} us CPU/request", f"{result['rps']:7.0f} requests/s"]
    for key in ("p50_us", "p99_us", "p999_us"):
        if key in result:
            shown.append(f"{key[:-3]} {result[key] / 1000:.2f} ms")
    for key in ("anonymous_bytes", "resident_bytes", "logged"):
        if key in result:
            shown.append(f"{key} {result[key]}")
    if result["errors"]:
        shown.append(f"ERRORS {result['errors']}")
    return "  ".join(shown)
