"""A bridge attacked while it works: each attack of `tests/hostile` on its link in turn, and hostile agents beside it.

The attacks send a fraction of what they send when their harm is measured (`make hostile`), so that on two processors
something is left for who works; what is asked here is that nothing breaks, is lost, or is left.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

from tests.hostile.kinds import KINDS
from tests.hostile.network import ATTACKS, Place
from tests.hostile.trial import attempt
from tests.world import Bridge, World

PART = 0.1
"""Of an attack's own rate."""
LASTS = 12.0
"""Seconds of one attack."""
PAUSE = 3.0
"""Seconds between two."""


class Attackers:
    """A thread in which one attack follows another, in an order by seed, each before one comes again."""

    def __init__(self, world: World, bridge: Bridge, seed: int) -> None:
        self.wrong: list[str] = []
        self._place = Place.of(world, bridge)
        self._random = random.Random(f"{seed} attackers")
        self._seed = seed
        self._times: Counter[str] = Counter()
        self._packets: Counter[str] = Counter()
        self._connections: Counter[str] = Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="attackers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No further one; waits for the end of the last."""
        self._over.set()
        self._thread.join(LASTS + 60)

    def table(self) -> list[str]:
        return [f"{'attack':<28}{'times':>6}{'packets':>12}{'connections':>12}"] + [
            f"{name:<28}{times:>6}{self._packets[name]:>12,}{self._connections[name]:>12,}"
            for name, times in sorted(self._times.items())
        ]

    def _live(self) -> None:
        names = list(ATTACKS)
        while not self._over.is_set():
            self._random.shuffle(names)
            for name in names:
                if self._over.wait(PAUSE):
                    return
                self._seed += 1
                attack = ATTACKS[name](self._place, self._seed, ATTACKS[name].rate * PART)
                try:
                    attack.start()
                    self._over.wait(LASTS)
                    done = attack.stop()
                except Exception as error:
                    self.wrong.append(f"the attack {name}: {error!r}"[:1000])
                    attack.kill()
                    continue
                self._times[name] += 1
                self._packets[name] += done["packets"]
                self._connections[name] += done["connections"]


class HostileAgents:
    """A thread in which one bridge after another meets a hostile agent, on the same machine as the one that works."""

    def __init__(self, seed: int) -> None:
        self.wrong: list[str] = []
        self._random = random.Random(f"{seed} agents")
        self._seed = seed
        self._met: Counter[str] = Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="hostile agents", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No further one; waits for the end of the last."""
        self._over.set()
        self._thread.join(120)

    def table(self) -> list[str]:
        return [f"{self._met.total()} bridges met {len(self._met)} kinds of hostile agents"]

    def _live(self) -> None:
        names = [name for name, kind in KINDS.items() if not kind.slow]
        while not self._over.is_set():
            self._random.shuffle(names)
            for name in names:
                if self._over.wait(PAUSE):
                    return
                self._seed += 1
                begun = time.monotonic()
                faults = attempt(name, seed=self._seed, seconds=1.0).faults()
                self._met[name] += 1
                who = f"hostile agent {name}, seed {self._seed}, {time.monotonic() - begun:.0f} s"
                self.wrong += [f"{who}: {fault}"[:2000] for fault in faults]
