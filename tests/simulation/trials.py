"""What scenarios make trials from: some connections, each side's settings, a path that harms packets."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from netbridge.stack.link.fault import Faults
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import CongestionControl, NewReno, Unlimited
from netbridge.stack.tcp.cubic import Cubic

from .ends import Habit
from .run import Trial

CONTROLS: list[type[CongestionControl]] = [NewReno, Cubic]
"""Congestion controls for a path that is shared."""
SWITCHES = ("sack", "timestamps", "ecn", "ecn_request", "nagle")
"""Settings that are on or off by themselves, each side as it likes."""


def _config(random: Random, *, controlled: bool = False) -> TcpConfig:
    switches = {name: random.random() < 0.7 for name in SWITCHES}
    controls = CONTROLS if controlled else [*CONTROLS, Unlimited]
    return replace(TcpConfig(), congestion=random.choice(controls), **switches)


def some_trial(random: Random, *, connections: int = 1, controlled: bool = False, largest: int = 200_000) -> Trial:
    def habit() -> Habit:
        size = random.choice((0, 1, 1000, random.randrange(20_000), random.randrange(largest)))
        return Habit(size, all_at_once=random.random() < 0.3)

    return Trial(
        tuple((habit(), habit()) for _ in range(connections)),
        left=_config(random, controlled=controlled), right=_config(random, controlled=controlled),
        version=random.choice((4, 6)), mtu=random.choice((576, 1500)) if random.random() < 0.5 else 1500,
    )  # fmt: skip


def over(trial: Trial, up: Faults, down: Faults | None = None) -> Trial:
    """The trial over a path that harms packets, and so with packets that are sent again.

    Half as much again as is carried, and some rounds of timeouts. Who has no congestion control sends whole windows,
    and without SACK a timeout sends one of them again.
    """
    waste = 1.5 if Unlimited in (trial.left.congestion, trial.right.congestion) else 0.5
    return replace(trial, up=up, down=down or up, waste=waste, slack=60)


def drowsy(trial: Trial, random: Random, often: float, nap: float) -> Trial:
    """Some of its ends fall asleep every so often for up to `nap` seconds."""

    def sleepy(habit: Habit) -> Habit:
        return replace(habit, picky=random.choice((0.0, often)), nap=nap)

    return replace(trial, habits=tuple((sleepy(one), sleepy(other)) for one, other in trial.habits))
