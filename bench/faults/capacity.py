"""The faults for which servers need a capacity: too few of them, too much that comes, and a check that is wrong.

Each takes a proxy that is not started yet, and gives what clients saw of the whole run.
"""
import asyncio
import multiprocessing
import time
from dataclasses import replace

from clients import Clients
from origins import Bounded
from seen import PATIENCE, RATE, SERVERS, start, summed_up


def halved(peer):
    """Four servers that work on four requests at once for 40 ms each: 400 a second, and 200 during the ten seconds of the fault. 320 a second come; each
    client waits for a second and asks twice more. The proxies send a server four at once, and keep others waiting for half a second, if they can."""
    servers, rate, patience = Bounded(4, 4, 0.04), 320, 1.0
    before, during, after = 2.0, 10.0, 6.0
    peer.at_once = peer.at_once or 4
    if peer.at_once == "no limit":
        peer.at_once = None
    clients = Clients(peer.port, rate, patience, retries=2)
    asked = with_bounded(peer, servers, clients, before + during + after, (before, before + during, 2))
    return summed_up(asked, before + during, before + during + after, None)


def twice(peer):
    """Four servers that work on two requests at once for 40 ms each: 200 a second. 400 a second come for 20 seconds, a fifth of them of the high class;
    clients wait for a second and ask once. The proxies send a server two at once, keep others waiting for half a second, and the high class before the
    usual one, if they can."""
    peer.at_once, peer.classed = 2, True
    seconds, rate, servers = 20.0, 400, Bounded(4, 2, 0.04)
    asked = with_bounded(peer, servers, Clients(peer.port, rate, 1.0, high=5), seconds)
    # What is still under way when the last one has come is not counted, and neither is what the empty servers took at once.
    good = sum(one.became == "good" and 1 <= one.at + one.took < seconds for one in asked)
    high = [one for one in asked if one.is_high]
    return replace(summed_up(asked, seconds, seconds, None), goodput=good / (seconds - 1) / servers.capacity(), recovered=None,
                   high=sum(one.became == "good" for one in high) / len(high), high_p99=summed_up(high, seconds, seconds, None).p99)


def flapping(peer):
    """Ten servers that take 10 ms. One says for every second second that it is unwell, beginning with the second one, and is well all the time."""
    peer.checked = True
    servers, seconds = Bounded(SERVERS, 1000, 0.01, flaps=1.0), 9.0
    asked = with_bounded(peer, servers, Clients(peer.port, RATE, PATIENCE), seconds)
    share = servers.asked[0] / sum(servers.asked)
    return replace(summed_up(asked, seconds, seconds, share), recovered=None)


def with_bounded(peer, servers, clients, seconds, trigger=(0, 0, 1)):
    """What became of what these clients asked."""
    began = time.monotonic() + 2
    process = multiprocessing.Process(target=servers.serve, args=(began, trigger), daemon=True)
    process.start()
    try:
        start(peer, servers.ports)
        return asyncio.run(clients.run(max(began, time.monotonic()), seconds))
    finally:
        peer.stop()
        process.kill()
        process.join()
