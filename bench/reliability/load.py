"""The clients. Each asks until told to stop, tries nothing again, and counts what it lost.

A kept connection that the proxy has closed before a request is written is no loss (any client notices that, and connects anew); it is
counted apart. Once a request is written, everything but its whole answer is a loss.
"""
import select
import socket
import threading
import time
from collections import Counter

from origin import DOWNLOAD

PATIENCE = 20
UPLOAD = 5 << 20
PIECES, PAUSE = 16, 0.02  # a download is taken in so many pieces, with a pause after each
HEARTBEAT = 0.05  # a tunnel says something this often
FOREVER = float("inf")
TURN = 0.002  # between two requests of one client: connections that never idle would hide half of what can go wrong

KINDS = {"keep-alive": 8, "new connection": 4, "upload of 5 MB": 2, "slow download": 4,
         "WebSocket, unchanged route": 12, "WebSocket, changed route": 12, "WebSocket of a second, unchanged route": 4}
UPGRADE = (b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
           b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")


class Lost(Exception):
    pass


class TunnelClosed(Exception):
    """One that was open. Counted apart from requests that fail."""


def generate(port, stop, results):
    """Runs all clients until `stop`, then puts {kind: counts} and examples of losses."""
    counts = {kind: Counter() for kind in KINDS}
    examples = []
    threads = [threading.Thread(target=client, args=(kind, port, stop, counts[kind], examples))
               for kind, number in KINDS.items() for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(({kind: dict(count) for kind, count in counts.items()}, examples[:20]))


def client(kind, port, stop, count, examples):
    while not stop.is_set():
        wire = None
        try:
            wire = Wire(port)
            session(kind, wire, stop, count)
        except TunnelClosed as closed:
            count["closed tunnels"] += 1
            examples.append(f"{kind}: {closed.__cause__!r}")
        except (OSError, Lost) as error:
            reset = isinstance(error, (ConnectionResetError, BrokenPipeError))
            count["resets" if reset else "refused" if wire is None else "failed"] += 1
            examples.append(f"{kind}: {error!r}")
        finally:
            if wire:
                wire.socket.close()


def session(kind, wire, stop, count):
    """One connection, until it ends as announced or it is time to stop."""
    if kind.startswith("WebSocket"):
        until = time.monotonic() + (1 if "second" in kind else FOREVER)
        return tunnel(wire, b"/tunnel" if "unchanged" in kind else b"/other-tunnel", lambda: stop.is_set() or time.monotonic() > until, count)
    ask = {"upload of 5 MB": upload, "slow download": download}.get(kind, small)
    close = kind == "new connection"
    while not stop.is_set():
        if wire.is_closed():
            count["closed idle"] += 1
            return
        closes = ask(wire, b"Connection: close\r\n" if close else b"")
        count["done"] += 1
        if closes or close:
            return
        time.sleep(TURN)


def small(wire, fields):
    wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
    length, closes = wire.head(b"200")
    if not wire.take(length):
        raise Lost("an empty answer")
    return closes


def upload(wire, fields):
    wire.send(b"POST /upload HTTP/1.1\r\nHost: a\r\n" + fields + b"Content-Length: %d\r\n\r\n" % UPLOAD)
    piece = b"u" * (1 << 18)
    for _ in range(UPLOAD // len(piece)):
        wire.send(piece)
    length, closes = wire.head(b"200")
    arrived = wire.take(length)
    if arrived != b"%d" % UPLOAD:
        raise Lost(f"{arrived!r} bytes arrived")
    return closes


def download(wire, fields):
    wire.send(b"GET /download HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
    length, closes = wire.head(b"200")
    if length != DOWNLOAD:
        raise Lost(f"{length} bytes are promised")
    for _ in range(PIECES):
        if wire.take(DOWNLOAD // PIECES).strip(b"d"):
            raise Lost("other bytes than were sent")
        time.sleep(PAUSE)
    return closes


def tunnel(wire, path, is_over, count):
    wire.send(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + UPGRADE + b"\r\n")
    wire.head(b"101")
    count["opened"] += 1
    while not is_over():
        said = b"echo %d" % count["done"]
        try:
            wire.send(said)
            if wire.take(len(said)) != said:
                raise Lost("not what was sent")
        except (OSError, Lost) as error:
            raise TunnelClosed from error
        count["done"] += 1
        time.sleep(HEARTBEAT)


class Wire:
    """A client's side of a connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unread = b""

    def send(self, data):
        self.socket.sendall(data)

    def is_closed(self):
        """The proxy has closed it, as far as anybody here can know."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(0))

    def head(self, status):
        """The length of the body that follows, and whether the connection closes behind it."""
        while b"\r\n\r\n" not in self.unread:
            self.more()
        head, self.unread = self.unread.split(b"\r\n\r\n", 1)
        line, *fields = head.split(b"\r\n")
        if line[9:12] != status:
            raise Lost(line.decode("latin-1"))
        named = {name.strip().lower(): value.strip().lower() for name, _, value in (field.partition(b":") for field in fields)}
        return int(named.get(b"content-length", 0)), named.get(b"connection") == b"close"

    def take(self, length):
        pieces, got = [self.unread], len(self.unread)
        while got < length:
            self.unread = b""
            self.more()
            pieces.append(self.unread)
            got += len(self.unread)
        whole = b"".join(pieces)
        self.unread = whole[length:]
        return whole[:length]

    def more(self):
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise Lost("closed without an answer")
        self.unread += piece
