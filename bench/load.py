"""Load a bridge until it hurts: `python bench/load.py [--only NAME,NAME] [--scale 0.1] [--way sandbox] [--json FILE]`.

    flows        10,000 TCP flows at once, each with a small message now and then
    connections  2,000 new connections a second for a minute
    sleepers     1,000 downloads and 1,000 uploads that nobody reads, beside an honest user
    holes        100 connects that nobody answers, beside an honest user
    flood-…      20,000 SYNs a second to an open port, a closed port, a black hole, silent networks

Needs root. Everything runs in namespaces made for it, bounded in count and time, each load on a bridge of its own.
Nothing may be lost and everything must be back to nothing afterwards; what is not so is printed as a fault (exit 1).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)
sys.path.insert(1, str(ROOT / "src"))

from bench import load_flood, load_scenes
from bench.load_stage import Outcome, Stage
from bench.report import grid, write
from bench.run import machine_facts

from tests.world import Bridge, World, missing
from tests.world.addresses import CODESPACE, SSH_PORT

WAYS = {
    "openssh": (f"ssh://root@{CODESPACE[4]}:{SSH_PORT}", "--ssh", "openssh"),
    "asyncssh": (f"ssh://root@{CODESPACE[4]}:{SSH_PORT}", "--ssh", "asyncssh"),
    "sandbox": ("sandbox",),
}
Scene = Callable[[Stage, float], Outcome]


COLUMNS = {
    "seconds": "s",
    "mb_before": "MB before",
    "mb_most": "most",
    "mb_after": "after",
    "mb_slope": "MB/min",
    "cpu": "CPU s",
    "cpu_ssh_agent": "ssh+agent s",
    "tun_dropped": "TUN drops",
    "empty_after": "empty after s",
}
"""Figures that every load has, by their names in the JSON."""


def _count(number: float, scale: float) -> int:
    return max(1, round(number * scale))


SCENES: dict[str, Scene] = {
    "flows": lambda stage, scale: load_scenes.many_flows(
        stage, _count(10_000, scale), 0.4, max(5.0, 30.0 * min(1.0, scale))
    ),
    "connections": lambda stage, scale: load_scenes.many_connections(
        stage, 2000.0, max(5.0, 60.0 * min(1.0, scale))
    ),
    "sleepers": lambda stage, scale: load_scenes.sleepers(
        stage, _count(1000, scale), 2_000_000, max(5.0, 20.0 * min(1.0, scale))
    ),
    "holes": lambda stage, scale: load_scenes.black_holes(stage, _count(100, scale), max(3.0, 10.0 * min(1.0, scale))),
    **{
        f"flood-{aim}": lambda stage, scale, aim=aim: load_flood.flood(  # type: ignore[misc]
            stage, aim, 20_000, max(3.0, 10.0 * min(1.0, scale))
        )
        for aim in load_flood.AIMS
    },
}
"""Each with the sizes that --scale multiplies; no length of time grows beyond the one that is asked for."""


def run(world: World, way: str, name: str, scale: float, congestion: str) -> Outcome:
    """One load on a bridge of its own."""
    target, *options = WAYS[way]
    bridge = Bridge(world.laptop, target, *options)
    stage = None
    try:
        bridge.ready()
        stage = Stage(world, bridge)
        stage.congestion = congestion
        return SCENES[name](stage, scale)
    except Exception as error:
        return Outcome(name, "could not be measured", [f"{type(error).__name__}: {error}"[:1000]])
    finally:
        if stage:
            stage.close()
        bridge.close()


def table(outcomes: dict[str, Outcome]) -> str:
    """The common figures as a grid, then a line of its own for each load."""
    rows = [["", *COLUMNS.values(), "faults"]]
    for name, outcome in outcomes.items():
        rows.append([name, *(str(outcome.facts.get(key, "–")) for key in COLUMNS), str(len(outcome.faults))])
    lines = [grid(rows), ""]
    for name, outcome in outcomes.items():
        lines.append(f"{name}: {outcome.text}")
        lines += [f"  FAULT {fault}" for fault in outcome.faults]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Load a bridge until it hurts.")
    parser.add_argument("--only", default="", help=f"comma-separated: {', '.join(SCENES)}; flood is all floods")
    parser.add_argument("--scale", type=float, default=1.0, help="so much of every count and time (default 1)")
    parser.add_argument("--way", choices=WAYS, default="openssh", help="the transport (default openssh)")
    parser.add_argument(
        "--congestion", default="cubic", help="TCP congestion control over there (default cubic, as codespaces have)"
    )
    parser.add_argument("--json", type=Path, help="where to write (default bench/results/load-<time>.json)")
    arguments = parser.parse_args()
    wished = [name for name in arguments.only.split(",") if name] or list(SCENES)
    chosen = [name for name in SCENES if name in wished or name.partition("-")[0] in wished]
    if unknown := [name for name in wished if name not in SCENES and name != "flood"]:
        parser.error(f"no such load: {', '.join(unknown)}; there are {', '.join(SCENES)}")
    if reason := missing():
        print(f"load: cannot measure here: {reason}", file=sys.stderr)
        return 1
    facts = machine_facts()
    if facts["load"] > 0.5:
        print(f"load: this machine is not idle (load {facts['load']:.1f}); figures will be low", file=sys.stderr)
    outcomes: dict[str, Outcome] = {}
    with World() as world:
        world.widen_ports()
        for name in chosen:
            print(f"{time.strftime('%H:%M:%S')} {name} over {arguments.way} …", file=sys.stderr, flush=True)
            outcomes[name] = outcome = run(
                world, arguments.way, name, arguments.scale, arguments.congestion
            )
            print(f"  {outcome.text}", *outcome.faults, sep="\n  ", file=sys.stderr, flush=True)
    result: dict[str, Any] = {
        "machine": facts,
        "way": arguments.way,
        "scale": arguments.scale,
        "congestion": arguments.congestion,
        "loads": {name: outcome.record for name, outcome in outcomes.items()},
    }
    print(table(outcomes))
    write(result, arguments.json, "load-")
    return int(any(outcome.faults for outcome in outcomes.values()))


if __name__ == "__main__":
    raise SystemExit(main())
