"""Tables of what was measured, and their places in docs/RELIABILITY.md."""
import os
import re
import sys
import time

from proxies import peers

PAGE = os.path.join(peers.ROOT, "docs", "RELIABILITY.md")


def table(head, rows, command, words):
    """A table whose first `words` columns are words and the others numbers, and by what it was measured."""
    lines = ["| " + " | ".join(map(str, one)) + " |" for one in [head, ["---"] * words + ["---:"] * (len(head) - words), *rows]]
    return "\n".join([*lines, "", f"By `{command}`, {time.strftime('%Y-%m-%d')}, on {machine()}."])


def machine():
    model = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    return f"{model.group(1) if model else 'an unknown processor'}, {os.cpu_count()} cores, Linux {os.uname().release}"


def write(what, text):
    """Puts a table into its place."""
    page = open(PAGE).read()
    page, found = re.subn(rf"(<!-- measured {what} -->\n).*?(<!-- end -->)", lambda m: f"{m.group(1)}\n{text}\n\n{m.group(2)}", page, flags=re.S)
    if not found:
        sys.exit(f"{PAGE} has no place for {what}")
    with open(PAGE, "w") as f:
        f.write(page)
