"""Proxies that lose something on purpose, so that the measurement is known to see it.

Each passes bytes between a client and server 0, one thread a direction, and does its own kind of harm at every reload. A peer as those in
`peers.py`, but inside this process: it has no program, and cannot be upgraded.
"""
import os
import re
import socket
import struct
import threading

RESET = struct.pack("ii", 1, 0)  # linger: on, no time


class Lossy:
    """Passes everything on. Who inherits says by `harm` what is lost, and by `expected` what must be counted."""
    name, expected = "nothing lost", set()

    def __init__(self, directory, port):
        self.directory, self.port = directory, port
        self.number, self.next, self.server, self.answers = 0, 0, None, 0
        self.lock, self.pairs, self.listener = threading.Lock(), {}, None

    def path(self, name):
        return os.path.join(self.directory, name)

    def configure(self, number, servers):
        self.next = number
        self.server = servers[0][0]

    def start(self):
        open(self.path("said"), "w").close()
        self.listen()

    def listen(self):
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def reload(self):
        with self.lock:
            pairs = dict(self.pairs)
        self.harm(pairs)
        self.number = self.next

    def harm(self, pairs):
        """What is done to {client's socket: the first line that it sent}."""

    def stop(self):
        self.unlisten()
        with self.lock:
            for client in self.pairs:
                end(client)

    def unlisten(self):
        end(self.listener)  # wakes who accepts
        self.listener.close()

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.connection, args=(client,), daemon=True).start()

    def connection(self, client):
        with client:
            try:
                self.serve(client)
            except OSError:
                pass  # one of both went away; whether it was allowed to, the clients say
            finally:
                with self.lock:
                    self.pairs.pop(client, None)

    def serve(self, client):
        first = client.recv(1 << 16)
        if first.startswith(b"GET /round "):
            body = b"%d" % self.number
            return client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        with socket.create_connection(("127.0.0.1", self.server)) as server:
            with self.lock:
                self.pairs[client] = first.split(b"\r\n", 1)[0]
            server.sendall(first)
            back = threading.Thread(target=passes, args=(server, client, self.spoil), daemon=True)
            back.start()
            passes(client, server, bytes)
            back.join()

    def spoil(self, data):
        """What becomes of bytes from the server."""
        return data


class Closing(Lossy):
    """Closes busy connections: uploads that have begun."""
    name, expected = "uploads closed", {"failed"}

    def harm(self, pairs):
        for client, line in pairs.items():
            if line.startswith(b"POST "):
                end(client)


class Resetting(Lossy):
    name, expected = "downloads reset", {"resets"}

    def harm(self, pairs):
        for client, line in pairs.items():
            if line.startswith(b"GET /download "):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                client.close()


class Refusing(Lossy):
    """Binds anew instead of keeping its socket."""
    name, expected = "connections refused", {"refused"}

    def harm(self, pairs):
        self.unlisten()
        threading.Event().wait(0.2)
        self.listen()


class Cutting(Lossy):
    name, expected = "tunnels closed", {"closed tunnels"}

    def harm(self, pairs):
        for client, line in pairs.items():
            if re.match(rb"GET /(other-)?tunnel ", line):
                end(client)


class Erring(Lossy):
    """Answers with an error of its own now and then."""
    name, expected, each = "answers replaced", {"failed"}, 500

    def spoil(self, data):
        return data.replace(b"HTTP/1.1 200 OK", b"HTTP/1.1 502 Bad", 1) if self.number and self.due() else data

    def due(self):
        with self.lock:
            self.answers += 1
            return self.answers % self.each == 0


class Garbling(Erring):
    """Changes one byte of a body now and then."""
    name, expected, each = "bodies garbled", {"failed"}, 20

    def spoil(self, data):
        return data[:-1] + b"?" if data.endswith(b"dd") and self.number and self.due() else data


def end(side):
    try:
        side.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended already


def passes(source, sink, spoil):
    try:
        while data := source.recv(1 << 16):
            sink.sendall(spoil(data))
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        end(source)
        end(sink)


KINDS = [Lossy, Closing, Resetting, Refusing, Cutting, Erring, Garbling]
