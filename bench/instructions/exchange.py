#!/usr/bin/env python3
"""Whole exchanges for a tool that counts: the real program between a client and a server that take turns, in this very thread.

In come how many requests, the tool and the program; the program has then ended and the tool has written what it counted. One
connection on each side, one request after the other, so that a run is the same run every time; that is why nothing
here is concurrent.

    bench/instructions/exchange.py 10000 valgrind --tool=callgrind --callgrind-out-file=target/callgrind target/release/plimsoll
"""
import os, signal, socket, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE = 60  # seconds; only a run that hangs ever waits so long
LENGTH = 1024

CONFIG = """workers = 1
[limits]
requests_per_connection = 1000000000
[log]
format = "off"
[[listen]]
bind = "127.0.0.1:{listen}"
to = "b"
[backend.b]
servers = ["127.0.0.1:{to}"]
"""


def message(name):
    """A head, kept with plain line ends so that no editor harms it."""
    with open(os.path.join(HERE, name), encoding="ascii", newline="") as f:
        return f.read().replace("\n", "\r\n").encode()


def receive(peer, length=None):
    """Reads one message: its head and, where its length is known, as much behind it."""
    got = b""
    while (end := got.find(b"\r\n\r\n")) < 0 or len(got) < end + 4 + (length or 0):
        more = peer.recv(65536)
        if not more:
            raise ConnectionError(f"closed in the middle of a message: {got!r}")
        got += more
    return got


def connect(port, child):
    """The first connection that the program accepts; it may still be starting."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return client
        except ConnectionRefusedError:
            if child.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.02)


def converse(client, listener, requests):
    """Sends so many requests, one after the other, and serves them."""
    request, answer = message("request.http"), message("response.http") + b"x" * LENGTH
    server = None
    for number in range(requests):
        client.sendall(request)
        if server is None:
            server, _ = listener.accept()
            server.settimeout(PATIENCE)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not receive(server).startswith(b"GET /some/path/"):
            raise ValueError("the server was asked something else")
        server.sendall(answer)
        got = receive(client, LENGTH)
        if not (got.startswith(b"HTTP/1.1 200 OK\r\n") and got.endswith(b"x" * LENGTH)):
            raise ValueError(f"request {number} was answered with {got[:200]!r}")
    if server:
        server.close()


def run(wrapped, requests, environment):
    """Runs `wrapped` (the program, behind valgrind or any other tool) for so many requests, and ends it."""
    with tempfile.TemporaryDirectory(prefix="plimsoll-instructions-") as directory, \
            socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as held:
        listener.settimeout(PATIENCE)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        held.close()
        path = os.path.join(directory, "plimsoll.toml")
        with open(path, "w", encoding="ascii") as f:
            f.write(CONFIG.format(listen=port, to=listener.getsockname()[1]))
        with open(os.path.join(directory, "output"), "w+", encoding="utf-8") as output:
            child = subprocess.Popen([*wrapped, "run", "-c", path], env=environment, stdout=output, stderr=output)
            try:
                with connect(port, child) as client:
                    converse(client, listener, requests)
                child.send_signal(signal.SIGTERM)
                child.wait(PATIENCE)
            except BaseException:
                child.kill()
                child.wait()
                output.seek(0)
                print(output.read()[-2000:])
                raise


if __name__ == "__main__":
    if len(sys.argv) < 3 or not sys.argv[1].isdecimal():
        sys.exit(__doc__)
    run(sys.argv[2:], int(sys.argv[1]), os.environ)
