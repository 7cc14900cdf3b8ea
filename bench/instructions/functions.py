"""Where an exchange's instructions go: callgrind's output, by function.

In comes the text of a callgrind file, out go instructions by function, with all that it calls and by itself. What the compiler
has inlined counts for the function that it is in. The frames that only hold everything together are left out of the table.
"""
import re

COST = re.compile(r"[\d+*-]\S* (\d+)$")
NAMED = re.compile(r"(c?fn)=\((\d+)\)(?: (.*))?$")
FRAMES = 0.9  # of the whole: a function with more is the loop around it all


def by_function(text):
    """{function: (with what it calls, itself)}; a function that calls itself would count twice, and none on the path does."""
    names, inclusive, own = {}, {}, {}
    function, called = None, False
    for line in text.splitlines():
        if match := NAMED.match(line):
            kind, number, name = match.groups()
            names.setdefault(number, name)
            function = names[number] if kind == "fn" else function
        elif line.startswith("calls="):
            called = True  # the next line has what the call cost
        elif function and (match := COST.match(line)):
            cost = int(match.group(1))
            inclusive[function] = inclusive.get(function, 0) + cost
            own[function] = own.get(function, 0) + (0 if called else cost)
            called = False
    return {name: (inclusive[name], own[name]) for name in inclusive}


def difference(few, many, requests):
    """For one request."""
    return {name: tuple((cost - before) / requests for cost, before in zip(costs, few.get(name, (0, 0))))
            for name, costs in many.items()}


def shorten(name):
    """`<tokio::x::Y as core::Z>::w` as `Y::w`, as far as a table needs it."""
    name = re.sub(r"'\d+$", "", name)
    name = re.sub(r"^<(.*?)>::", r"\1::", name.replace(" as core::ops::drop::Drop", ""))
    return name.replace("::{{closure}}", "").replace("plimsoll_", "")


def table(costs, rows):
    whole = sum(own for _, own in costs.values())
    yield "| function | with what it calls | share | itself |"
    yield "|---|--:|--:|--:|"
    yield f"| the whole exchange | {whole:,.0f} | 100 % | |"
    shown = [(cost, own, name) for name, (cost, own) in costs.items() if cost < whole * FRAMES]
    for cost, own, name in sorted(shown, reverse=True)[:rows]:
        yield f"| `{shorten(name)}` | {cost:,.0f} | {cost / whole:.0%} | {own:,.0f} |"
