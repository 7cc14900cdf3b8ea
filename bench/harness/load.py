"""The load: wrk in a closed loop, `pace` in an open one, and connections that only sit there.

Each gives a round: a dict of requests, requests per second, latencies in microseconds, and errors.
"""
import json
import os
import re
import socket
import time

from .machine import LOAD_CORE, TOOLS, Broken, anonymous_kb, memory_kb, output

HEADERS = {
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "Cache-Control": "no-cache",
    "Cookie": "session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes",
    "Pragma": "no-cache",
    "Priority": "u=0, i",
    "Referer": "http://example.com/some/page",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-User": "?1",
    "Upgrade-Insecure-Requests": "1",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
}  # with Host: fifteen

DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests":%d,"us":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d,"errors":%d}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def wrk_script(path, kind):
    """Lua for wrk: the headers, the body if any, and where there are several targets, each in turn."""
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in HEADERS.items()]
    if kind.close:
        lines.append('wrk.headers["Connection"] = "close"')
    if kind.upload:
        lines += ['wrk.method = "POST"', f'wrk.body = string.rep("x", {kind.upload})']
    if len(kind.targets) > 1:
        made = ", ".join(f'{{"{target}", "{host}"}}' for target, host in kind.targets)
        lines.append(f"""
local targets, made, next_one = {{ {made} }}, {{}}, 0
init = function()
  for i, t in ipairs(targets) do
    if t[2] ~= "" then wrk.headers["Host"] = t[2] end
    made[i] = wrk.format(nil, t[1])
  end
end
request = function()
  next_one = next_one % #made + 1
  return made[next_one]
end""")
    with open(path, "w") as f:
        f.write("\n".join(lines) + DONE)
    return path


def wrk(port, script, kind, seconds):
    target, host = kind.targets[0]
    argv = ["wrk", "-t1", f"-c{kind.connections}", f"-d{seconds}s", "--timeout", "10s", "-s", script]
    if host and len(kind.targets) == 1:
        argv += ["-H", f"Host: {host}"]
    out, err = output(LOAD_CORE, [*argv, f"http://127.0.0.1:{port}{target}"], seconds + 60)
    found = re.search(r"RESULT (.*)", out)
    if not found:
        raise Broken(f"wrk says nothing: {out}{err}")
    result = json.loads(found.group(1))
    result["rps"] = round(result["requests"] / (result.pop("us") / 1e6))
    return result


def request_bytes(target, host="example.com"):
    head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n" + "".join(f"{n}: {v}\r\n" for n, v in HEADERS.items())
    return (head + "\r\n").encode()


def pace(port, directory, connections, rate, seconds):
    path = os.path.join(directory, "request")
    with open(path, "wb") as f:
        f.write(request_bytes("/1k"))
    argv = [os.path.join(TOOLS, "pace"), f"127.0.0.1:{port}", path, str(connections), str(rate), str(seconds)]
    out, err = output(LOAD_CORE, argv, seconds + 60)
    if not out:
        raise Broken(err.strip())
    result = json.loads(out)
    return {**result, "requests": result["sent"], "errors": result["unanswered"]}


def idle(port, pid, count, burst):
    """Memory before and after `count` clients have each made a request and kept their connection.

    One after the other, or with `burst` all at once, so that the proxy once needed all the buffers that it will ever need.
    """
    request, clients = request_bytes("/1k"), []
    try:
        exchange(connected(port), request)  # what is made with the first request is not a connection's
        before = anonymous_kb(pid), memory_kb(pid, "status", "VmRSS")
        started = time.monotonic()
        for _ in range(count):
            clients.append(connected(port))
            if not burst:
                exchange(clients[-1], request)
        if burst:
            for client in clients:
                client.sendall(request)
            for client in clients:
                answered(client)
        took = time.monotonic() - started
        time.sleep(1)  # what the proxy tidies at leisure is tidied
        after = anonymous_kb(pid), memory_kb(pid, "status", "VmRSS")
    finally:
        for client in clients:
            client.close()
    return {"requests": count, "errors": 0, "rps": round(count / took),
            "anonymous_bytes": round((after[0] - before[0]) * 1024 / count), "resident_bytes": round((after[1] - before[1]) * 1024 / count)}


def connected(port):
    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def exchange(client, request):
    client.sendall(request)
    answered(client)


def answered(client):
    got = b""
    while b"\r\n\r\n" not in got or len(got) - got.index(b"\r\n\r\n") < 1024 + 4:
        piece = client.recv(65536)
        got += piece
        if not piece or not b"HTTP/1.1 200 OK".startswith(got[:15]):
            raise Broken(f"not the answer that was expected: {got[:200]!r}")
