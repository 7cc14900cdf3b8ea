"""The gate on instruction counts: counts each piece of the request path under callgrind, and compares with `baseline.toml`.

In comes what `tools/instructions` has built; out go a table and an exit status (0 fine, 1 something costs more than it may, 2
cannot be judged). A count is the difference of two runs divided by the difference of their work, so starting up cancels. It
is user space only. What it must never do: pass because nothing was measured, or fail because the compiler is another one.

Lines that begin with `instructions:` are to be seen even when all is well.
"""
import argparse, concurrent.futures, os, platform, re, subprocess, sys, tempfile, tomllib

import exchange
import functions

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BASELINE = os.path.join(HERE, "baseline.toml")
MOST = 1.03  # of the baseline: more fails. Counts repeat within 0.5 %
LEAST = 0.95  # of the baseline: with less, the baseline allows a slowing that nobody decided
EXCHANGE = "exchange/keep-alive"
# The path that copies a byte at a time counts each byte as an instruction; what the processor does then is nothing alike.
TUNABLES = "glibc.cpu.hwcaps=-ERMS,-FSRM"
RUNS = {EXCHANGE: (200, 1200), "pick/route-of-10000": (1000, 11000)}  # all routes once
RUNS_ELSE = (200, 2200)
PROFILE_ROWS = 20
TOTAL = re.compile(r"^totals: (\d+)$", re.MULTILINE)


def say(text):
    print(f"instructions: {text}", flush=True)


class Pieces:
    """Runs what was built, and counts."""

    def __init__(self, target):
        self.program = os.path.join(target, "release", "plimsoll")
        self.pieces = os.path.join(target, "release", "plimsoll-instructions")

    def names(self):
        listed = subprocess.run([self.pieces], capture_output=True, text=True, check=True).stdout.split()
        return [*listed, EXCHANGE]

    def count(self, name, slowed=False):
        """Instructions that doing it once takes."""
        few, many = RUNS.get(name, RUNS_ELSE)
        total = [int(TOTAL.search(self._run(name, times, slowed)).group(1)) for times in (few, many)]
        return (total[1] - total[0]) / (many - few)

    def profile(self, name):
        """What doing it once takes, by function."""
        few, many = RUNS.get(name, RUNS_ELSE)
        runs = [functions.by_function(self._run(name, times)) for times in (few, many)]
        return functions.difference(*runs, many - few)

    def _run(self, name, times, slowed=False):
        """Callgrind's output."""
        environment = {**os.environ, "GLIBC_TUNABLES": TUNABLES, "LC_ALL": "C", **({"SLOWED": "1"} if slowed else {})}
        with tempfile.TemporaryDirectory(prefix="plimsoll-callgrind-") as directory:
            out = os.path.join(directory, "out")
            valgrind = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}"]
            if name == EXCHANGE:
                exchange.run([*valgrind, self.program], times, environment)
            else:
                subprocess.run([*valgrind, self.pieces, name, str(times)], env=environment, check=True)
            with open(out, encoding="utf-8", errors="replace") as f:
                return f.read()

    def count_all(self, names):
        """All of them, as many at once as there are cores: what else runs does not change a count."""
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return dict(zip(names, pool.map(self.count, names)))


def tools():
    """What counts depend on besides the code."""
    def first_line(*argv):
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return {"rustc": first_line("rustc", "--version"), "valgrind": first_line("valgrind", "--version"),
            "libc": " ".join(platform.libc_ver()), "machine": platform.machine()}


def compare(baseline, now):
    """The table's rows (name, was, is, ratio, verdict), and whether any fails."""
    rows = []
    for name in sorted({*baseline, *now}):
        was, count = baseline.get(name), now.get(name)
        if was is None or count is None:
            rows.append((name, was, count, None, "NO BASELINE" if was is None else "NOT MEASURED"))
            continue
        ratio = count / was
        verdict = "SLOWER" if ratio > MOST else "faster: lower the baseline" if ratio < LEAST else ""
        rows.append((name, was, count, ratio, verdict))
    return rows, any(row[4].isupper() for row in rows)


def show(rows):
    def number(value):
        return "" if value is None else f"{value:,.0f}"
    print(f"{'instructions in user space':26} {'baseline':>10} {'now':>10} {'change':>8}")
    for name, was, count, ratio, verdict in rows:
        change = "" if ratio is None else f"{(ratio - 1) * 100:+.1f} %"
        print(f"{name:26} {number(was):>10} {number(count):>10} {change:>8}  {verdict}".rstrip(), flush=True)


def write_baseline(path, counts):
    with open(path, "w", encoding="utf-8") as f:
        f.write("# Instructions in user space for doing each once. Written by `tools/instructions --update`; a commit that raises a\n"
                "# figure says what the instructions buy.\n\n[tools]\n")
        f.writelines(f'{name} = "{value}"\n' for name, value in tools().items())
        f.write("\n[counts]\n")
        f.writelines(f'"{name}" = {round(count)}\n' for name, count in counts.items())


def drift():
    """Where the pieces are built otherwise than the program: one line each."""
    def read(*path):
        with open(os.path.join(ROOT, *path), "rb") as f:
            return tomllib.load(f)
    wrong = []
    here = ("bench", "instructions")
    if read("Cargo.toml")["profile"]["release"] != read(*here, "Cargo.toml")["profile"]["release"]:
        wrong.append("[profile.release] differs between Cargo.toml and bench/instructions/Cargo.toml: copy it")
    versions = {}
    for package in read("Cargo.lock")["package"]:
        versions.setdefault(package["name"], set()).add(package["version"])
    for package in read(*here, "Cargo.lock")["package"]:
        name, version = package["name"], package["version"]
        if "source" in package and version not in versions.get(name, set()):
            wanted = " or ".join(versions.get(name, {"none"}))
            wrong.append(f"{name} is {version} in bench/instructions/Cargo.lock, {wanted} in Cargo.lock: "
                         f"cargo update --manifest-path bench/instructions/Cargo.toml {name} --precise {wanted}")
    return wrong


def notices_a_slowing(pieces, counts, name="codec/request-head-in"):
    """The gate, gated: the same piece, 5 % slower, has to fail."""
    _, failed = compare({name: counts[name]}, {name: pieces.count(name, slowed=True)})
    return failed


def judge(baseline, counts):
    rows, failed = compare(baseline["counts"], counts)
    show(rows)
    now = tools()
    others = [f"{name} {baseline['tools'].get(name)}, here {now[name]}" for name in now if baseline["tools"].get(name) != now[name]]
    if others:
        say("NOT JUDGED: the baseline was counted with another " + "; another ".join(others))
        say("run tools/instructions --update where the tools are the right ones, and commit bench/instructions/baseline.toml")
        return 0
    for name, *_ in (row for row in rows if "lower" in row[4]):
        say(f"{name} has become faster: lower the baseline with tools/instructions --update")
    if failed:
        say(f"FAILED: more than {MOST - 1:.0%} above the baseline, or not in it. Where that is meant: tools/instructions --update, and say why")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(prog="tools/instructions", description="Counts the instructions of the request path.")
    parser.add_argument("--update", action="store_true", help="write the counts to baseline.toml instead of comparing")
    parser.add_argument("--profile", action="store_true", help="show where the instructions of a piece go, by function; of the whole exchange if none is named")
    parser.add_argument("--target", default=os.path.join(ROOT, "target"), help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only pieces whose name contains one of these")
    args = parser.parse_args()
    if args.update and args.names:
        parser.error("--update writes all figures or none")
    for line in (wrong := drift()):
        say(line)
    if wrong:
        return 2
    pieces = Pieces(args.target)
    if args.profile:
        print("\n".join(functions.table(pieces.profile((args.names or [EXCHANGE])[0]), PROFILE_ROWS)))
        return 0
    names = [n for n in pieces.names() if not args.names or any(part in n for part in args.names)]
    counts = pieces.count_all(names)
    if args.update:
        write_baseline(BASELINE, counts)
    with open(BASELINE, "rb") as f:
        baseline = tomllib.load(f)
    if args.names:
        baseline["counts"] = {n: c for n, c in baseline["counts"].items() if n in names}
    elif not notices_a_slowing(pieces, counts):
        say("FAILED: a piece that was slowed by 5 % passed; the gate does not work")
        return 2
    return judge(baseline, counts)


if __name__ == "__main__":
    sys.exit(main())
