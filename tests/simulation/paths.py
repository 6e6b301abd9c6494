"""Scenarios of the path: what befalls packets between the two stacks."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from random import Random

from netbridge.stack.link.fault import Faults

from .ends import Habit
from .run import Trial
from .trials import over, some_trial


def clean(random: Random) -> Trial:
    """A path that only takes its time: nothing is sent twice."""
    delay = random.choice((0.0, 0.001, 0.02, 0.15))
    return replace(some_trial(random), up=Faults(delay=delay), down=Faults(delay=delay))


def super_segments(random: Random) -> Trial:
    """A link with offload."""
    delay = random.choice((0.0, 0.001, 0.02))
    trial = some_trial(random, largest=1_000_000)
    return replace(trial, up=Faults(delay=delay), down=Faults(delay=delay), offload=True)


def loss(random: Random) -> Trial:
    """Up to a tenth of the packets vanish, each way as it likes."""
    delay = random.choice((0.001, 0.02, 0.1))
    up, down = (Faults(loss=random.choice((0.0, 0.01, 0.05, 0.1)), delay=delay) for _ in range(2))
    return over(some_trial(random), up, down)


def reorder(random: Random) -> Trial:
    """Up to a third is overtaken, by up to 50 ms."""
    faults = Faults(
        reorder=random.choice((0.05, 0.3)), reorder_delay=random.choice((0.002, 0.05)), delay=0.02, jitter=0.005
    )
    return over(some_trial(random), faults)


def duplicate(random: Random) -> Trial:
    """Up to half of the packets come twice: hardly a reason to send anything again."""
    faults = Faults(duplicate=random.choice((0.05, 0.5)), delay=random.choice((0.0, 0.02)))
    return replace(over(some_trial(random), faults), waste=0.05, slack=5)


def corrupt(random: Random) -> Trial:
    """A bit is flipped in up to a tenth of the packets, wherever."""
    faults = Faults(corrupt=random.choice((0.02, 0.1)), delay=0.01)
    return over(some_trial(random), faults)


def narrow(random: Random) -> Trial:
    """Several connections share a slow path with a short queue."""
    rate = random.choice((50_000, 500_000))
    faults = Faults(rate=rate, queue=random.choice((8_000, 30_000, 100_000)), delay=random.choice((0.005, 0.05)))
    trial = some_trial(random, connections=random.choice((1, 3)), controlled=True)
    return over(trial, faults)


def outage(random: Random) -> Trial:
    """For up to three minutes nothing passes; a few packets ask meanwhile, and then it goes on."""
    trial = some_trial(random)
    pair = Habit(random.randrange(50_000, 200_000)), Habit(random.randrange(50_000, 200_000))
    begins = random.uniform(0.05, 0.3)
    lasts = random.choice((0.5, 20.0, 180.0))
    # Who is through has to be there still when the other asks, or the last words look unheard.
    left, right = (replace(one, time_wait=1000.0) for one in (trial.left, trial.right))
    trial = replace(trial, habits=(pair,), left=left, right=right, outage=(begins, begins + lasts))
    return replace(over(trial, Faults(delay=0.02, rate=1_000_000)), slack=40)


def freeze(random: Random) -> Trial:
    """For a moment everything takes seconds longer, longer than any timer would wait, and nothing is lost."""
    trial = some_trial(random)
    pair = Habit(random.randrange(50_000, 200_000)), Habit(random.randrange(50_000, 200_000))
    frozen = random.uniform(0.05, 0.3), random.choice((0.5, 3.0))
    return over(replace(trial, habits=(pair,), freeze=frozen), Faults(delay=0.02, rate=1_000_000))


def gone(random: Random) -> Trial:
    """The path dies for good: who has something to say gives up in its time, who has not is told by its keepalives."""
    trial = some_trial(random)
    pair = Habit(random.randrange(50_000, 200_000)), Habit(random.choice((0, 100_000)), first=random.random() < 0.5)
    patience = random.choice((0.0, 20.0))
    left, right = (replace(one, user_timeout=patience, keepalive=300.0) for one in (trial.left, trial.right))
    begins = random.uniform(0.05, 0.2)
    trial = replace(trial, habits=(pair,), left=left, right=right, outage=(begins, inf))
    return replace(over(trial, Faults(delay=0.02, rate=500_000)), slack=40, limit=2000.0)


def path_mtu(random: Random) -> Trial:
    """In the midst of it the path takes smaller packets only, and a router says so."""
    trial = some_trial(random)
    one, other = trial.habits[0]
    pair = replace(one, size=random.randrange(20_000, 200_000)), replace(other, size=random.randrange(20_000, 200_000))
    at, mtu = random.uniform(0, 0.3), random.choice((1280, 1400)) if trial.version == 6 else random.choice((552, 1400))
    faults = Faults(loss=random.choice((0.0, 0.02)), delay=0.02)
    trial = replace(trial, habits=(pair,), mtu=1500, narrows=(at, mtu))
    return over(trial, faults)


def marked(random: Random) -> Trial:
    """A router marks instead of dropping, and one end or the other has not negotiated it."""
    faults = Faults(
        delay=random.choice((0.005, 0.05)), loss=random.choice((0.0, 0.0, 0.02)), rate=2_000_000,
        mark=random.choice((0.02, 0.3)),
    )  # fmt: skip
    trial = some_trial(random, controlled=True)
    left, right = (replace(one, ecn=True, ecn_request=random.random() < 0.8) for one in (trial.left, trial.right))
    return over(replace(trial, left=left, right=right), faults)
