"""What is tried: each scenario makes a trial from a random generator, so a seed is a trial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from importlib import import_module
from importlib.util import find_spec
from math import inf
from random import Random

from netbridge.stack.link.fault import Faults
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import CongestionControl, NewReno, Unlimited

from .ends import Habit
from .run import Trial

Scenario = Callable[[Random], Trial]


def _controls() -> list[type[CongestionControl]]:
    found: list[type[CongestionControl]] = [NewReno]
    if find_spec("netbridge.stack.tcp.cubic"):
        found.append(import_module("netbridge.stack.tcp.cubic").Cubic)
    return found


CONTROLS = _controls()
"""Congestion controls for a path that is shared."""
SWITCHES = ("sack", "timestamps", "ecn", "ecn_request", "nagle")
"""Settings that are on or off by themselves, each side as it likes."""


def _config(random: Random, *, controlled: bool = False) -> TcpConfig:
    known = {one.name for one in fields(TcpConfig)}
    switches = {name: random.random() < 0.7 for name in SWITCHES if name in known}
    controls = CONTROLS if controlled else [*CONTROLS, Unlimited]
    return replace(TcpConfig(), congestion=random.choice(controls), **switches)


def _trial(random: Random, *, connections: int = 1, controlled: bool = False, largest: int = 200_000) -> Trial:
    def habit() -> Habit:
        size = random.choice((0, 1, 1000, random.randrange(20_000), random.randrange(largest)))
        return Habit(size, all_at_once=random.random() < 0.3)

    return Trial(
        tuple((habit(), habit()) for _ in range(connections)),
        left=_config(random, controlled=controlled), right=_config(random, controlled=controlled),
        version=random.choice((4, 6)), mtu=random.choice((576, 1500)) if random.random() < 0.5 else 1500,
    )  # fmt: skip


def _over(trial: Trial, up: Faults, down: Faults | None = None) -> Trial:
    """The trial over a path that harms packets, and so with packets that are sent again.

    Half as much again as is carried, and some rounds of timeouts. Who has no congestion control sends whole windows,
    and without SACK a timeout sends one of them again.
    """
    waste = 1.5 if Unlimited in (trial.left.congestion, trial.right.congestion) else 0.5
    return replace(trial, up=up, down=down or up, waste=waste, slack=60)


def _drowsy(trial: Trial, random: Random, often: float, nap: float) -> Trial:
    """Some of its ends fall asleep every so often for up to `nap` seconds."""

    def drowsy(habit: Habit) -> Habit:
        return replace(habit, picky=random.choice((0.0, often)), nap=nap)

    return replace(trial, habits=tuple((drowsy(one), drowsy(other)) for one, other in trial.habits))


def clean(random: Random) -> Trial:
    """A path that only takes its time: nothing is sent twice."""
    delay = random.choice((0.0, 0.001, 0.02, 0.15))
    return replace(_trial(random), up=Faults(delay=delay), down=Faults(delay=delay))


def super_segments(random: Random) -> Trial:
    """A link with offload."""
    delay = random.choice((0.0, 0.001, 0.02))
    trial = _trial(random, largest=1_000_000)
    return replace(trial, up=Faults(delay=delay), down=Faults(delay=delay), offload=True)


def loss(random: Random) -> Trial:
    """Up to a tenth of the packets vanish, each way as it likes."""
    delay = random.choice((0.001, 0.02, 0.1))
    up, down = (Faults(loss=random.choice((0.0, 0.01, 0.05, 0.1)), delay=delay) for _ in range(2))
    return _over(_trial(random), up, down)


def reorder(random: Random) -> Trial:
    """Up to a third is overtaken, by up to 50 ms."""
    faults = Faults(
        reorder=random.choice((0.05, 0.3)), reorder_delay=random.choice((0.002, 0.05)), delay=0.02, jitter=0.005
    )
    return _over(_trial(random), faults)


def duplicate(random: Random) -> Trial:
    """Up to half of the packets come twice: hardly a reason to send anything again."""
    faults = Faults(duplicate=random.choice((0.05, 0.5)), delay=random.choice((0.0, 0.02)))
    return replace(_over(_trial(random), faults), waste=0.05, slack=5)


def corrupt(random: Random) -> Trial:
    """A bit is flipped in up to a tenth of the packets, wherever."""
    faults = Faults(corrupt=random.choice((0.02, 0.1)), delay=0.01)
    return _over(_trial(random), faults)


def narrow(random: Random) -> Trial:
    """Several connections share a slow path with a short queue."""
    rate = random.choice((50_000, 500_000))
    faults = Faults(rate=rate, queue=random.choice((8_000, 30_000, 100_000)), delay=random.choice((0.005, 0.05)))
    trial = _trial(random, connections=random.choice((1, 3)), controlled=True)
    return _over(trial, faults)


def stall(random: Random) -> Trial:
    """Readers that fall asleep with the window closing, on a path that loses what tells of its opening."""
    trial = _trial(random)
    pair = Habit(random.randrange(20_000, 100_000)), Habit(random.randrange(20_000, 100_000), all_at_once=True)
    window = random.choice((2_000, 10_000))
    left, right = (
        replace(one, receive_window=window, max_receive_window=window) for one in (trial.left, trial.right)
    )
    faults = Faults(loss=random.choice((0.02, 0.1)), delay=0.01)
    trial = replace(trial, habits=(pair,), left=left, right=right)
    trial = _drowsy(trial, random, 0.3, random.choice((0.1, 2.0, 20.0)))
    return replace(_over(trial, faults), slack=100, segment=window // 4)


def outage(random: Random) -> Trial:
    """For up to three minutes nothing passes; a few packets ask meanwhile, and then it goes on."""
    trial = _trial(random)
    pair = Habit(random.randrange(50_000, 200_000)), Habit(random.randrange(50_000, 200_000))
    begins = random.uniform(0.05, 0.3)
    lasts = random.choice((0.5, 20.0, 180.0))
    # Who is through has to be there still when the other asks, or the last words look unheard.
    left, right = (replace(one, time_wait=1000.0) for one in (trial.left, trial.right))
    trial = replace(trial, habits=(pair,), left=left, right=right, outage=(begins, begins + lasts))
    return replace(_over(trial, Faults(delay=0.02, rate=1_000_000)), slack=40)


def half_close(random: Random) -> Trial:
    """One end says all and closes; only then the other speaks."""
    trial = _trial(random)
    one, other = trial.habits[0]
    pair = (one, replace(other, first=False)) if random.random() < 0.5 else (replace(one, first=False), other)
    faults = Faults(loss=random.choice((0.0, 0.05)), delay=0.02)
    return _over(replace(trial, habits=(pair,)), faults)


def abort(random: Random) -> Trial:
    """One end resets in the midst of it, and the reset may be lost: keepalives tell the other in the end."""
    trial = _trial(random)
    left, right = (replace(one, keepalive=60.0) for one in (trial.left, trial.right))
    one, other = trial.habits[0]
    other = replace(other, size=random.randrange(20_000, 60_000))
    one = replace(one, aborts_after=random.randrange(1, 20_000))
    pair = (one, other) if random.random() < 0.5 else (other, one)
    faults = Faults(loss=random.choice((0.0, 0.1)), delay=0.02)
    return _over(replace(trial, habits=(pair,), left=left, right=right), faults)


def crossing(random: Random) -> Trial:
    """Both open at once, over a path that may lose any part of it."""
    delay = random.choice((0.0, 0.02))
    faults = Faults(loss=random.choice((0.0, 0.1)), delay=delay, reorder=random.choice((0.0, 0.1)))
    return _over(replace(_trial(random), crossing=True), faults)


def everything(random: Random) -> Trial:
    """Several connections, and all that can befall them."""
    faults = Faults(
        loss=0.02, duplicate=0.02, corrupt=0.01, reorder=0.05, delay=0.02, jitter=0.01, rate=1_000_000, queue=50_000
    )
    trial = _trial(random, connections=4, controlled=True, largest=60_000)
    return _over(_drowsy(trial, random, 0.1, 0.2), faults)


def path_mtu(random: Random) -> Trial:
    """In the midst of it the path takes smaller packets only, and a router says so."""
    trial = _trial(random)
    one, other = trial.habits[0]
    pair = replace(one, size=random.randrange(20_000, 200_000)), replace(other, size=random.randrange(20_000, 200_000))
    at, mtu = random.uniform(0, 0.3), random.choice((1280, 1400)) if trial.version == 6 else random.choice((552, 1400))
    faults = Faults(loss=random.choice((0.0, 0.02)), delay=0.02)
    trial = replace(trial, habits=(pair,), mtu=1500, narrows=(at, mtu))
    return _over(trial, faults)


def marked(random: Random) -> Trial:
    """A router marks instead of dropping, and one end or the other has not negotiated it."""
    faults = Faults(
        delay=random.choice((0.005, 0.05)), loss=random.choice((0.0, 0.0, 0.02)), rate=2_000_000,
        mark=random.choice((0.02, 0.3)),
    )  # fmt: skip
    trial = _trial(random, controlled=True)
    left, right = (replace(one, ecn=True, ecn_request=random.random() < 0.8) for one in (trial.left, trial.right))
    return _over(replace(trial, left=left, right=right), faults)


def freeze(random: Random) -> Trial:
    """For a moment everything takes seconds longer, longer than any timer would wait, and nothing is lost."""
    trial = _trial(random)
    pair = Habit(random.randrange(50_000, 200_000)), Habit(random.randrange(50_000, 200_000))
    frozen = random.uniform(0.05, 0.3), random.choice((0.5, 3.0))
    return _over(replace(trial, habits=(pair,), freeze=frozen), Faults(delay=0.02, rate=1_000_000))


def silence(random: Random) -> Trial:
    """Nothing is said for a second, an hour or two months: timestamps wrap after 50 days and mean nothing after 24."""
    trial = _trial(random)
    pause = random.choice((1.0, 3600.0, 30 * 86400.0, 60 * 86400.0))
    one, other = trial.habits[0]
    one = replace(one, size=random.randrange(2, 50_000), pause=pause)
    trial = replace(trial, habits=((one, other) if random.random() < 0.5 else (other, one),), limit=100 * 86400.0)
    return _over(trial, Faults(delay=0.02, loss=random.choice((0.0, 0.05))))


def poor(random: Random) -> Trial:
    """Stacks whose memory is too small for all their sleepy readers."""
    trial = _trial(random, connections=4, controlled=True)
    habits = tuple((Habit(random.randrange(60_000)), Habit(random.randrange(60_000))) for _ in trial.habits)
    budget = random.choice((10_000, 40_000))
    left, right = (replace(one, receive_budget=budget) for one in (trial.left, trial.right))
    faults = Faults(delay=0.005, loss=random.choice((0.0, 0.01)), rate=2_000_000)
    trial = _drowsy(replace(trial, habits=habits, left=left, right=right), random, 0.7, random.choice((0.5, 5.0)))
    return replace(_over(trial, faults), slack=200)


def crowd(random: Random) -> Trial:
    """More than the link holds at once: who has something to send takes turns."""
    habits = tuple(
        (Habit(random.randrange(100_000), all_at_once=True), Habit(random.randrange(100_000), all_at_once=True))
        for _ in range(25)
    )
    return replace(_trial(random), habits=habits, offload=True, mtu=random.choice((1500, 65_535)))


def one_port(random: Random) -> Trial:
    """The same ports again and again, while packets of the last connection are still on their way for seconds."""
    habits = tuple(
        (Habit(random.choice((1, 20_000)), first=False), Habit(random.randrange(40_000))) for _ in range(6)
    )
    late = Faults(delay=0.01, reorder=0.05, reorder_delay=random.choice((0.5, 3.0, 20.0)), duplicate=0.05)
    return _over(replace(_trial(random), habits=habits, one_port=True), late)


def gone(random: Random) -> Trial:
    """The path dies for good: who has something to say gives up in its time, who has not is told by its keepalives."""
    trial = _trial(random)
    pair = Habit(random.randrange(50_000, 200_000)), Habit(random.choice((0, 100_000)), first=random.random() < 0.5)
    patience = random.choice((0.0, 20.0))
    left, right = (replace(one, user_timeout=patience, keepalive=300.0) for one in (trial.left, trial.right))
    begins = random.uniform(0.05, 0.2)
    trial = replace(trial, habits=(pair,), left=left, right=right, outage=(begins, inf))
    return replace(_over(trial, Faults(delay=0.02, rate=500_000)), slack=40, limit=2000.0)


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
    trial = _trial(random)
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
    return replace(_over(trial, path(), path()), waste=2.0, slack=200)


SCENARIOS: dict[str, Scenario] = {
    one.__name__: one
    for one in (
        clean, super_segments, loss, reorder, duplicate, corrupt, narrow, stall, outage, half_close, abort,
        crossing, everything, path_mtu, marked, freeze, silence, poor, crowd, one_port,
        gone, anything,
    )
}  # fmt: skip


def trial(name: str, seed: int) -> Trial:
    """The trial that the seed makes of the scenario."""
    return SCENARIOS[name](Random(seed))
