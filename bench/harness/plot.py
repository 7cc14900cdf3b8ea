"""The plot: for each scenario a row of dots, one for each proxy, at its CPU time per request over that of the better peer.

Written as SVG by hand. The scale is logarithmic, since the slowest peers are several times the fastest.
"""
import math

from .scenarios import SCENARIOS

LEFT, RIGHT, TOP, ROW, WIDTH = 150, 30, 64, 30, 860
LOW, HIGH = 0.35, 8.0
TICKS = [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.5, 2, 3, 4, 6, 8]
COLOURS = {"plimsoll": "#d1242f", "nginx": "#1a7f37", "haproxy": "#0969da", "relay": "#8c959f", "envoy": "#8250df", "go": "#bf8700",
           "caddy": "#57606a"}
LABELS = {"plimsoll": "Plimsoll", "nginx": "nginx", "haproxy": "HAProxy", "relay": "blind relay", "envoy": "Envoy", "go": "Go", "caddy": "Caddy"}


def x_of(ratio):
    share = math.log(min(max(ratio, LOW), HIGH) / LOW) / math.log(HIGH / LOW)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def text(x, y, words, anchor="middle", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{words}</text>'


def legend(names):
    parts, x = [], LEFT
    for name in names:
        parts.append(f'<circle cx="{x + 5}" cy="24" r="5" fill="{COLOURS[name]}"/>' + text(x + 14, 28, LABELS[name], "start"))
        x += 34 + 7 * len(LABELS[name])
    return parts


def axis(bottom):
    parts = []
    for tick in TICKS:
        x, strong = x_of(tick), tick == 1
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}" stroke="{"#57606a" if strong else "#d8dee4"}"/>')
        parts.append(text(x, TOP - 14, f"{tick:g}"))
    return parts


def row(name, entry, y):
    from .report import better, ratio
    peers = entry["peers"]
    base = better(peers, "cpu_us")
    parts = [text(LEFT - 12, y + 4, name, "end")]
    limit = next((t.limit for t in SCENARIOS[name].targets if t.figure == "cpu_us" and t.to == "peer"), None)
    if limit:
        x = x_of(limit)
        parts.append(f'<line x1="{x:.1f}" y1="{y - 11}" x2="{x:.1f}" y2="{y + 11}" stroke="#d1242f" stroke-width="2" stroke-dasharray="3 2"/>')
    for peer in reversed(list(peers)):  # ours on top
        value = ratio(peers, peer, base)
        if value:
            parts.append(f'<circle cx="{x_of(value):.1f}" cy="{y}" r="{7 if peer == "plimsoll" else 5}" fill="{COLOURS[peer]}">'
                         f"<title>{LABELS[peer]}: {value:.2f}</title></circle>")
    return parts


def svg(results):
    shown = [(name, results["scenarios"][name]) for name in SCENARIOS if name in results["scenarios"]]
    shown = [(name, e) for name, e in shown if SCENARIOS[name].kind in ("wrk", "pace-same") and not SCENARIOS[name].variants]
    names = [n for n in COLOURS if any(n in e["peers"] for _, e in shown)]
    bottom = TOP + ROW * len(shown)
    parts = legend(names) + axis(bottom)
    for number, (name, entry) in enumerate(shown):
        parts += row(name, entry, TOP + ROW * number + ROW // 2)
    parts.append(text(LEFT, bottom + 22, "CPU time per request over that of the better of nginx and HAProxy; logarithmic; left is better; dashed: to reach",
                      "start"))
    body = "\n".join(parts)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 36}" font-family="sans-serif" font-size="12" fill="#1f2328">\n'
            f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n')
