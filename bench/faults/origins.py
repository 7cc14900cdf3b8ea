"""The servers: `plimsoll origin` with a control address each, and servers of a capacity for what depends on one.

Both keep their ports: a server that restarts comes back at its own address.
"""
import asyncio
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import time


taken = set()


def free_port():
    """One that can be bound now and was not given before, and that the kernel gives to no connection while its server is away: those have
    ports above."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        lowest = int(f.read().split()[0])
    while True:
        port = random.randrange(10_000, max(lowest, 11_000))
        if port in taken:
            continue
        taken.add(port)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            pass  # somebody has it


class Origin:
    """A `plimsoll origin` that takes 10 ms for each answer, however many there are at once."""

    def __init__(self, program, address="127.0.0.1", port=None):
        self.program, self.address, self.port, self.control, self.process = program, address, port or free_port(), free_port(), None

    def start(self):
        self.process = subprocess.Popen(
            [self.program, "origin", "--listen", f"{self.address}:{self.port}", "--control", f"127.0.0.1:{self.control}", "--delay", "10ms"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if "listening" not in self.process.stdout.readline():
            raise RuntimeError("an origin does not start")

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        if self.process and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        if self.process:
            self.wait()

    def page(self, change=None):
        """What `/_origin` of its control address says, after a change if one is given."""
        body = json.dumps(change).encode() if change else b""
        head = f"{'PUT' if change else 'GET'} /_origin HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.control), timeout=5) as wire:
            wire.sendall(head.encode() + body)
            answer = b""
            while piece := wire.recv(1 << 16):
                answer += piece
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode())
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    def requests(self):
        return self.page()["requests"]


class Bounded:
    """Servers that work on `slots` requests at once, first in, first out; and also on one whose client has left, as most servers do.

    `/healthz` is answered at once with 200. With `flaps` the first one answers it with 200 until that time in seconds has passed since `began`, then with 503
    for as long, and so on."""

    def __init__(self, count, slots, service, flaps=None):
        self.sockets = [socket.create_server(("127.0.0.1", 0), backlog=4096) for _ in range(count)]
        self.ports = [one.getsockname()[1] for one in self.sockets]
        self.slots, self.service, self.flaps = slots, service, flaps
        self.asked = multiprocessing.Array("Q", count)
        self.worked = multiprocessing.Array("d", 2, lock=False)  # how many were worked on, and how many seconds of a slot that took

    def capacity(self):
        """What they can do in a second when no slot is ever free, as long as each request takes what it has taken until now: a timer fires late, and more
        so on a busy machine."""
        count, seconds = self.worked
        return len(self.ports) * self.slots * count / seconds

    def serve(self, began, trigger):
        """For ever. `trigger` is (from, until, factor): in that time everything that is begun takes `factor` times as long."""
        asyncio.run(self.serve_all(began, trigger))

    async def serve_all(self, began, trigger):
        since, until, factor = trigger

        def takes():
            now = time.monotonic() - began
            return self.service * (factor if since <= now < until else 1)

        def is_unwell(number):
            now = time.monotonic() - began
            return bool(self.flaps) and number == 0 and now > 0 and now // self.flaps % 2 == 1

        for number, one in enumerate(self.sockets):
            room = asyncio.Semaphore(self.slots)

            def converse(reader, writer, number=number, room=room):
                return self.converse(reader, writer, (number, room, takes, is_unwell))
            await asyncio.start_server(converse, sock=one)
        await asyncio.Event().wait()

    async def converse(self, reader, writer, server):
        number, room, takes, is_unwell = server
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET /healthz "):
                    status = b"503 Service Unavailable" if is_unwell(number) else b"200 OK"
                    writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nok")
                    continue
                self.asked[number] += 1
                async with room:
                    began = time.monotonic()
                    await asyncio.sleep(takes())
                    self.worked[0] += 1
                    self.worked[1] += time.monotonic() - began
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has left
        finally:
            writer.close()
