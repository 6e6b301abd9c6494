"""The window against simulated paths: it fills the path, and it does not fill the buffers before it."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbridge.bridge.agent.frames import FrameError
from netbridge.bridge.agent.window import CAP, COALESCE, FLOOR, LAZY, PROBE, AckCounter, SendWindow


class Path:
    """A greedy sender, a bottleneck of `rate` bytes a second with an endless buffer, `delay` seconds each way."""

    def __init__(self, rate: float, delay: float, packet: int = 65536, each: float = 20e-6) -> None:
        self.rate, self.delay, self.packet, self.each = rate, delay, packet, each
        self.window = SendWindow()
        self.acks = AckCounter()
        self.now = 0.0
        self.free_at = 0.0
        self.worst_queue = 0.0
        self._events: list[tuple[float, int, int]] = []  # time, bytes arriving (> 0) or ACK of -n (<= 0)
        self._number = 0

    def _push(self, when: float, value: int) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, value))

    def run(self, seconds: float) -> float:
        """Bytes a second that arrived."""
        end = self.now + seconds
        began, taken = self.now, self.acks.taken
        while self.now < end:
            while self.window.open:
                self.window.add(self.packet, self.now)
                self.now += self.each
                start = max(self.now, self.free_at)
                self.worst_queue = max(self.worst_queue, start - self.now)
                self.free_at = start + self.packet / self.rate
                self._push(self.free_at + self.delay, self.packet)
            when, _, value = heapq.heappop(self._events)
            self.now = max(self.now, when)
            if value > 0:
                self.acks.taken += value
                more = bool(self._events) and self._events[0][0] <= when + 50e-6
                if self.acks.due(burst_ended=not more):
                    self.acks.told = self.acks.taken
                    self._push(when + self.delay, -self.acks.taken)
            else:
                self.window.acknowledge(-value, self.now)
        return (self.acks.taken - taken) / (self.now - began)


@pytest.mark.parametrize(
    ("mbit", "delay", "queue"),
    [(2, 0.02, 1.2), (10, 0.01, 0.25), (50, 0.02, 0.12), (300, 0.01, 0.08), (1000, 0.001, 0.05), (5000, 0.0001, 0.05)],
)
def test_fills_the_path_and_queues_little(mbit: int, delay: float, queue: float) -> None:
    rate = mbit * 125_000
    path = Path(rate, delay)
    path.run(1.0)
    path.worst_queue = 0.0
    reached = path.run(60.0)
    print(f"{mbit} Mbit/s: {reached / rate:.1%}, queue {path.worst_queue * 1000:.0f} ms, {path.window.size >> 10} KiB")
    assert reached > 0.93 * rate
    assert path.worst_queue < queue


def test_a_long_fat_path_is_filled_after_a_slow_start() -> None:
    path = Path(125_000_000, 0.05)
    path.run(3.0)
    assert path.run(10.0) > 0.9 * 125_000_000
    assert path.window.size <= CAP


def test_a_path_that_slows_down_gets_a_smaller_window() -> None:
    path = Path(125_000_000, 0.005)
    path.run(5.0)
    before = path.window.size
    path.rate = 1_250_000
    path.run(30.0)
    path.worst_queue = 0.0
    path.run(20.0)
    assert path.window.size < before
    assert path.worst_queue < 0.3


def test_a_path_that_got_longer_is_filled_again() -> None:
    path = Path(12_500_000, 0.005)
    path.run(5.0)
    path.delay = 0.1
    path.run(60.0)
    assert path.run(10.0) > 0.85 * 12_500_000


def test_small_packets_far_below_the_window_never_close_it() -> None:
    window, acks, now = SendWindow(), AckCounter(), 0.0
    for _ in range(100_000):
        window.add(100, now)
        acks.taken += 100
        if acks.due(burst_ended=True):
            acks.told = acks.taken
            window.acknowledge(acks.told, now + 0.001)
        now += 0.01
        assert window.open
    assert window.in_flight < LAZY + 100
    assert window.size >= FLOOR


@pytest.mark.parametrize("total", [0, 99, 301, 1 << 63])
def test_an_acknowledgement_of_what_was_never_sent_or_taken_back_is_refused(total: int) -> None:
    window = SendWindow()
    window.add(300, 0.0)
    window.acknowledge(100, 0.1)
    with pytest.raises(FrameError, match="acknowledgement"):
        window.acknowledge(total, 0.2)


def test_acknowledging_opens_a_closed_window_once() -> None:
    window = SendWindow(initial=1000)
    window.add(1500, 0.0)
    assert not window.open
    assert window.acknowledge(1500, 0.01)
    assert window.open
    assert not window.acknowledge(1500, 0.02)


@given(st.lists(st.tuples(st.integers(1, 65575), st.floats(0, 5), st.floats(0, 1)), max_size=200))
def test_the_window_stays_in_its_bounds(steps: list[tuple[int, float, float]]) -> None:
    window, now = SendWindow(), 0.0
    for count, pause, share in steps:
        window.add(count, now)
        now += pause
        window.acknowledge(window.acked + int(window.in_flight * share), now)
        assert PROBE <= window.size <= CAP
        assert 0 <= window.in_flight == window.sent - window.acked


def test_a_burst_is_acknowledged_on_its_way_and_at_its_end() -> None:
    acks = AckCounter()
    acks.taken = COALESCE - 1
    assert not acks.due(burst_ended=False)
    assert acks.due(burst_ended=True)
    acks.taken = COALESCE
    assert acks.due(burst_ended=False)
    acks.told = acks.taken
    assert not acks.due(burst_ended=True)
