"""httpx against the base URL given: prints what its two forms, sync and async, saw."""

import asyncio
import json
import sys

import httpx

BASE = sys.argv[1]
OPTIONS = {"base_url": BASE, "trust_env": False, "timeout": 20}
PIECE = b"y" * 16384
PIECES = 64


def is_right(n, answer):
    return answer.status_code == 200 and answer.json()["request"]["target"] == f"/{n}"


def received(answer):
    request = answer.json()["request"]
    return {"uploaded": request["body_bytes"], "framing": dict(request["headers"]).get("transfer-encoding")}


def in_form_sync():
    with httpx.Client(**OPTIONS) as client:
        result = {"right": sum(is_right(n, client.get(f"/{n}")) for n in range(40))}
        result |= received(client.post("/upload", content=(PIECE for _ in range(PIECES))))
        with client.stream("GET", "/big", headers={"Accept": "text/plain"}) as answer:
            pieces = list(answer.iter_raw())
    return result | judged(pieces)


async def in_form_async():
    async def body():
        for _ in range(PIECES):
            yield PIECE

    async with httpx.AsyncClient(**OPTIONS) as client:
        answers = await asyncio.gather(*(client.get(f"/{n}") for n in range(40)))
        result = {"right": sum(is_right(n, answer) for n, answer in enumerate(answers))}
        result |= received(await client.post("/upload", content=body()))
        async with client.stream("GET", "/big", headers={"Accept": "text/plain"}) as answer:
            pieces = [piece async for piece in answer.aiter_raw()]
    return result | judged(pieces)


def judged(pieces):
    whole = b"".join(pieces)
    return {"downloaded": len(whole), "clean": whole.count(b"x") == len(whole)}


print(json.dumps({"sync": in_form_sync(), "async": asyncio.run(in_form_async())}))
