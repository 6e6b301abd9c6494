"""One timer for all: on a clock turned by hand, and on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, cast

import pytest

from netbridge.stack import clock as stack_clock
from netbridge.stack.timers import TOLERATED, Timers


class Clock:
    """Time, and an event loop as far as Timers uses one."""

    def __init__(self) -> None:
        self.now = 100.0
        self.armed: list[Handle] = []
        self.calls = 0

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        self.calls += 1
        handle = Handle(self, self.now + delay, callback)
        self.armed.append(handle)
        return handle

    def passes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.armed:
            first = min(self.armed, key=lambda handle: handle.at)
            if first.at > end:
                break
            self.armed.remove(first)
            self.now = max(self.now, first.at)
            first.callback()
        self.now = end


class Handle:
    def __init__(self, clock: Clock, at: float, callback: Callable[[], None]) -> None:
        self.clock = clock
        self.at = at
        self.callback = callback

    def cancel(self) -> None:
        if self in self.clock.armed:
            self.clock.armed.remove(self)


class Thing:
    """Something with one deadline, which writes down when it was served."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.scheduled = inf
        self.at = inf
        self.served: list[float] = []
        self.then = inf
        """The deadline after the next."""

    def next_timeout(self) -> float:
        return self.at

    def handle_timeout(self, now: float) -> None:
        assert now >= self.at
        self.served.append(round(self.clock.now, 6))
        self.at, self.then = self.then, inf


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stack_clock, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def timers(clock: Clock) -> Timers:
    return Timers(cast("asyncio.AbstractEventLoop", clock), stack_clock.Clock())


def test_things_are_served_at_their_time_in_order(clock: Clock, timers: Timers) -> None:
    things = [Thing(clock) for _ in range(5)]
    for number, thing in enumerate(things):
        thing.at = 110 - number
        timers.update(thing)
    clock.passes(100)
    assert [thing.served for thing in things] == [[110], [109], [108], [107], [106]]
    assert not clock.armed
    assert len(timers) == 0


def test_a_deadline_that_moves_later_costs_nothing_until_the_old_one_has_come(clock: Clock, timers: Timers) -> None:
    thing = Thing(clock)
    thing.at = 101
    timers.update(thing)
    for step in range(1000):
        thing.at = 101 + step / 1000
        timers.update(thing)
    assert (len(timers), clock.calls) == (1, 1)
    clock.passes(1.5)
    assert thing.served == []
    clock.passes(1)
    assert thing.served == [101.999]


def test_a_deadline_that_moves_earlier_is_kept(clock: Clock, timers: Timers) -> None:
    thing = Thing(clock)
    for at in (150, 120, 110):
        thing.at = at
        timers.update(thing)
    assert len(clock.armed) == 1
    clock.passes(100)
    assert thing.served == [110]
    assert not clock.armed


def test_a_thing_without_a_deadline_is_asked_once_more_and_forgotten(clock: Clock, timers: Timers) -> None:
    thing = Thing(clock)
    thing.at = 101
    timers.update(thing)
    thing.at = inf
    timers.update(thing)
    clock.passes(10)
    assert thing.served == []
    assert not clock.armed
    thing.at = 115
    timers.update(thing)
    clock.passes(10)
    assert thing.served == [115]


def test_a_thing_may_have_another_deadline_when_it_was_served(clock: Clock, timers: Timers) -> None:
    thing = Thing(clock)
    thing.at, thing.then = 101, 105
    timers.update(thing)
    clock.passes(10)
    assert thing.served == [101, 105]


def test_things_may_change_others_while_they_are_served(clock: Clock, timers: Timers) -> None:
    first, second, third = (Thing(clock) for _ in range(3))

    class Meddler(Thing):
        def handle_timeout(self, now: float) -> None:
            super().handle_timeout(now)
            second.at = inf
            third.at = now  # due at once
            timers.update(second)
            timers.update(third)

    first = Meddler(clock)
    first.at = 101
    second.at = 102
    timers.update(second)
    timers.update(first)
    clock.passes(10)
    assert (first.served, second.served, third.served) == ([101], [], [101])
    assert not clock.armed


def test_the_event_loop_sees_one_timer(clock: Clock, timers: Timers) -> None:
    things = [Thing(clock) for _ in range(100)]
    for number, thing in enumerate(things):
        thing.at = 200 - number
        timers.update(thing)
        assert len(clock.armed) == 1
    assert clock.armed[0].at == 101
    clock.passes(50)
    assert len(clock.armed) == 1
    assert sum(len(thing.served) for thing in things) == 50


def test_entries_that_were_overtaken_do_not_pile_up(clock: Clock, timers: Timers) -> None:
    """A keepalive in two hours and an acknowledgement in 40 ms, again and again."""

    class Busy(Thing):
        def handle_timeout(self, now: float) -> None:
            super().handle_timeout(now)
            self.at = now + 7200

    others = [Thing(clock) for _ in range(10)]
    for other in others:
        other.at = 100_000
        timers.update(other)
    thing = Busy(clock)
    for step in range(5000):
        thing.at = clock.now + 0.04
        timers.update(thing)
        clock.passes(0.05)
        assert len(timers) <= 2 * TOLERATED, step
    assert len(thing.served) == 5000
    clock.passes(7200)
    assert len(thing.served) == 5001
    clock.passes(100_000)
    assert all(other.served == [100_000] for other in others)


def test_a_thing_whose_deadline_does_not_move_hangs_nobody(clock: Clock, timers: Timers) -> None:
    """It waits for something else; until that comes it is asked now and then, and others are served."""

    class Stuck(Thing):
        def handle_timeout(self, now: float) -> None:
            self.served.append(now)

    stuck, other = Stuck(clock), Thing(clock)
    stuck.at, other.at = 101.0, 101.01
    timers.update(stuck)
    timers.update(other)
    clock.passes(1.1)
    assert 50 <= len(stuck.served) <= 101
    assert other.served == [101.01]


def test_a_thing_that_fails_stops_no_other(clock: Clock, timers: Timers) -> None:
    class Broken(Thing):
        def handle_timeout(self, now: float) -> None:
            raise ValueError("broken")

    broken, thing = Broken(clock), Thing(clock)
    broken.at, thing.at = 101, 102
    timers.update(broken)
    timers.update(thing)
    with pytest.raises(ValueError, match="broken"):
        clock.passes(1.5)
    clock.passes(1)
    assert thing.served == [102]


def test_close_forgets_everything_for_good(clock: Clock, timers: Timers) -> None:
    thing = Thing(clock)
    thing.at = 101
    timers.update(thing)
    timers.close()
    assert not clock.armed
    other = Thing(clock)
    other.at = 100.5
    timers.update(other)
    assert not clock.armed
    clock.passes(10)
    assert thing.served == other.served == []


def test_close_from_inside_a_timeout(clock: Clock, timers: Timers) -> None:
    class Last(Thing):
        def handle_timeout(self, now: float) -> None:
            super().handle_timeout(now)
            timers.close()

    last, thing = Last(clock), Thing(clock)
    last.at = thing.at = 101
    last.then = 102
    timers.update(last)
    timers.update(thing)
    clock.passes(10)
    assert last.served == [101]
    assert thing.served == []
    assert not clock.armed


async def test_on_a_real_event_loop_nothing_is_served_early_or_much_late() -> None:
    timers = Timers(asyncio.get_running_loop(), stack_clock.Clock())
    served: list[tuple[float, float]] = []
    done = asyncio.get_running_loop().create_future()

    class Real:
        def __init__(self, delay: float) -> None:
            self.scheduled = inf
            self.at = monotonic() + delay

        def next_timeout(self) -> float:
            return self.at

        def handle_timeout(self, now: float) -> None:
            served.append((self.at, monotonic()))
            self.at = inf
            if len(served) == 50:
                done.set_result(None)

    things: list[Any] = [Real(number / 1700) for number in range(50)]
    for thing in reversed(things):
        timers.update(thing)
    async with asyncio.timeout(5):
        await done
    assert all(now >= at for at, now in served)
    assert [at for at, _ in served] == sorted(at for at, _ in served)
    timers.close()
