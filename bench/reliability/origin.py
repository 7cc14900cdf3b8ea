"""The servers behind the proxies: small answers, uploads counted, downloads of a known size, tunnels that echo.

One process, a thread a connection. It never closes a connection that its peer keeps, so whatever a client loses the proxy has lost.
"""
import base64
import hashlib
import socket
import threading

DOWNLOAD = 1 << 20
WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


def serve(listeners, names):
    """Serves on sockets that listen, for ever."""
    for listener, name in zip(listeners, names):
        threading.Thread(target=accept, args=(listener, name.encode()), daemon=True).start()
    threading.Event().wait()


def accept(listener, name):
    while True:
        peer, _ = listener.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=connection, args=(peer, name), daemon=True).start()


def connection(peer, name):
    with peer, peer.makefile("rb", 1 << 16) as stream:
        try:
            while answer(peer, stream, name):
                pass
        except (OSError, ValueError):
            pass  # the proxy went away; whether it was allowed to, its clients say


def answer(peer, stream, name):
    """One request. False at the end of the connection."""
    line = stream.readline()
    if not line:
        return False
    path, length, key = line.split()[1], 0, b""
    for field in iter(stream.readline, b"\r\n"):
        name_of, _, value = field.partition(b":")
        if name_of.lower() == b"content-length":
            length = int(value)
        elif name_of.lower() == b"sec-websocket-key":
            key = value.strip()
    if b"tunnel" in path:
        return tunnel(peer, stream, key)
    body = name
    if path == b"/upload":
        body = str(discard(stream, length)).encode()
    elif path == b"/download":
        body = b"d" * DOWNLOAD
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return True


def discard(stream, length):
    arrived = 0
    while arrived < length:
        piece = stream.read1(min(1 << 18, length - arrived))
        if not piece:
            raise ValueError("cut")
        arrived += len(piece)
    return arrived


def tunnel(peer, stream, key):
    accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET).digest())  # HAProxy insists on it
    peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                 b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    for piece in iter(lambda: stream.read1(1 << 16), b""):
        peer.sendall(piece)
    return False
