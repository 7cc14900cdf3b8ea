"""A real name server on loopback, knot, with one zone; and a question to it, so that a test knows what is said.

It serves `web.internal` with a TTL of one second. It can be given other addresses or none, run without its zone (which it answers with SERVFAIL), be
killed, and come back.
"""
import os
import random
import shutil
import signal
import socket
import struct
import subprocess

from proxies import peers

ZONE = "web.internal"
SERVFAIL = 2


def program():
    return shutil.which("knotd", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")


class NameServer:
    def __init__(self, directory, port):
        self.directory, self.port, self.serial, self.process = directory, port, 0, None
        os.mkdir(self.path(""))
        with open(self.path("knot.conf"), "w") as f:
            f.write(f"""server:
  rundir: {self.directory}
  listen: 127.0.0.1@{port}
database:
  storage: {self.directory}
zone:
- domain: {ZONE}
  storage: {self.directory}
  file: zone
  zonefile-load: whole
  journal-content: none
""")

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, addresses):
        self.serial += 1
        records = "".join(f"@ A {address}\n" for address in addresses)
        with open(self.path("new"), "w") as f:
            f.write(f"$ORIGIN {ZONE}.\n$TTL 1\n@ SOA ns a {self.serial} 1 1 1 1\n@ NS ns\nns A 127.0.0.1\n{records}")
        os.replace(self.path("new"), self.path("zone"))

    def start(self):
        self.process = subprocess.Popen([program(), "-c", self.path("knot.conf")], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)

    def says(self, addresses):
        """Serves these from now on; returns once it does."""
        self.write(addresses)
        if self.process:
            self.process.send_signal(signal.SIGHUP)
        else:
            self.start()
        self.expect((0, set(addresses)))

    def fails(self):
        """Says SERVFAIL from now on: it is started anew and does not find its zone."""
        self.dies()
        os.remove(self.path("zone"))
        self.start()
        self.expect((SERVFAIL, set()))

    def dies(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None

    def expect(self, answer):
        if not peers.wait_until(lambda: self.asked() == answer):
            raise RuntimeError(f"the name server says {self.asked()} instead of {answer}")

    def asked(self):
        """The code of its answer, and the addresses in it; None if there is none."""
        number = random.randrange(1 << 16)
        name = b"".join(bytes([len(label)]) + label.encode() for label in ZONE.split(".")) + b"\0"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.settimeout(0.2)
            try:
                wire.connect(("127.0.0.1", self.port))
                wire.send(struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1))
                said = wire.recv(4096)
            except OSError:
                return None
        _, flags, _, answers, *_ = struct.unpack(">6H", said[:12])
        # Each record: a pointer to the name, type, class, TTL, length, address.
        at, found = 12 + len(name) + 4, set()
        for _ in range(answers):
            found.add(socket.inet_ntoa(said[at + 12:at + 16]))
            at += 16
        return flags & 15, found
