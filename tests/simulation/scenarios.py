"""What is tried: each scenario makes a trial from a random generator, so a seed is a trial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from netbridge.stack.link.fault import Faults

from . import behaviour, paths
from .ends import Habit
from .run import Trial
from .trials import drowsy, over, some_trial

Scenario = Callable[[Random], Trial]


def everything(random: Random) -> Trial:
    """Several connections, and all that can befall them."""
    faults = Faults(
        loss=0.02, duplicate=0.02, corrupt=0.01, reorder=0.05, delay=0.02, jitter=0.01, rate=1_000_000, queue=50_000
    )
    trial = some_trial(random, connections=4, controlled=True, largest=60_000)
    return over(drowsy(trial, random, 0.1, 0.2), faults)


def anything(random: Random) -> Trial:
    """All of the above in one, as chance has it."""

    def maybe(value: float, often: float = 0.4) -> float:
        return value if random.random() < often else 0.0

    def path() -> Faults:
        return Faults(
            loss=maybe(random.choice((0.01, 0.1))), duplicate=maybe(0.1), corrupt=maybe(0.02),
            reorder=maybe(0.1), reorder_delay=random.choice((0.002, 0.05, 1.0)),
            delay=random.choice((0.0, 0.005, 0.05)), jitter=maybe(0.02), mark=maybe(0.05),
            rate=maybe(random.choice((100_000, 1_000_000))), queue=random.choice((15_000, 100_000)),
        )  # fmt: skip

    def habit() -> Habit:
        return Habit(
            random.randrange(random.choice((2, 5_000, 80_000))), all_at_once=random.random() < 0.3,
            picky=maybe(0.3), nap=random.choice((0.05, 1.0)), pause=maybe(random.choice((0.5, 10.0)), 0.2),
        )  # fmt: skip

    window = random.choice((1_000, 4_000, 65_536, 65_536))
    trial = some_trial(random)
    left, right = (
        replace(one, receive_window=window, receive_budget=random.choice((20_000, 1 << 20, 1 << 20)), time_wait=300.0)
        for one in (trial.left, trial.right)
    )
    begins = random.uniform(0, 0.5)
    trial = replace(
        trial, habits=tuple((habit(), habit()) for _ in range(random.choice((1, 1, 3)))), left=left, right=right,
        outage=(begins, begins + random.choice((0.3, 5.0))) if random.random() < 0.2 else None,
        freeze=(random.uniform(0, 0.5), random.choice((0.3, 2.0))) if random.random() < 0.2 else None,
        narrows=(random.uniform(0, 0.5), 1300) if trial.mtu == 1500 and random.random() < 0.2 else None,
        segment=min(window // 4, 250), slack=200,
    )  # fmt: skip
    return replace(over(trial, path(), path()), waste=2.0, slack=200)


SCENARIOS: dict[str, Scenario] = {
    one.__name__: one
    for one in (
        paths.clean, paths.super_segments, paths.loss, paths.reorder, paths.duplicate, paths.corrupt, paths.narrow,
        paths.outage, paths.freeze, paths.gone, paths.path_mtu, paths.marked,
        behaviour.stall, behaviour.half_close, behaviour.abort, behaviour.crossing, behaviour.silence, behaviour.poor,
        behaviour.crowd, behaviour.sharing, behaviour.one_port,
        everything, anything,
    )
}  # fmt: skip


def trial(name: str, seed: int) -> Trial:
    """The trial that the seed makes of the scenario."""
    return SCENARIOS[name](Random(seed))
