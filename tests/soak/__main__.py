"""`python -m tests.soak [--minutes N] [--seed N] [--transport openssh|asyncssh|sandbox] [--loss P] [--reorder P]`.

`--troubled`: and it is attacked and disturbed meanwhile, as `besieged.py` and `misfortunes.py` say.

Prints a line each ten seconds and a table at the end. Exit status 1 when anything was wrong, with what it was.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.world import Bridge, World, missing
from tests.world.addresses import CODESPACE, SSH_PORT

from .besieged import Attackers, HostileAgents
from .misfortunes import Misfortunes, small_disk
from .run import Soak, idle_options, stormy
from .trouble import Trouble
from .watch import Watch
from .workers import Place

PATIENCE = 360.0
"""Seconds for everything to go: a UDP flow's time is 300 s; a reset that was lost is found out by two keepalives."""

KEEPALIVE = 10.0
"""Seconds, where attackers leave connections that nobody answers for: ten times this long until they are given up."""

ENDS = (0, 143)
"""How a bridge may end that is told to: by itself, or by the end of the command in its sandbox."""


def start(world: World, transport: str, prefix: tuple[str, ...], options: list[str]) -> Bridge:
    if transport == "sandbox":
        return Bridge(world.laptop, "sandbox", *options, prefix=prefix)
    target = f"ssh://root@{CODESPACE[4]}:{SSH_PORT}"
    return Bridge(world.laptop, target, "--ssh", transport, *options, prefix=prefix)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description="Mixed traffic over a bad link: a line each ten seconds, a table at the end (root).",
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="of traffic (20); the end comes some minutes later")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="another each time")
    parser.add_argument(
        "--transport", choices=["openssh", "asyncssh", "sandbox"], default="openssh", help="what carries it (openssh)",
    )
    parser.add_argument("--loss", type=float, default=0.01, help="of the packets, each way (0.01)")
    parser.add_argument("--reorder", type=float, default=0.01, help="overtaken, each way (0.01)")
    parser.add_argument("--udp-idle", type=float, default=0.0, help="seconds; the bridge's own 300 make the end long")
    parser.add_argument("--troubled", action="store_true", help="attacks and misfortunes beside the traffic")
    given = parser.parse_args()
    if given.troubled and given.transport == "sandbox":
        parser.error("--troubled needs a codespace to attack from")
    if reason := missing():
        print(f"soak: not run: {reason}")
        return 1
    print(
        f"soak: {given.minutes:g} minutes over {given.transport}, {given.loss:.1%} lost and {given.reorder:.1%} "
        f"overtaken each way, --seed {given.seed}", flush=True,
    )  # fmt: skip
    with World() as world:
        vitals = world.folder / "vitals"
        machine = world.laptop if given.transport == "sandbox" else world.codespace
        before = set(machine.processes(below=True))
        weather = "--loss", str(given.loss), "--reorder", str(given.reorder)
        options = idle_options(given.udp_idle) if given.udp_idle else []
        if given.troubled:
            world.know_neighbours()
            options += [*small_disk(world), "--limit", f"tcp-keepalive={KEEPALIVE:g}"]
        bridge = start(world, given.transport, stormy(given.seed, vitals, *weather), options)
        begun = time.monotonic()
        try:
            bridge.ready()
            watch = Watch(bridge, vitals, machine, before, troubled=given.troubled)
            troubles: list[Trouble[Any]] = []
            if given.troubled:
                troubles += Misfortunes(world, bridge, watch, given.seed), Attackers(world, bridge, given.seed)
                troubles.append(HostileAgents(given.seed))
            place = Place(machine, bridge.inside() if bridge.sandbox else None)
            soak = Soak(
                world, place, watch, seed=given.seed, seconds=given.minutes * 60, patience=PATIENCE,
                losses=bool(given.loss and given.reorder), troubles=troubles, say=lambda line: print(line, flush=True),
            )  # fmt: skip
            wrong = soak.run()
            print(f"\n{soak.table()}\n")
            watch.close()
            stopping = time.monotonic()
            if not watch.dead and bridge.stop() not in ENDS:
                wrong.append(f"netbridge ended with a status that says failure: {bridge.said[-500:]}")
            print(f"netbridge stopped within {time.monotonic() - stopping:.1f} s: {bridge.event('stopped')}")
        finally:
            bridge.program.kill()
    took = time.monotonic() - begun
    for sentence in wrong:
        print(f"soak: wrong: {sentence}")
    print(f"soak: {'FAILED' if wrong else 'passed'} after {took / 60:.1f} minutes, --seed {given.seed}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
