"""What every load runs on: a bridge of its own, the server in corp, clients in the codespace, and a gauge on netbridge.

The gauge reads /proc and asks the bridge's control socket itself: `netbridge status` is a process of its own, and its
start would be measured too.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.world import Bridge, World
from tests.world.addresses import CORP
from tests.world.machine import Machine, Program

from .cost import descendants

ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
EMPTY_SECONDS = 40.0
"""How long the table and the descriptors may take to be as before; a black hole takes the time of a connect."""


class Peer:
    """A load program (load_client, load_server) in a namespace: commands in, JSON lines out."""

    def __init__(self, machine: Machine, module: str, *words: str, enter: int | None = None) -> None:
        self.program: Program = machine.start(
            sys.executable, "-u", "-m", f"bench.{module}", *words,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, log=f"{module}.log", enter=enter,
            environment={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        self._log = machine.folder / f"{module}.log"
        self._rest = b""

    def expect(self, event: str, timeout: float) -> dict[str, Any]:
        """The next line it says, which must be this event."""
        out = self.program.popen.stdout
        assert out is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            data = os.read(out.fileno(), 1 << 16) if select.select([out], [], [], max(0.0, left))[0] else None
            if not data:
                why = "said nothing" if data is None else "ended"
                said = self._log.read_text(errors="replace")[-1500:]
                raise AssertionError(f"{' '.join(self.program.argv[3:])} {why} instead of {event}\n{said}")
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        assert found["event"] == event, found
        return found

    def tell(self, word: str) -> None:
        """Send it a command."""
        sink = self.program.popen.stdin
        assert sink is not None
        sink.write(f"{word}\n".encode())
        sink.flush()

    def close(self) -> None:
        self.program.kill()


class Gauge:
    """Watches one netbridge process: memory four times a second, the rest when asked."""

    def __init__(self, bridge: Bridge, codespace: Machine) -> None:
        self.pid = bridge.pid
        self.codespace = codespace
        self._init = bridge.laptop.init
        self._helpers = [pid for pid in descendants(self.pid) if pid != self.pid]
        self.samples: list[tuple[float, float]] = []
        """(seconds of the monotonic clock, megabytes)."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.25):
            try:
                self.samples.append((time.monotonic(), self.megabytes()))
            except OSError:
                return

    def megabytes(self) -> float:
        """Resident memory now."""
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096 / 1e6

    def most(self, since: float) -> float:
        """The most megabytes since that time."""
        return max((size for when, size in self.samples if when >= since), default=self.megabytes())

    def slope(self, since: float, until: float) -> float:
        """Megabytes a minute that memory grew, by least squares."""
        points = [(when - since, size) for when, size in self.samples if since <= when <= until]
        if len(points) < 3:
            return 0.0
        middle = sum(when for when, _size in points) / len(points)
        spread = sum((when - middle) ** 2 for when, _size in points)
        return 60 * sum((when - middle) * size for when, size in points) / spread

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def open_files(self) -> set[str]:
        """What the descriptors are, as /proc names it."""
        found = set()
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                found.add(f"{name} {os.readlink(f'/proc/{self.pid}/fd/{name}')}")
            except OSError:
                continue
        return found

    def cpu(self) -> float:
        """Processor seconds of netbridge's own process."""
        return _cpu(self.pid)

    def cpu_beside(self) -> float:
        """Processor seconds of what carries the bridge: the ssh program, sshd and the agent."""
        carriers = [pid for pid, words in self.codespace.processes().items() if "sshd" in words or "python" in words]
        return sum(map(_cpu, [*self._helpers, *carriers]))

    def status(self) -> dict[str, Any]:
        """What the bridge says of itself."""
        path = next(Path(f"/proc/{self._init}/root/run/netbridge").glob("*.sock"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
            asker.settimeout(30)
            asker.connect(str(path))
            asker.sendall(b'{"ask": "status"}\n')
            received = bytearray()
            while not received.endswith(b"\n"):
                data = asker.recv(1 << 20)
                assert data, "the bridge hung up"
                received += data
        answer: dict[str, Any] = json.loads(received)
        return answer

    def flows(self) -> int:
        """TCP flows in the bridge's table."""
        return int(self.status()["totals"].get("tcp", 0))


def _cpu(pid: int) -> float:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / TICKS


@dataclass
class Outcome:
    """What one load showed."""

    name: str
    text: str = ""
    """The line for people."""
    faults: list[str] = field(default_factory=list)
    """What must not be: lost bytes, flows that stay, memory that grows."""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """For a file."""
        return {"text": self.text, "faults": self.faults, **self.facts}

    def must(self, right: bool, fault: str) -> None:
        """Note a fault unless `right`."""
        if not right:
            self.faults.append(fault)


class Stage:
    """One bridge with everything around it. Built for one load, so that each begins clean."""

    congestion = ""
    """Of the clients' connections; empty: the kernel's own choice."""

    def __init__(self, world: World, bridge: Bridge) -> None:
        self.world = world
        self.bridge = bridge
        self.machine = world.laptop if bridge.sandbox else world.codespace
        self.enter = bridge.inside() if bridge.sandbox else None
        self.addresses = list(CORP.values())
        self.peers: list[Peer] = []
        self.server = Peer(world.corp, "load_server", *self.addresses)
        self.peers.append(self.server)
        self.server.expect("ready", 10)
        self.gauge = Gauge(bridge, world.codespace)
        self.before, self.files = self.gauge.descriptors(), self.gauge.open_files()
        assert not self.gauge.flows(), "this bridge has flows already"
        self.tun = self._tun()

    def _tun(self) -> str:
        """The bridge's interface over there."""
        route = self.machine.run("ip", "-4", "route", "get", CORP[4], enter=self.enter).check().stdout.split()
        return route[route.index("dev") + 1]

    def tun_sent(self) -> tuple[int, int]:
        """(packets the kernel over there gave to the TUN, packets it dropped because the TUN's queue was full)."""
        words = self.machine.run("ip", "-j", "-s", "link", "show", self.tun, enter=self.enter).check().stdout
        sent = json.loads(words)[0]["stats64"]["tx"]
        return sent["packets"], sent["dropped"]

    def client(self, role: str, **options: Any) -> Peer:
        """Start a client in the codespace (or the sandbox)."""
        words = json.dumps({"congestion": self.congestion, **options})
        peer = Peer(self.machine, "load_client", role, words, enter=self.enter)
        self.peers.append(peer)
        return peer

    def server_says(self, word: str = "stats") -> dict[str, Any]:
        self.server.tell(word)
        return self.server.expect("stats", 30)

    def calm(self, seconds: float = 20.0) -> float:
        """Wait until hardly a packet moves any more, at most so long; how long it took."""
        begun, before = time.monotonic(), -1
        while (now := self.tun_sent()[0]) - before > 100 and time.monotonic() < begun + seconds:
            before = now
            time.sleep(0.5)
        return time.monotonic() - begun

    @contextmanager
    def measured(self, outcome: Outcome) -> Iterator[None]:
        """Around a load: memory before, most and after, processor time, and whether everything goes back to nothing."""
        gauge, facts = self.gauge, outcome.facts
        time.sleep(0.3)
        begun = time.monotonic()
        facts["mb_before"] = round(gauge.megabytes(), 1)
        cpu, beside = gauge.cpu(), gauge.cpu_beside()
        packets, dropped = self.tun_sent()
        yield
        passed = time.monotonic() - begun
        facts["seconds"] = round(passed, 1)
        facts["cpu"] = round(gauge.cpu() - cpu, 2)
        facts["cpu_ssh_agent"] = round(gauge.cpu_beside() - beside, 2)
        later = self.tun_sent()
        facts["tun_packets"], facts["tun_dropped"] = later[0] - packets, later[1] - dropped
        facts["mb_most"] = round(gauge.most(begun), 1)
        self.settle(outcome)
        facts["mb_after"] = round(gauge.megabytes(), 1)
        facts["counters"] = gauge.status()["counters"]

    def settle(self, outcome: Outcome) -> None:
        """Wait until nothing of the load is left in the bridge."""
        begun = time.monotonic()
        # descriptors first: the one by which the bridge was asked for its flows may still be closing
        while self.gauge.descriptors() > self.before or self.gauge.flows():
            if time.monotonic() > begun + EMPTY_SECONDS:
                break
            time.sleep(0.1)
            if time.monotonic() > begun + 3 and "slow_to_end" not in outcome.facts:
                new = sorted(self.gauge.open_files() - self.files)[:10]
                outcome.facts["slow_to_end"] = {"files": new, "flows": self.gauge.status()["flows"][:10]}
        outcome.facts["empty_after"] = round(time.monotonic() - begun, 1)
        flows = self.gauge.flows()
        # the least of half a second: a bridge opens a file now and then for a moment, as the one it is asked through
        looks: list[int] = []
        while len(looks) < 5:
            time.sleep(0.1)
            looks.append(self.gauge.descriptors())
        left = min(looks) - self.before
        outcome.facts["flows_left"] = flows
        outcome.facts["descriptors_left"] = left
        outcome.must(not flows, f"{flows} flows are left")
        outcome.must(left <= 0, f"{left} descriptors are left")
        outcome.must(self.bridge.program.running, "the bridge ended")
        outcome.must("Traceback" not in self.bridge.said, "the bridge said Traceback")

    def close(self) -> None:
        self.gauge.close()
        for peer in self.peers:
            peer.close()
