"""The clients: requests come at a rate, whatever becomes of those before (an open loop), and each is given up after its patience.

A kept connection that the proxy has closed before a request is written is no loss. Once a request is written, anything but a whole answer of
200 is a failure, and a 504, or a time of patience without an
answer, is a timeout. Impatient clients ask again at once after either.
"""
import asyncio
import time
from dataclasses import dataclass

USUAL, HIGH = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /high HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass
class Asked:
    """A request: when it was due, how long it took, what became of it ("good", "failed", "timed out"), after how many tries, and whether it was of the
    high class."""
    at: float
    took: float
    became: str
    tries: int
    why: str
    is_high: bool


class Clients:
    """With `high` each request of that number is of the high class, which is told by its path."""

    def __init__(self, port, rate, patience, retries=0, high=None):
        self.port, self.rate, self.patience, self.retries, self.high = port, rate, patience, retries, high
        self.idle, self.asked, self.stopped = [], [], False

    def stop(self):
        """No further request is begun."""
        self.stopped = True

    async def run(self, began, seconds):
        """Asks from `began` (of the monotonic clock) on; returns when the last request is answered or given up."""
        under_way, number = set(), 0
        while (due := number / self.rate) < seconds and not self.stopped:
            late = began + due - time.monotonic()
            if late > 0:
                await asyncio.sleep(late)
            is_high = self.high is not None and number % self.high == 0
            task = asyncio.create_task(self.ask(due, is_high))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
        await asyncio.gather(*list(under_way))
        for _, writer in self.idle:
            writer.close()
        return self.asked

    async def ask(self, due, is_high):
        began = time.monotonic()
        for tries in range(1, self.retries + 2):
            became, why = await self.attempt(HIGH if is_high else USUAL)
            if became == "good":
                break
        self.asked.append(Asked(due, time.monotonic() - began, became, tries, why, is_high))

    async def attempt(self, said):
        held = []
        try:
            return await asyncio.wait_for(self.exchange(said, held), self.patience)
        except asyncio.TimeoutError:
            return "timed out", "no answer in time"
        except (OSError, asyncio.IncompleteReadError) as error:
            return "failed", repr(error)
        finally:
            for writer in held:
                writer.close()

    async def exchange(self, said, held):
        """One request. Its connection is in `held` while it may not be used again."""
        reader, writer = await self.connection()
        held.append(writer)
        writer.write(said)
        head = await reader.readuntil(b"\r\n\r\n")
        line, *fields = head[:-4].split(b"\r\n")
        named = {name.strip().lower(): value.strip().lower() for name, _, value in (field.partition(b":") for field in fields)}
        await reader.readexactly(int(named[b"content-length"]))
        if named.get(b"connection") != b"close":
            held.clear()
            self.idle.append((reader, writer))
        status = line[9:12]
        return {b"200": "good", b"504": "timed out"}.get(status, "failed"), status.decode("latin-1")

    async def connection(self):
        while self.idle:
            reader, writer = self.idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port)
