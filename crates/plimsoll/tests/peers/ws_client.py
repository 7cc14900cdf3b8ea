"""A WebSocket client against the URL given: prints what passed."""

import asyncio
import json
import os
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

URL = sys.argv[1]
OPTIONS = {"max_size": 4 * 1024 * 1024, "open_timeout": 20}


def dial(path, **options):
    # Newer versions look for a proxy in the environment.
    return connect(URL + path, proxy=None, **OPTIONS, **options)


async def echoes(socket, message):
    await socket.send(message)
    return await socket.recv() == message


async def basics():
    async with dial("/basics") as socket:
        result = {
            "extension": "permessage-deflate" in socket.response.headers.get("Sec-WebSocket-Extensions", ""),
            "text": await echoes(socket, "Grüße, 世界"),
            "binary": await echoes(socket, bytes(range(256))),
            "empty": await echoes(socket, ""),
            "large": await echoes(socket, os.urandom(1024 * 1024)),
            "client_ping": await asyncio.wait_for(await socket.ping(b"from the client"), 10) >= 0,
        }
        await socket.send("ping me")
        result["server_ping"] = json.loads(await socket.recv())
    async with dial("/plain", compression=None) as socket:
        result["uncompressed"] = await echoes(socket, "x" * 1024 * 1024)
    return result


async def closes():
    async with dial("/closed") as socket:
        await socket.send("close me")
        try:
            await socket.recv()
        except ConnectionClosed as end:
            by_server = [end.rcvd.code, end.rcvd.reason]
    async with dial("/closing") as socket:
        await socket.close(4002, "done")
        await socket.wait_closed()
    async with dial("/asking") as socket:
        await socket.send("closes?")
        by_client = json.loads(await socket.recv())
    return {"server_close": by_server, "client_close": by_client}


async def crowd(count):
    everybody_in = asyncio.Event()
    inside = 0

    async def one(n):
        nonlocal inside
        async with dial("/crowd") as socket:
            first = await echoes(socket, f"hello {n}")
            inside += 1
            if inside == count:
                everybody_in.set()
            await everybody_in.wait()
            return first and await echoes(socket, f"all {n}")

    return sum(await asyncio.wait_for(asyncio.gather(*(one(n) for n in range(count))), 30))


async def main():
    print(json.dumps(await basics() | await closes() | {"crowd": await crowd(100)}))


asyncio.run(main())
