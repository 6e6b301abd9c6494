"""A bridge attacked while it works: each attack of `tests/hostile` on its link in turn, and hostile agents beside it.

The attacks send a fraction of what they send when their harm is measured (`make hostile`), so that on two processors
something is left for who works; what is asked here is that nothing breaks, is lost, or is left.
"""

from __future__ import annotations

import time
from collections import Counter

from tests.hostile.kinds import KINDS
from tests.hostile.network import ATTACKS, Place
from tests.hostile.trial import attempt
from tests.world import Bridge, World

from .trouble import Trouble

PART = 0.1
"""Of an attack's own rate."""
LASTS = 12.0
"""Seconds of one attack."""
PAUSE = 3.0, 3.0
"""Seconds between two."""


class Attackers(Trouble[str]):
    """One attack after another."""

    name = "attackers"
    pause = PAUSE
    longest = LASTS + 60

    def __init__(self, world: World, bridge: Bridge, seed: int) -> None:
        super().__init__(seed)
        self._place = Place.of(world, bridge)
        self._seed = seed
        self._times: Counter[str] = Counter()
        self._packets: Counter[str] = Counter()
        self._connections: Counter[str] = Counter()

    def table(self) -> list[str]:
        return [f"{'attack':<28}{'times':>6}{'packets':>12}{'connections':>12}"] + [
            f"{name:<28}{times:>6}{self._packets[name]:>12,}{self._connections[name]:>12,}"
            for name, times in sorted(self._times.items())
        ]

    def things(self) -> list[str]:
        return list(ATTACKS)

    def do(self, thing: str) -> None:
        self._seed += 1
        attack = ATTACKS[thing](self._place, self._seed, ATTACKS[thing].rate * PART)
        try:
            attack.start()
            self.over.wait(LASTS)
            done = attack.stop()
        except Exception as error:  # whatever it is, it is told in the end, and the next comes
            self.wrong.append(f"the attack {thing}: {error!r}"[:1000])
            attack.kill()
            return
        self._times[thing] += 1
        self._packets[thing] += done["packets"]
        self._connections[thing] += done["connections"]


class HostileAgents(Trouble[str]):
    """One bridge after another that meets a hostile agent, on the same machine as the one that works."""

    name = "hostile agents"
    pause = PAUSE
    longest = 120.0

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._seed = seed
        self._met: Counter[str] = Counter()

    def table(self) -> list[str]:
        return [f"{self._met.total()} bridges met {len(self._met)} kinds of hostile agents"]

    def things(self) -> list[str]:
        return [name for name, kind in KINDS.items() if not kind.slow]

    def do(self, thing: str) -> None:
        self._seed += 1
        begun = time.monotonic()
        faults = attempt(thing, seed=self._seed, seconds=1.0).faults()
        self._met[thing] += 1
        who = f"hostile agent {thing}, seed {self._seed}, {time.monotonic() - begun:.0f} s"
        self.wrong += [f"{who}: {fault}"[:2000] for fault in faults]
