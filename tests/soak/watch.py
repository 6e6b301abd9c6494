"""What can be seen of a bridge from inside (`stormy.py` tells) and outside (/proc), and what of it is wrong.

`Watch.look` takes a sample; `faults` says what may never be, however busy the bridge; `remains` what may not be when
nobody uses it any more; `growth` whether memory grew while the work was the same.
"""

from __future__ import annotations

import json
import signal
import statistics
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from tests.world import Bridge, Machine

MEGABYTE = 1_000_000
SILENT = 15.0
"""Seconds without vitals after which the event loop stands still."""
DEAD = 60.0
"""Seconds without vitals after which it will not move again."""
BESIDE_FLOWS = 40
"""Descriptors that are no flow's: SSH, epolls, the control socket, what asks for names."""
TASKS = 60
"""Tasks of the bridge itself and of some names that are asked for; flows have none."""
TIMERS = 200
"""Timers beside those of flows; 64 stale ones are tolerated by design."""
MOST_MEMORY = 250 * MEGABYTE
AGENTS_EVERY = 5.0
"""Seconds between two looks for the agent's processes where they may change."""
WARM_UP = 0.25
"""Part of a run in which memory may find its size."""
GROWTH = 0.3
"""Megabytes a minute that count as none."""
JUDGED = 5.0
"""Minutes after the warm-up below which a slope says nothing."""
LEFT_BLOCKS = 30_000
"""Blocks of Python's memory (an object has one or more) that may be there more than before the traffic: code that was
loaded late, names in caches. One object left of each connection would be twice as many in a long soak."""
NOTHING = (
    "flows", "tcp_flows", "requests", "connecting", "handshaking", "link_queue", "held", "unread", "in_flight",
    "kept_back",
)  # fmt: skip
"""What is zero when the traffic has stopped."""


def resident(pid: int) -> int:
    """Bytes of resident memory; 0 when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


def descriptors(pid: int) -> int:
    try:
        return sum(1 for _entry in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


class Watch:
    """Samples of one bridge."""

    def __init__(
        self, bridge: Bridge, vitals: Path, machine: Machine, before: set[int], *, troubled: bool = False
    ) -> None:
        """`machine` is the one with the agent, `before` its processes before the bridge started. `troubled`: the bridge
        is attacked and disturbed on purpose, so it warns, and its connection may break and come back.
        """
        self.bridge = bridge
        self.machine = machine
        self.troubled = troubled
        self._before = before
        self._vitals = open(vitals, encoding="ascii")
        self._line = ""
        self._stands_at = ""
        self._read_at = time.monotonic()
        self.samples: list[dict[str, Any]] = []
        self.agents = self._find_agents()
        self._found_at = time.monotonic()
        self.look()
        self.samples.clear()  # it was still starting
        while len(self.samples) < 2:
            time.sleep(0.1)
            self.look()
        del self.samples[0]

    def _find_agents(self) -> list[int]:
        return [
            pid for pid, words in self.machine.processes(below=True).items()
            if pid not in self._before and pid != self.bridge.pid and "python" in words
            and " up " not in words and "tests.hostile" not in words
        ]  # fmt: skip

    @property
    def latest(self) -> dict[str, Any]:
        return self.samples[-1]

    @property
    def dead(self) -> bool:
        """Whether nothing is to be expected of the bridge any more."""
        return not self.bridge.program.running or time.monotonic() - self._read_at > DEAD

    def close(self) -> None:
        self._vitals.close()

    def look(self) -> None:
        """Take what was told since, and add to the newest what is seen from outside."""
        news = False
        for line in self._lines():
            self.samples.append(json.loads(line))
            news = True
        if self.troubled and time.monotonic() - self._found_at > AGENTS_EVERY:
            self.agents = self._find_agents()
            self._found_at = time.monotonic()
        if news:
            self._read_at = time.monotonic()
            self.latest["agent_rss"] = sum(map(resident, self.agents))
            self.latest["agent_descriptors"] = sum(map(descriptors, self.agents))
            self.latest["again_up"] = self._kernel_retransmissions()

    def _lines(self) -> Iterator[str]:
        while part := self._vitals.readline():
            self._line += part
            if not self._line.endswith("\n"):
                return
            yield self._line
            self._line = ""

    def _kernel_retransmissions(self) -> int:
        """Segments the codespace's kernel sent again; its SSH connection, which loses nothing, included."""
        lines = Path(f"/proc/{self.machine.init}/net/snmp").read_text().splitlines()
        names, values = (line.split() for line in lines if line.startswith("Tcp:"))
        return int(values[names.index("RetransSegs")])

    def faults(self) -> list[str]:
        """What is wrong now and would be at any time."""
        wrong = []
        now = self.latest
        levels = {"error", "critical"} if self.troubled else {"warning", "error", "critical"}
        if not self.bridge.program.running:
            wrong.append(f"netbridge ended with status {self.bridge.program.wait()}")
        elif time.monotonic() - self._read_at > SILENT:
            wrong.append(f"netbridge's event loop has been standing still for {SILENT:g} s, here: {self._where()}")
        wrong += [
            f"netbridge said: {record}" for record in self.bridge.events
            if record["event"] in {"lost", "traceback"} or record.get("level") in levels
        ]  # fmt: skip
        if "Traceback" in self.bridge.said:
            wrong.append("netbridge printed a traceback: " + self.bridge.said.partition("Traceback")[2][:2000])
        if now["descriptors"] - now["flows"] > BESIDE_FLOWS:
            wrong.append(f"{now['descriptors']} descriptors are open for {now['flows']} flows")
        if now["tasks"] > TASKS:
            wrong.append(f"there are {now['tasks']} tasks")
        flows = max(sample["flows"] for sample in self.samples[-60:]) if self.troubled else now["tcp_flows"]
        if now["timers"] > 3 * flows + TIMERS:
            wrong.append(f"there are {now['timers']} timers for {flows} flows")
        if now["rss"] > MOST_MEMORY:
            wrong.append(f"netbridge holds {now['rss'] / MEGABYTE:.0f} MB")
        wrong += [f"{now[name]} × {what}" for name, what in (
            ("broken", "a callback of a flow failed"), ("garbage", "an object that cannot be freed"),
            *(() if self.troubled else [("bad_checksum", "a segment with a wrong TCP checksum")]),
        ) if now[name]]  # fmt: skip
        if self.troubled:
            if not self.agents:
                wrong.append("no agent process is left")
        elif lost := [pid for pid in self.agents if not resident(pid)]:
            wrong.append(f"agent processes ended: {lost}")
        return wrong

    def _where(self) -> str:
        """The stack of an event loop that stands still, asked for once."""
        if not self._stands_at:
            before = len(self.bridge.said)
            self.bridge.program.signal(signal.SIGUSR1)
            time.sleep(1)
            self._stands_at = self.bridge.said[before:][:3000] or "(it does not say)"
        return self._stands_at

    def remains(self) -> list[str]:
        """What is left that should be gone, all traffic having stopped."""
        first, now = self.samples[0], dict(self.latest)
        for name in ("flows", "tcp_flows", "in_flight", "descriptors"):
            # An attacker's addresses have no kernel behind them that would end what it left: a quarter of an hour.
            now[name] = max(now[name] - now["strangers"], 0)
        left = [f"{now[name]} left of {name}" for name in NOTHING if now[name]]
        for name, more in (
            ("tasks", 0), ("descriptors", 2), ("agent_descriptors", 0), ("timers", TIMERS // 2),
            ("blocks", LEFT_BLOCKS),
        ):  # fmt: skip
            if now[name] > first[name] + more:
                left.append(f"{name}: {now[name]}, and {first[name]} before the traffic")
        return left

    def slope(self, key: str) -> float:
        """Megabytes a minute: the median slope (Theil and Sen) of each half minute's lowest value after the warm-up."""
        points = self._steady(key)
        slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2)]
        return statistics.median(slopes) if slopes else 0.0

    def growth(self, keys: tuple[str, ...] = ("rss", "agent_rss")) -> list[str]:
        """Which memory grows."""
        grows = []
        for key in keys:
            points = self._steady(key)
            if points and points[-1][0] - points[0][0] >= JUDGED and self.slope(key) > GROWTH:
                grows.append(f"{key} grows by {self.slope(key):.2f} MB a minute")
        return grows

    def _steady(self, key: str) -> list[tuple[float, float]]:
        """(minutes, megabytes) of each half minute after the warm-up."""
        begun, ended = self.samples[0]["time"], self.busy_until or self.latest["time"]
        lowest: dict[int, float] = {}
        for sample in self.samples:
            at = sample["time"]
            if key in sample and begun + (ended - begun) * WARM_UP <= at <= ended:
                half = int((at - begun) / 30)
                lowest[half] = min(lowest.get(half, float("inf")), sample[key] / MEGABYTE)
        return [(half / 2, value) for half, value in sorted(lowest.items())]

    busy_until = 0.0
    """When the traffic stopped, by the vitals' clock; 0 while it runs."""
