"""Results as text, as Markdown and as docs/BENCHMARKS.md.

A ratio is the median of the rounds' ratios: each round compares what ran within the same seconds. "The better" of nginx and
HAProxy is, for each scenario and figure, the one with the lower median.
"""
import json
import os
import re
import statistics

from . import plot
from .scenarios import SCENARIOS

NAMES = {"plimsoll": "Plimsoll", "nginx": "nginx", "haproxy": "HAProxy", "relay": "blind relay", "envoy": "Envoy",
         "go": "Go `httputil.ReverseProxy`", "caddy": "Caddy"}
FIGURES = {"cpu_us": "CPU per request", "p99_us": "p99", "anonymous_bytes": "bytes a connection"}


def compact(results):
    """JSON with one round a line, which a person can read and a diff can show."""
    text = json.dumps(results, indent=1)
    return re.sub(r"\{\n\s+\"requests\"[^{}]*\}", lambda m: re.sub(r"\s*\n\s*", " ", m.group()), text) + "\n"


def is_growth(name):
    return bool(SCENARIOS[name].variants)


def better(peers, figure):
    there = [name for name in ("nginx", "haproxy") if name in peers and figure in peers[name]]
    return min(there, key=lambda name: peers[name][figure], default=None)


def base_of(peers, subject, figure, to):
    """Whom a figure of the subject is compared with: a label, or None."""
    if to is None:
        return None
    if to == "first":
        return next(name for name in peers if name.split()[0] == subject.split()[0])
    return better(peers, figure) if to == "peer" else to if to in peers else None


def ratios(peers, name, base, figure):
    """Of each round."""
    return [a[figure] / b[figure] for a, b in zip(peers[name]["rounds"], peers[base]["rounds"]) if b[figure]]


def ratio(peers, name, base, figure="cpu_us"):
    found = base and ratios(peers, name, base, figure)
    return statistics.median(found) if found else None


def judged(name, entry):
    """For each target of a scenario: what was to reach, what was reached, in which spread, and whether."""
    peers = entry["peers"]
    for target in SCENARIOS[name].targets:
        subjects = [p for p in peers if p.startswith("plimsoll ")][1:] if target.to == "first" else ["plimsoll"]
        for subject in subjects:
            base = base_of(peers, subject, target.figure, target.to)
            if subject not in peers or target.figure not in peers[subject] or (target.to and not base):
                continue
            if base:
                values = ratios(peers, subject, base, target.figure)
            else:
                values = [r[target.figure] for r in peers[subject]["rounds"]]
            value = statistics.median(values)
            yield target, subject, base, value, (min(values), max(values)), value <= target.limit


def said(target, subject, base, value, spread, met):
    form = "{:.2f}".format if base else "{:,.0f}".format
    of = {"first": " of that of the first", "relay": " of the relay's", "peer": f" of {NAMES.get(base, base)}'s"}.get(target.to, "")
    who = f" of {subject}" if target.to == "first" else ""
    return (f"{FIGURES[target.figure]}{who} {form(value)}{of} ({form(spread[0])} to {form(spread[1])}), to reach ≤ {form(target.limit)}: "
            + ("met" if met else "MISSED"))


def full_name(name, label):
    peer, *count = label.split()
    return NAMES[peer] + "".join(f", {int(c):,} {name.removeprefix('growth-')}" for c in count)


def number(value, form, factor=1.0):
    return "–" if value is None else form.format(value * factor)


def columns(name, peers):
    """Headings, and for each peer its cells."""
    kinds = [("CPU per request, µs", "cpu_us", "{:.2f}", 1.0)]
    if SCENARIOS[name].kind in ("idle", "burst"):
        kinds += [("private bytes a connection", "anonymous_bytes", "{:,.0f}", 1.0), ("resident bytes a connection", "resident_bytes", "{:,.0f}", 1.0)]
    else:
        kinds += [("requests/s", "rps", "{:,.0f}", 1.0), ("p50 ms", "p50_us", "{:.2f}", 1e-3), ("p99 ms", "p99_us", "{:.2f}", 1e-3),
                  ("p99.9 ms", "p999_us", "{:.2f}", 1e-3)]
    if SCENARIOS[name].log:
        kinds.append(("logged", "logged", "{:.1f} %", 100.0))
    kinds.append(("peak memory, MB", "peak_kb", "{:.0f}", 1 / 1024))
    heads = ["", kinds[0][0], "ratio"] + [k[0] for k in kinds[1:]]
    rows = []
    for peer, figures in peers.items():
        cells = [number(figures.get(key), form, factor) for _, key, form, factor in kinds]
        base = base_of(peers, peer, "cpu_us", "first" if is_growth(name) else "peer")
        cells.insert(1, number(ratio(peers, peer, base), "{:.2f}"))
        label = full_name(name, peer)
        if figures["errors"]:
            label += f" ({figures['errors']:,.0f} errors)"
        rows.append([label, *cells])
    return heads, rows


def text(scenario, entry):
    heads, rows = columns(scenario.name, entry["peers"])
    widths = [max(len(r[i]) for r in [heads, *rows]) for i in range(len(heads))]
    lines = ["", f"{scenario.name}: {scenario.title}"]
    lines += ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))) for r in [heads, *rows]]
    lines += [said(*j) for j in judged(scenario.name, entry)]
    return "\n".join(lines) + "\n"


def tables(results):
    lines = []
    for name in SCENARIOS:
        entry = results["scenarios"].get(name)
        if not entry:
            continue
        heads, rows = columns(name, entry["peers"])
        lines += [f"### {name}", "", f"{sentence(SCENARIOS[name].title)} {entry['rounds']} rounds of {entry['seconds']} s each."
                  if SCENARIOS[name].kind not in ("idle", "burst") else sentence(SCENARIOS[name].title), ""]
        lines += ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        lines.append("")
    return lines


def sentence(title):
    return title[0].upper() + title[1:] + "."


def verdict(results, names):
    found = [(name, j) for name in names if name in results["scenarios"] for j in judged(name, results["scenarios"][name])]
    missed = [f"  {name}: {said(*j)}" for name, j in found if not j[-1]]
    return "\n".join([f"{len(found) - len(missed)} of {len(found)} targets met" + (", missed:" if missed else ""), *missed])


def target_rows(results):
    lines = ["| scenario | figure | to reach | measured | rounds | |", "|---|---|---:|---:|---|---|"]
    for name in SCENARIOS:
        for target, subject, base, value, spread, met in judged(name, results["scenarios"].get(name, {"peers": {}})):
            form = "{:.2f}".format if base else "{:,.0f}".format
            against = {"first": f", {subject.split()[-1]} to 1", "relay": " to the blind relay's", "peer": f" to {NAMES.get(base, base)}'s"}
            lines.append(f"| {name} | {FIGURES[target.figure]}{against.get(target.to, '')} | ≤ {form(target.limit)} | {form(value)} |"
                         f" {form(spread[0])} – {form(spread[1])} | {'met' if met else '**missed**'} |")
    return lines


def write_docs(results, folder):
    with open(os.path.join(folder, "benchmarks.svg"), "w") as f:
        f.write(plot.svg(results))
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "page.md")) as f:
        page = f.read()
    machine, versions = results["machine"], results["versions"]
    peers = ", ".join(f"{NAMES[n]} {v}".strip() for n, v in versions.items() if n not in ("plimsoll", "relay", "go"))
    entries = results["scenarios"].values()
    when = sorted(e["when"][:10] for e in entries)
    days = when[0] if when[0] == when[-1] else f"{when[0]} to {when[-1]}"
    loads = [e["load_average"] for e in entries]
    fields = {
        "targets": "\n".join(target_rows(results)),
        "tables": "\n".join(tables(results)).rstrip(),
        "machine": f"{machine['cpu']}, {machine['cores']} cores{' of a virtual machine' if machine['virtual'] else ''},"
                   f" {machine['memory_gb']} GB, {machine['system']}, Linux {machine['kernel']}",
        "versions": f"Plimsoll {versions['plimsoll']}, {peers}, Go's `httputil.ReverseProxy` as in `bench/peers/go`",
        "days": days,
        "command": results.get("command", "bench/run"),
        "commits": ", ".join(f"`{c}`" for c in sorted({e["commit"] for e in entries})),
        "load": f"{min(loads):.1f} to {max(loads):.1f}",
        "missing": ", ".join(NAMES[n] for n in NAMES if n not in versions) or "none",
    }
    for name, value in fields.items():
        page = page.replace("{{" + name + "}}", value)
    with open(os.path.join(folder, "BENCHMARKS.md"), "w") as f:
        f.write(page)
