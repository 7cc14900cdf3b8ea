"""aiohttp against the base URL given: 50 tasks with 10 requests each over at most 50 kept connections."""

import asyncio
import json
import sys

import aiohttp

BASE = sys.argv[1]
TASKS, EACH = 50, 10


async def main():
    connections = 0

    async def connected(*_):
        nonlocal connections
        connections += 1

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_end.append(connected)
    servers = set()

    async def ask(session, task):
        right = 0
        for n in range(EACH):
            path = f"/{task}/{n}"
            async with session.put(BASE + path, data=path * 100) as answer:
                seen = await answer.json()
                servers.add(seen["server"])
                request = seen["request"]
                right += (answer.status, request["target"], request["body"]) == (200, path, (path * 100)[:1024])
        return right

    options = {
        "connector": aiohttp.TCPConnector(limit=TASKS),
        "timeout": aiohttp.ClientTimeout(total=30),
        "trace_configs": [tracing],
    }
    async with aiohttp.ClientSession(**options) as session:
        right = sum(await asyncio.gather(*(ask(session, task) for task in range(TASKS))))
    print(json.dumps({"right": right, "connections": connections, "servers": sorted(servers)}))


asyncio.run(main())
