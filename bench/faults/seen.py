"""What clients saw of a run, and a proxy that is started for one."""
import asyncio
import collections
import sys
import time
from dataclasses import dataclass, field

from clients import Clients
from proxies import peers

SERVERS, RATE, PATIENCE = 10, 400, 1.0
BIN = 0.25  # seconds; what recovery is looked at in


@dataclass
class Seen:
    """What clients saw of a whole run, and the part that the faulty server got while it was faulty."""
    requests: int
    failed: int
    timed_out: int
    p50: float
    p99: float
    share: float | None = None  # the part of the requests at servers that the faulty one got
    recovered: float | None = None  # seconds from the end of the fault until all is well, for good; None: never
    why: str = ""
    goodput: float | None = None  # what was answered well, as a part of what the servers can do
    high: float | None = None  # the part of the high class that was answered well
    high_p99: float | None = None
    more: dict = field(default_factory=dict)  # what only this fault has, by the heads of its columns


def quantile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else float("nan")


def recovery(asked, end, seconds):
    """From the end of the fault until the last of the bins in which not 95 % of the requests were answered well."""
    bins = collections.defaultdict(lambda: [0, 0])
    for one in asked:
        bins[int((one.at - end) // BIN)][0] += one.became == "good"
        bins[int((one.at - end) // BIN)][1] += 1
    bad = [number for number, (good, all_) in bins.items() if number >= 0 and good < 0.95 * all_]
    recovered = (max(bad) + 1) * BIN if bad else 0.0
    return recovered if recovered < seconds - end - BIN / 2 else None


def summed_up(asked, end, seconds, share):
    waited = [one.took * 1000 for one in asked if one.became != "failed"]
    became = collections.Counter(one.became for one in asked)
    why = collections.Counter(one.why for one in asked if one.became != "good")
    return Seen(len(asked), became["failed"], became["timed out"], quantile(waited, 0.5), quantile(waited, 0.99), share,
                recovery(asked, end, seconds), str(dict(why.most_common(4))))


def start(peer, servers):
    """Starts it before these servers, and waits until it answers."""
    peer.configure(0, servers)
    peer.start()

    def answers():
        asked = asyncio.run(Clients(peer.port, 100, PATIENCE).run(time.monotonic(), 0.02))
        return all(one.became == "good" for one in asked)
    if not peers.wait_until(answers, 10):
        sys.exit(f"{peer.name} does not start:\n{open(peer.path('said')).read()}")
