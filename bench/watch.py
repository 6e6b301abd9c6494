"""What a terminal UI costs: `python bench/watch.py [--flows 5000] [--rate 2000] [--seconds 5] [--rounds 4]`.

Needs root. On a sandbox bridge in namespaces made for it:

    bulk    iperf3 down while many flows are open and talk, by turns without and with a UI attached: throughput, and the
            bridge's processor time for a gigabyte, which other loads of this machine disturb less
    resting the bridge's share of a core with these flows alone
    churn   so many new connections a second besides, with a UI attached

and in all what the UI itself takes of a core, and how often it drew. The UI is the real one, on a terminal of
120×40 that is read as fast as it comes.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import statistics
import struct
import sys
import termios
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)
sys.path.insert(1, str(ROOT / "src"))

from bench import loads
from bench.load_stage import Stage, _cpu

from tests.world import Bridge, World, missing
from tests.world.bridge import NETBRIDGE, environment
from tests.world.machine import Machine

STILL = 0.03
"""Seconds without a byte between two drawings."""


class Attached:
    """`netbridge attach` on a terminal of its own."""

    def __init__(self, machine: Machine, width: int = 120, height: int = 40) -> None:
        self._terminal, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.program = machine.start(
            *NETBRIDGE, "attach", stdin=slave, stdout=slave, stderr=slave,
            environment={**environment(), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
        )
        os.close(slave)
        self.drawn = self.bytes = 0
        """How often it drew, and what that were."""
        self.said = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        last = 0.0
        while True:
            try:
                data = os.read(self._terminal, 1 << 16)
            except OSError:
                return
            now = time.monotonic()
            if now - last > STILL:
                self.drawn += 1
            last = now
            self.bytes += len(data)
            self.said = (self.said + data)[-(1 << 16):]

    def ready(self) -> None:
        deadline = time.monotonic() + 30
        while b"running" not in self.said:
            assert self.program.running, self.said.decode(errors="replace")
            assert time.monotonic() < deadline, "it shows nothing"
            time.sleep(0.1)

    def close(self) -> None:
        os.write(self._terminal, b"d")
        try:
            self.program.wait(10)
        finally:
            self.program.kill()
            os.close(self._terminal)


def watched(ui: Attached, seconds: float) -> dict[str, float]:
    """Processor share and drawings a second of a UI, over some time."""
    before, drawn, size, begun = _cpu(ui.program.pid), ui.drawn, ui.bytes, time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - begun
    return {
        "core": round((_cpu(ui.program.pid) - before) / passed, 3), "drawn": round((ui.drawn - drawn) / passed, 2),
        "kB/s": round((ui.bytes - size) / passed / 1000, 1),
    }


def resting(stage: Stage, seconds: float) -> float:
    """The bridge's share of a core while its flows say a word now and then."""
    cpu = stage.gauge.cpu()
    time.sleep(2 * seconds)
    return round((stage.gauge.cpu() - cpu) / (2 * seconds), 4)


def churn(stage: Stage, rate: float, seconds: float, ui: Attached | None = None) -> dict[str, Any]:
    """New connections, with a UI that watches or without."""
    client = stage.client("churn", addresses=stage.addresses, rate=rate, seconds=seconds + 2)
    time.sleep(1)
    cpu = stage.gauge.cpu()
    result: dict[str, Any] = {}
    if ui:
        result["ui"] = watched(ui, seconds)
    else:
        time.sleep(seconds)
    result["bridge's core"] = round((stage.gauge.cpu() - cpu) / seconds, 3)
    churned = client.expect("churned", seconds + 90)
    return result | {key: churned[key] for key in ("begun", "done", "errors", "rate")}


def measure(world: World, flows: int, rate: float, seconds: float, rounds: int) -> dict[str, Any]:
    bridge = Bridge(world.laptop, "sandbox", "--limit", f"tcp-flows={2 * flows + 10_000}")
    stage = None
    result: dict[str, Any] = {"flows": flows, "rate": rate}
    try:
        bridge.ready()
        stage = Stage(world, bridge)
        place = loads.Place(world.laptop, world.corp, stage.enter)
        holding = stage.client(
            "hold", addresses=stage.addresses, flows=flows, rate=0.05,
            seconds=rounds * 2 * (seconds + 8) + 6 * seconds + 40,
        )
        result["opened"] = holding.expect("opened", 90)["opened"]
        bulk: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
        seen = []
        for number in range(2 * rounds):
            name = "with" if number % 2 else "without"
            ui = Attached(world.laptop) if number % 2 else None
            try:
                if ui:
                    ui.ready()
                    time.sleep(1)
                cpu, at, spent = stage.gauge.cpu(), time.monotonic(), _cpu(ui.program.pid) if ui else 0.0
                drawn = ui.drawn if ui else 0
                gigabits, gigabytes = loads.iperf(place, seconds, reverse=True)
                passed = time.monotonic() - at
                bulk[name].append((gigabits, (stage.gauge.cpu() - cpu) / gigabytes))
                if ui:
                    seen.append(((_cpu(ui.program.pid) - spent) / passed, (ui.drawn - drawn) / passed))
            finally:
                if ui:
                    ui.close()
        result["bulk"] = {
            name: {
                "gbit/s": round(statistics.median(rate for rate, _ in found), 2),
                "cpu s/GB": round(statistics.median(cpu for _, cpu in found), 3),
                "best gbit/s": round(max(rate for rate, _ in found), 2),
                "least cpu s/GB": round(min(cpu for _, cpu in found), 3),
            } for name, found in bulk.items()
        }
        result["ui beside bulk"] = {
            "core": round(statistics.median(core for core, _ in seen), 3),
            "drawn": round(max(drawn for _, drawn in seen), 2),
        }
        shares = {"without": resting(stage, seconds)}
        ui = Attached(world.laptop)
        try:
            ui.ready()
            time.sleep(1)
            shares["with"] = resting(stage, seconds)
        finally:
            ui.close()
        result["bridge's core, flows open, nothing else"] = shares
        result["churn without"] = churn(stage, rate, seconds)
        ui = Attached(world.laptop)
        try:
            ui.ready()
            result["ui, flows open"] = watched(ui, seconds)
            result["churn with"] = churn(stage, rate, seconds, ui)
        finally:
            ui.close()
    finally:
        if stage is not None:
            stage.close()
        bridge.close()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what a terminal UI costs.")
    parser.add_argument("--flows", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=2000.0, help="new connections a second (default 2000)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement (default 5)")
    parser.add_argument("--rounds", type=int, default=4, help="of the bulk, each without and with (default 4)")
    arguments = parser.parse_args()
    if reason := missing():
        print(f"watch: cannot measure here: {reason}", file=sys.stderr)
        return 1
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"watch: this machine is not idle (load {load:.1f}); figures will be low", file=sys.stderr)
    with World() as world:
        world.widen_ports()
        result = measure(world, arguments.flows, arguments.rate, arguments.seconds, arguments.rounds)
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
