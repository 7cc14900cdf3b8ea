"""Processes and what the kernel says of them: starting, ending, CPU time, memory; and what machine this is.

Every process is started on one core, ended by its own id, and waited for. Nothing here talks to another machine.
"""
import glob
import os
import platform
import re
import signal
import socket
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILT = os.path.join(ROOT, "target", "bench")
TOOLS = os.path.join(BUILT, "tools", "release")
PROXY_CORE, LOAD_CORE = "0", "1"
PATIENCE = 20  # seconds; only what is broken takes as long


class Broken(Exception):
    """Something that the benchmark needs did not do its part."""


def start(core, argv, **kwargs):
    """A process on a core, with the priority of the benchmark, in a session of its own: Ctrl-C reaches the driver alone, which ends the
    others in order."""
    nice = os.environ.get("BENCH_NICE")
    child = subprocess.Popen([*(["nice", "-n", nice] if nice else []), "taskset", "-c", core, *argv], stdin=subprocess.DEVNULL,
                             start_new_session=True, **kwargs)
    if nice:  # between sessions it is the group's that counts, where the kernel groups them
        try:
            with open(f"/proc/{child.pid}/autogroup", "w") as f:
                f.write(nice)
        except OSError:
            pass
    return child


def output(core, argv, timeout):
    """What a command prints, on standard output and standard error; killed after the timeout."""
    with start(core, argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            return child.communicate(timeout=timeout)
        except BaseException:
            child.kill()
            raise


class Children:
    """Processes that end with the `with` block, whatever ends it."""

    def __init__(self):
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.running:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        end = time.monotonic() + 3
        for child in self.running:
            try:
                child.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                for pid in reversed(family(child.pid)):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                child.wait()
        self.running.clear()

    def start(self, core, argv, out, err):
        child = start(core, argv, stdout=out, stderr=err)
        self.running.append(child)
        return child


def free_port():
    """A port free on all of loopback, below those that connections out of this machine are given."""
    for _ in range(1000):
        port = 10000 + int.from_bytes(os.urandom(2), "big") % 20000
        with socket.socket() as s:
            try:
                s.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    raise Broken("no free port below 30000")


def wait_for(port, child, name, log):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if child.poll() is not None:
            break
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    with open(log, errors="replace") as f:
        raise Broken(f"{name} does not listen on port {port}:\n{f.read()[-2000:]}")


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""  # the process or thread is gone


def family(pid):
    """The process and all below it."""
    pids = [pid]
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        for child in read(path).split():
            pids += family(int(child))
    return pids


def cpu_ns(pid):
    """Nanoseconds that all threads of the family have run, as the scheduler counts them."""
    files = (path for p in family(pid) for path in glob.glob(f"/proc/{p}/task/*/schedstat"))
    return sum(int((read(path).split() or [0])[0]) for path in files)


def memory_kb(pid, file, field):
    total = 0
    for p in family(pid):
        found = re.search(rf"^{field}:\s+(\d+) kB", read(f"/proc/{p}/{file}"), re.M)
        total += int(found.group(1)) if found else 0
    return total


def peak_kb(pid):
    """The most that was ever resident, summed over the family: pages that processes share count for each."""
    return memory_kb(pid, "status", "VmHWM")


def anonymous_kb(pid):
    """Heap, stacks and other private memory now; shared pages in proportion."""
    return memory_kb(pid, "smaps_rollup", "Pss_Anon")


def describe():
    model = re.search(r"model name\s*:\s*(.*)", read("/proc/cpuinfo"))
    total = re.search(r"MemTotal:\s+(\d+)", read("/proc/meminfo"))
    system = re.search(r'PRETTY_NAME="(.*)"', read("/etc/os-release"))
    return {
        "cpu": model.group(1) if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(int(total.group(1)) / 2**20) if total else None,
        "kernel": platform.release(),
        "system": system.group(1) if system else platform.system(),
        "virtual": "hypervisor" in read("/proc/cpuinfo"),
    }


def others_load():
    """Processes that others keep runnable right now: what disturbs a measurement before it begins."""
    return float((read("/proc/loadavg").split() or ["0"])[0])
