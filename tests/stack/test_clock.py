"""A clock that can stand still, its timers, and a connection that knows nothing of an hour in which it did."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbridge.stack import clock as module
from netbridge.stack.clock import Clock
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.timers import Timers
from tests.jumping import run
from tests.stack.tcp.peer import PEER_ISN, Peer, User

NEXT = PEER_ISN + 1
HOUR = 3600.0


class Hand:
    """A clock of the machine, turned by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@given(st.lists(st.tuples(st.sampled_from(["stop", "go on", "wait"]), st.floats(0, 1e6)), max_size=40))
def test_it_counts_the_seconds_in_which_it_goes(steps: list[tuple[str, float]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        hand = Hand()
        patch.setattr(module, "monotonic", hand)
        clock = Clock()
        expected, before = hand.at, clock.now()
        for what, seconds in steps:
            if what == "stop":
                clock.stop()
            elif what == "go on":
                clock.go_on()
            hand.at += seconds
            expected += 0 if clock.stopped else seconds
            assert clock.now() == pytest.approx(expected, abs=1e-3)
            assert clock.now() >= before - 1e-6  # it never goes back, but for what floats round
            before = clock.now()


def test_without_a_stop_it_is_the_machines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Hand()
    monkeypatch.setattr(module, "monotonic", hand)
    clock = Clock()
    assert clock.now is hand  # called for every packet: nothing in between
    clock.go_on()
    assert clock.now is hand


class Thing:
    """Something with deadlines, which writes down when it was served: by its own clock, and by the loop's."""

    def __init__(self, clock: Clock, *deadlines: float) -> None:
        self.clock = clock
        self.scheduled = inf
        self.deadlines = list(deadlines)
        self.served: list[tuple[float, float]] = []

    def next_timeout(self) -> float:
        return self.deadlines[0] if self.deadlines else inf

    def handle_timeout(self, now: float) -> None:
        assert not self.clock.stopped
        self.deadlines.pop(0)
        self.served.append((round(self.clock.now(), 3), round(asyncio.get_running_loop().time(), 3)))


@pytest.fixture(autouse=True)
def _one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's clock is that of the event loop."""
    monkeypatch.setattr(module, "monotonic", lambda: asyncio.get_running_loop().time())


def test_nothing_is_served_while_it_stands_still() -> None:
    async def test() -> None:
        clock = Clock()
        timers = Timers(asyncio.get_running_loop(), clock)
        armed, new = Thing(clock, 1010, 1020), Thing(clock, 1007)
        timers.update(armed)
        await asyncio.sleep(5)
        clock.stop()
        timers.update(new)  # a packet that waited in between
        await asyncio.sleep(HOUR)
        assert armed.served == new.served == []
        clock.go_on()
        timers.look()
        await asyncio.sleep(100)
        assert new.served == [(1007, 1007 + HOUR)]
        assert armed.served == [(1010, 1010 + HOUR), (1020, 1020 + HOUR)]
        timers.close()

    run(test)


def test_a_pause_shorter_than_a_deadline_moves_it_all_the_same() -> None:
    async def test() -> None:
        clock = Clock()
        timers = Timers(asyncio.get_running_loop(), clock)
        thing = Thing(clock, 1010)
        timers.update(thing)
        for _ in range(3):
            await asyncio.sleep(1)
            clock.stop()
            clock.stop()
            await asyncio.sleep(2)
            clock.go_on()
            clock.go_on()
            timers.look()
        await asyncio.sleep(50)
        assert thing.served == [(1010, 1016)]

    run(test)


def test_an_event_loop_that_was_told_too_early_a_time_serves_nothing_early() -> None:
    """Nobody looked when the clock went on."""
    async def test() -> None:
        clock = Clock()
        timers = Timers(asyncio.get_running_loop(), clock)
        thing = Thing(clock, 1010)
        timers.update(thing)
        clock.stop()
        await asyncio.sleep(5)
        clock.go_on()
        await asyncio.sleep(50)
        assert thing.served == [(1010, 1015)]

    run(test)


def test_a_thing_that_stops_the_clock_is_the_last_that_is_served() -> None:
    async def test() -> None:
        clock = Clock()
        timers = Timers(asyncio.get_running_loop(), clock)

        class Stopper(Thing):
            def handle_timeout(self, now: float) -> None:
                super().handle_timeout(now)
                clock.stop()

        first, later = Stopper(clock, 1001), Thing(clock, 1002)
        timers.update(first)
        timers.update(later)
        await asyncio.sleep(HOUR)
        assert (len(first.served), later.served) == (1, [])
        clock.go_on()
        timers.look()
        await asyncio.sleep(2)
        assert later.served == [(1002, 1001 + HOUR)]

    run(test)


def test_looking_with_nothing_to_wait_for_or_after_the_end_is_harmless() -> None:
    async def test() -> None:
        clock = Clock()
        timers = Timers(asyncio.get_running_loop(), clock)
        timers.look()
        thing = Thing(clock, 1001)
        timers.update(thing)
        timers.close()
        timers.look()
        await asyncio.sleep(10)
        assert thing.served == []

    run(test)


# A stack.


class Scene:
    """A stack with a connection whose data is in flight, an answer of which is on its way back."""

    def __init__(self, **config: Any) -> None:
        self.peer = Peer(config=TcpConfig(**config))
        self.user = User()
        self.flow, self.isn = self.peer.established(self.user)
        self.counters = self.peer.tcp.counters

    def pause(self) -> None:
        """As the engine does it."""
        self.peer.stack.clock.stop()

    def go_on(self) -> None:
        self.peer.stack.clock.go_on()
        self.peer.stack.timers.look()

    @property
    def retransmitted(self) -> int:
        return self.flow.connection.sender.retransmitted

    def nothing_was_given_up(self) -> None:
        assert (self.retransmitted, self.counters.failed, self.counters.broken) == (0, 0, 0)
        assert "closed" not in self.user.calls


def test_a_connection_with_data_in_flight_outlives_an_hour() -> None:
    async def test() -> None:
        scene = Scene()
        peer, isn = scene.peer, scene.isn
        scene.flow.write(b"x" * 3000)
        assert len(peer.heard()) == 3
        scene.pause()
        await asyncio.sleep(HOUR)
        peer.silent()
        scene.nothing_was_given_up()
        scene.go_on()
        await asyncio.sleep(0.01)
        peer.silent()
        peer.says("A", NEXT, isn + 3001, b"thank you", window=512)
        assert scene.user.data == b"thank you"
        await asyncio.sleep(1)
        peer.hears("A", isn + 3001, NEXT + 9)  # the delayed acknowledgement: timers run again
        scene.flow.shutdown()
        peer.hears("FA", isn + 3001)
        peer.says("FA", NEXT + 9, isn + 3002)
        await asyncio.sleep(60)  # TIME-WAIT
        assert scene.user.calls == ["connected", "eof", "closed"]
        assert scene.user.error is None
        assert scene.counters.retransmitted == 0
        peer.close()

    run(test)


def test_what_was_really_lost_is_sent_again_after_the_rest_of_its_time() -> None:
    async def test() -> None:
        scene = Scene(min_rto=2.0)
        scene.flow.write(b"x" * 100)
        scene.peer.hears("A")
        await asyncio.sleep(0.5)
        scene.pause()
        await asyncio.sleep(HOUR)
        scene.go_on()
        await asyncio.sleep(0.4)
        scene.peer.silent()
        await asyncio.sleep(5)
        assert scene.retransmitted > 0
        scene.peer.close()

    run(test)


def test_round_trips_are_measured_without_the_pause() -> None:
    async def test() -> None:
        scene = Scene(min_rto=0.2)
        peer, isn = scene.peer, scene.isn
        scene.flow.write(b"x" * 100)
        peer.heard()
        scene.pause()
        await asyncio.sleep(HOUR)
        scene.go_on()
        peer.says("A", NEXT, isn + 101, window=512)
        scene.flow.write(b"y" * 100)  # lost: it is sent again after milliseconds, not hours
        peer.heard()
        await asyncio.sleep(1.5)
        assert scene.retransmitted > 0
        peer.close()

    run(test)


@pytest.mark.parametrize("state", ["keepalive", "closed window", "fin wait", "half open"])
def test_no_other_timer_runs_out_either(state: str) -> None:
    async def test() -> None:
        scene = Scene(keepalive=10.0, keepalive_interval=5.0, keepalive_probes=2, retries=3, syn_retries=1)
        peer, isn = scene.peer, scene.isn
        if state == "closed window":
            peer.says("A", NEXT, isn + 1, window=0)
            scene.flow.write(b"x" * 100)
        elif state == "fin wait":
            scene.flow.shutdown()
        elif state == "half open":
            peer.syn_received(User(), sport=5001)
        peer.heard()
        scene.pause()
        await asyncio.sleep(HOUR)
        peer.silent()
        scene.nothing_was_given_up()
        assert len(peer.tcp.flows) == (2 if state == "half open" else 1)
        scene.go_on()
        await asyncio.sleep(HOUR)  # nobody answers: now each of them runs out
        assert peer.heard()
        assert not peer.tcp.flows
        peer.close()

    run(test)
