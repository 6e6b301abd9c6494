"""TCP over lossy lines, ours beside Linux's CUBIC: `python bench/lossy.py [--rate MBIT] [--congestion NAME]`.

Each cell of the table is one loss and one round trip. In each, Linux sends to Linux, our stack to Linux, and Linux to
our stack, over the same device with the same seeds, one after the other; the medians are compared. Where a line carries
little, several seeds run side by side.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parent.parent
    sys.path[0] = str(ROOT)
    sys.path.insert(1, str(ROOT / "src"))

from bench.lossy_line import Conditions, Line, Measured, precise_loop
from bench.priority import first_served
from bench.report import grid

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import CongestionControl, NewReno
from netbridge.stack.tcp.cubic import Cubic

LOSSES = (0.0, 0.001, 0.01, 0.03)
ROUND_TRIPS = {0.001: 0.8, 0.02: 2.0, 0.1: 4.0}
"""Seconds there and back, and how long a run takes."""
SHORT = 0.01
MORE_SEEDS = 5
"""On round trips below `SHORT`, where one timeout is a quarter of a run."""
RATE = 50e6
"""Bits a second: what this process forwards with half a processor, so that no end waits for Python."""
SMALLEST_QUEUE = 128 * 1024
"""Bytes; more where a round trip holds more."""
SEEDS = 3
MOST_SEEDS = 9
TOGETHER = 40e6
"""Bits a second that lines running side by side may carry in all, by what theory expects of each."""
RARE = 0.001
"""Loss up to which lines run one by one."""
SEGMENT = 1448
ENDS = {"linux": "Linux > Linux", "sends": "ours > Linux", "takes": "Linux > ours"}
CONTROLS: dict[str, Callable[[int], CongestionControl]] = {"cubic": Cubic, "newreno": NewReno}
LEAST = 0.9
"""Of Linux's goodput, required."""


def expected(conditions: Conditions) -> float:
    """Bits a second by Mathis' formula (1997), which CUBIC keeps to on short paths."""
    if not conditions.loss:
        return conditions.rate * 8
    return min(conditions.rate * 8, 1.22 * SEGMENT * 8 / (conditions.rtt * math.sqrt(conditions.loss)))


async def side_by_side(
    conditions: Conditions, seeds: Sequence[int], seconds: float, near: TcpConfig | None, *, sends: bool
) -> list[Measured]:
    """One run for each seed, all at once."""
    lines = [Line(conditions, seed=seed, near=near, sends=sends) for seed in seeds]
    try:
        ready = asyncio.Barrier(len(lines))
        return await asyncio.gather(*(line.run(seconds, ready) for line in lines))
    finally:
        for line in lines:
            line.close()


def measure_cell(conditions: Conditions, seconds: float, config: TcpConfig) -> dict[str, Any]:
    """All three pairs of ends over one kind of line."""
    each = expected(conditions)
    # Where loss is rare, a run is over before the first quick seconds are forgotten: theory says too little.
    together = conditions.loss > RARE and each < TOGETHER / SEEDS
    one_by_one = MORE_SEEDS if conditions.rtt < SHORT else SEEDS
    count = min(int(TOGETHER / each), MOST_SEEDS) if together else one_by_one
    if not conditions.loss:
        count = 1  # chance has no part in it
    batches = [range(count)] if together else [range(seed, seed + 1) for seed in range(count)]
    cell: dict[str, Any] = {"loss": conditions.loss, "rtt": conditions.rtt, "seeds": count}
    found: dict[str, list[Measured]] = {end: [] for end in ENDS}
    for batch in batches:  # all ends of a batch in a row, so that what else this machine does strikes all alike
        for end, near, sends in (("linux", None, True), ("sends", config, True), ("takes", config, False)):
            with asyncio.Runner(loop_factory=precise_loop) as runner:
                found[end] += runner.run(side_by_side(conditions, batch, seconds, near, sends=sends))
    for end, measured in found.items():
        cell[end] = round(statistics.median(one.goodput for one in measured) / 1e6, 3)
        cell[f"{end}_all"] = [round(one.goodput / 1e6, 3) for one in measured]
        cell[f"{end}_busy"] = round(max(one.busy for one in measured), 2)
        cell[f"{end}_rtt"] = round(statistics.median(one.handshake for one in measured), 5)
    for end in ("sends", "takes"):
        cell[f"{end}_ratio"] = round(cell[end] / cell["linux"], 3) if cell["linux"] else None
    return cell


def measure(
    *, rate: float = RATE, congestion: str = "cubic", losses: Sequence[float] = LOSSES,
    round_trips: Sequence[float] = tuple(ROUND_TRIPS),
) -> dict[str, Any]:
    """The whole table."""
    config = TcpConfig(congestion=CONTROLS[congestion])
    cells = []
    for rtt in round_trips:
        for loss in losses:
            queue = max(SMALLEST_QUEUE, int(rate / 8 * rtt))
            print(f"measuring TCP at {loss:.1%} loss, {rtt * 1e3:g} ms …", file=sys.stderr, flush=True)
            with first_served():
                cells.append(measure_cell(Conditions(loss, rtt, rate / 8, queue), ROUND_TRIPS[rtt], config))
    return {"rate": rate / 1e6, "congestion": congestion, "cells": cells}


def requirements(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What is required of the table, in the form of `report.requirements`."""
    found = []
    for end in ("sends", "takes"):
        ratios = [cell[f"{end}_ratio"] for cell in result["cells"] if cell[f"{end}_ratio"] is not None]
        value = min(ratios, default=None)
        found.append({
            "what": f"TCP, {ENDS[end]} / {ENDS['linux']}, worst cell", "measured": value, "required": f"≥ {LEAST} ×",
            "scale": "ratio", "met": None if value is None else value >= LEAST,
        })  # fmt: skip
    return found


def text(result: dict[str, Any]) -> str:
    """The table for people."""
    lines = [
        ["loss", "rtt", *ENDS.values(), "ratio", "ratio", "handshakes", "busy"],
        ["", "ms", "Mbit/s", "Mbit/s", "Mbit/s", "sending", "taking", "ms", ""],
    ]
    for cell in result["cells"]:
        lines.append([
            f"{cell['loss']:.1%}", f"{cell['rtt'] * 1e3:g}", *(f"{cell[end]:.2f}" for end in ENDS),
            f"{cell['sends_ratio']:.2f}", f"{cell['takes_ratio']:.2f}",
            " ".join(f"{cell[f'{end}_rtt'] * 1e3:.1f}" for end in ENDS),
            " ".join(f"{cell[f'{end}_busy']:.1f}" for end in ENDS),
        ])  # fmt: skip
    head = f"TCP over a line of {result['rate']:g} Mbit/s, ours with {result['congestion']}, Linux with CUBIC"
    return f"{head}; medians\n\n{grid(lines)}"


def main() -> int:
    parser = argparse.ArgumentParser(description="TCP over lossy lines, ours beside Linux's.")
    parser.add_argument("--rate", type=float, default=RATE / 1e6, help="Mbit/s (default %(default)g)")
    parser.add_argument("--congestion", default="cubic", choices=CONTROLS, help="of ours (default %(default)s)")
    parser.add_argument("--loss", type=float, nargs="*", default=LOSSES, help="probabilities")
    parser.add_argument("--rtt", type=float, nargs="*", default=list(ROUND_TRIPS), help="seconds")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    result = measure(
        rate=arguments.rate * 1e6, congestion=arguments.congestion, losses=arguments.loss, round_trips=arguments.rtt
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(text(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
