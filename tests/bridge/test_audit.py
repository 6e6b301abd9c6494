"""The audit: an event for each denied flow, twenty a second, and a number for the rest; the test moves the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from netbridge.bridge import events
from netbridge.bridge.audit import RATE, REMEMBERED, SAME_FLOW, SUM_UP, Audit
from netbridge.stack.packet import ICMP, TCP, UDP
from tests.bridge.forward.fakes import packed


class Loop:
    """As much of an event loop as the audit uses."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], object]) -> Any:
        self.timers.append((self.now + seconds, call))
        loop, entry = self, self.timers[-1]

        class Handle:
            def cancel(self) -> None:
                loop.timers.remove(entry)

        return Handle()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for entry in [entry for entry in self.timers if entry[0] <= self.now]:
            self.timers.remove(entry)
            entry[1]()


class Bench:
    def __init__(self) -> None:
        self.loop = Loop()
        self.told: list[events.Event] = []
        loop: Any = self.loop
        self.audit = Audit(self.told.append, loop)

    def deny(self, port: int = 80, *, source_port: int = 5000, protocol: int = TCP, to: str = "10.0.0.1") -> None:
        key = (packed("198.18.0.2"), source_port, packed(to), port)
        self.audit.denied(key, protocol, packed(to), "denied by the rule x")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_denied_flow_is_told_with_everything_about_it(bench: Bench) -> None:
    key = (packed("198.18.0.2"), 5000, packed("198.18.0.4"), 80)
    bench.audit.denied(key, TCP, packed("127.0.0.1"), "loopback")
    assert bench.told == [
        events.FlowDenied("tcp", "198.18.0.4", 80, "loopback", "198.18.0.2", 5000, "127.0.0.1", 1),
    ]


def test_an_identifier_is_no_port(bench: Bench) -> None:
    bench.deny(0, protocol=ICMP, source_port=77)
    (told,) = bench.told
    assert isinstance(told, events.FlowDenied)
    assert (told.protocol, told.source_port, told.port) == ("icmp", 0, 0)


def test_further_packets_of_a_denied_flow_are_counted_only(bench: Bench) -> None:
    for _ in range(5):
        bench.deny(protocol=UDP)
    bench.deny(protocol=TCP)  # another flow, with the same numbers
    bench.deny(protocol=UDP, source_port=5001)
    assert len(bench.told) == 3
    assert (bench.audit.counters.denied, bench.audit.counters.repeated) == (3, 4)
    bench.loop.advance(SAME_FLOW)
    bench.deny(protocol=UDP)
    assert len(bench.told) == 4


def test_each_event_says_how_often_its_destination_was_denied(bench: Bench) -> None:
    for number in range(3):
        bench.deny(source_port=number)
    bench.deny(81)
    assert [event.times for event in bench.told if isinstance(event, events.FlowDenied)] == [1, 2, 3, 1]


def test_what_comes_too_fast_is_told_as_a_number(bench: Bench) -> None:
    for port in range(1000):
        bench.deny(port)
    assert len(bench.told) == RATE
    bench.loop.advance(SUM_UP)
    assert bench.told[-1] == events.FlowsDenied(count=980, seconds=SUM_UP, total=1000)
    counters = bench.audit.counters
    assert (counters.denied, counters.told, counters.summed_up) == (1000, 20, 980)
    bench.deny(2000)  # there is room for single ones again
    assert isinstance(bench.told[-1], events.FlowDenied)
    bench.loop.advance(10 * SUM_UP)
    assert len(bench.told) == 22, "nothing is summed up when nothing was left out"


def test_a_long_flood_is_bounded_and_nothing_is_lost(bench: Bench) -> None:
    """A minute of 1,000 a second: at most 20 events a second and one number each SUM_UP; together they are all."""
    for number in range(60_000):
        bench.deny(number % 65536, source_port=number // 65536)
        bench.loop.advance(0.001)
    bench.audit.close()
    singles = [event for event in bench.told if isinstance(event, events.FlowDenied)]
    sums = [event for event in bench.told if isinstance(event, events.FlowsDenied)]
    assert len(singles) <= 60 * RATE + RATE
    assert len(sums) <= 60 / SUM_UP + 1
    assert len(singles) + sum(event.count for event in sums) == bench.audit.counters.denied == 60_000
    assert len(bench.audit._flows) <= REMEMBERED
    assert len(bench.audit._destinations) <= REMEMBERED


def test_what_is_untold_at_the_end_is_told(bench: Bench) -> None:
    for port in range(30):
        bench.deny(port)
    bench.audit.close()
    assert bench.told[-1] == events.FlowsDenied(count=10, seconds=0.0, total=30)
    assert not bench.loop.timers
    Bench().audit.close()  # and nothing where there is nothing
