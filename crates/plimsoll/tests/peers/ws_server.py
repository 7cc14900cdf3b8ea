"""A WebSocket server on a free port: prints the port, echoes, and does on request what a client cannot see otherwise."""

import asyncio
import json

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

CLOSES = []
CLOSED_BY_A_CLIENT = asyncio.Event()


async def talk(socket):
    try:
        async for message in socket:
            await answer(socket, message)
    except ConnectionClosed as end:
        # Raised for every code that is not 1000 or 1001, whoever said it first.
        if end.rcvd_then_sent:
            CLOSES.append([end.rcvd.code, end.rcvd.reason])
            CLOSED_BY_A_CLIENT.set()


async def answer(socket, message):
    if message == "close me":
        await socket.close(4001, "bye")
    elif message == "ping me":
        latency = await asyncio.wait_for(await socket.ping(b"from the server"), 10)
        await socket.send(json.dumps(latency >= 0))
    elif message == "closes?":
        # The other connection's task may learn of its end only after this question has come.
        await asyncio.wait_for(CLOSED_BY_A_CLIENT.wait(), 10)
        await socket.send(json.dumps(CLOSES))
    else:
        await socket.send(message)


async def main():
    async with serve(talk, "127.0.0.1", 0, max_size=4 * 1024 * 1024) as server:
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        await server.serve_forever()


asyncio.run(main())
