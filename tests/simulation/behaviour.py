"""Scenarios of the ends: how they read, write, open and close, over a path that may lose any of it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from netbridge.stack.link.fault import Faults

from .ends import Habit
from .run import Trial
from .trials import drowsy, over, some_trial


def stall(random: Random) -> Trial:
    """Readers that fall asleep with the window closing, on a path that loses what tells of its opening."""
    trial = some_trial(random)
    pair = Habit(random.randrange(20_000, 100_000)), Habit(random.randrange(20_000, 100_000), all_at_once=True)
    window = random.choice((2_000, 10_000))
    left, right = (
        replace(one, receive_window=window, max_receive_window=window) for one in (trial.left, trial.right)
    )
    faults = Faults(loss=random.choice((0.02, 0.1)), delay=0.01)
    trial = replace(trial, habits=(pair,), left=left, right=right)
    trial = drowsy(trial, random, 0.3, random.choice((0.1, 2.0, 20.0)))
    return replace(over(trial, faults), slack=100, segment=window // 4)


def half_close(random: Random) -> Trial:
    """One end says all and closes; only then the other speaks."""
    trial = some_trial(random)
    one, other = trial.habits[0]
    pair = (one, replace(other, first=False)) if random.random() < 0.5 else (replace(one, first=False), other)
    faults = Faults(loss=random.choice((0.0, 0.05)), delay=0.02)
    return over(replace(trial, habits=(pair,)), faults)


def abort(random: Random) -> Trial:
    """One end resets in the midst of it, and the reset may be lost: keepalives tell the other in the end."""
    trial = some_trial(random)
    left, right = (replace(one, keepalive=60.0) for one in (trial.left, trial.right))
    one, other = trial.habits[0]
    other = replace(other, size=random.randrange(20_000, 60_000))
    one = replace(one, aborts_after=random.randrange(1, 20_000))
    pair = (one, other) if random.random() < 0.5 else (other, one)
    faults = Faults(loss=random.choice((0.0, 0.1)), delay=0.02)
    return over(replace(trial, habits=(pair,), left=left, right=right), faults)


def crossing(random: Random) -> Trial:
    """Both open at once, over a path that may lose any part of it."""
    delay = random.choice((0.0, 0.02))
    faults = Faults(loss=random.choice((0.0, 0.1)), delay=delay, reorder=random.choice((0.0, 0.1)))
    return over(replace(some_trial(random), crossing=True), faults)


def silence(random: Random) -> Trial:
    """Nothing is said for a second, an hour or two months: timestamps wrap after 50 days and mean nothing after 24."""
    trial = some_trial(random)
    pause = random.choice((1.0, 3600.0, 30 * 86400.0, 60 * 86400.0))
    one, other = trial.habits[0]
    one = replace(one, size=random.randrange(2, 50_000), pause=pause)
    trial = replace(trial, habits=((one, other) if random.random() < 0.5 else (other, one),), limit=100 * 86400.0)
    return over(trial, Faults(delay=0.02, loss=random.choice((0.0, 0.05))))


def poor(random: Random) -> Trial:
    """Stacks whose memory is too small for all their sleepy readers."""
    trial = some_trial(random, connections=4, controlled=True)
    habits = tuple((Habit(random.randrange(60_000)), Habit(random.randrange(60_000))) for _ in trial.habits)
    budget = random.choice((10_000, 40_000))
    # Long waits between copies: who is through has to be there still when the other asks.
    left, right = (replace(one, receive_budget=budget, time_wait=300.0) for one in (trial.left, trial.right))
    faults = Faults(delay=0.005, loss=random.choice((0.0, 0.01)), rate=2_000_000)
    trial = drowsy(replace(trial, habits=habits, left=left, right=right), random, 0.7, random.choice((0.5, 5.0)))
    return replace(over(trial, faults), slack=200)


def crowd(random: Random) -> Trial:
    """More than the link holds at once: who has something to send takes turns."""
    habits = tuple(
        (Habit(random.randrange(100_000), all_at_once=True), Habit(random.randrange(100_000), all_at_once=True))
        for _ in range(25)
    )
    return replace(some_trial(random), habits=habits, offload=True, mtu=random.choice((1500, 65_535)))


def sharing(random: Random) -> Trial:
    """More is written at once than all connections together may hold, and some of it is lost."""
    habits = tuple((Habit(random.randrange(70_000, 200_000), all_at_once=True), Habit(1)) for _ in range(4))
    trial = replace(some_trial(random), habits=habits)
    left = replace(trial.left, send_budget=random.choice((1, 100_000)))
    faults = Faults(delay=random.choice((0.0, 0.02)), loss=random.choice((0.0, 0.02)))
    return over(replace(trial, left=left), faults)


def one_port(random: Random) -> Trial:
    """The same ports again and again, while packets of the last connection are still on their way for seconds."""
    habits = tuple(
        (Habit(random.choice((1, 20_000)), first=False), Habit(random.randrange(40_000))) for _ in range(6)
    )
    late = Faults(delay=0.01, reorder=0.05, reorder_delay=random.choice((0.5, 3.0, 20.0)), duplicate=0.05)
    return over(replace(some_trial(random), habits=habits, one_port=True), late)
