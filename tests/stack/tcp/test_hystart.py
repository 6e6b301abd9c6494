"""HyStart++: slow start ends when round trips grow (RFC 9406)."""

from __future__ import annotations

from netbridge.stack.tcp.congestion import MAX_CWND
from netbridge.stack.tcp.cubic import Cubic
from netbridge.stack.tcp.hystart import CSS_ROUNDS, HyStart


def round_of(start: HyStart, number: int, rtt: float, samples: int = 10) -> bool:
    """A round: everything sent so far is acknowledged, sample by sample; whether slow start is over."""
    over = False
    for sample in range(samples):
        over |= start.round_trip(rtt, number * 100 + sample, (number + 1) * 100)
    return over


def test_growing_round_trips_make_it_slow_and_then_end_it() -> None:
    start = HyStart()
    round_of(start, 0, 0.1)
    round_of(start, 1, 0.105)  # less than an eighth
    assert not start.slow
    round_of(start, 2, 0.12)
    assert start.slow
    over = [round_of(start, 3 + number, 0.121) for number in range(CSS_ROUNDS)]
    assert over == [False] * (CSS_ROUNDS - 1) + [True]


def test_jitter_is_forgiven() -> None:
    """Section 4.2: round trips fall below what they were when it became slow."""
    start = HyStart()
    round_of(start, 0, 0.1)
    round_of(start, 1, 0.12)
    assert start.slow
    round_of(start, 2, 0.1)
    assert not start.slow


def test_few_samples_prove_nothing() -> None:
    start = HyStart()
    round_of(start, 0, 0.1)
    round_of(start, 1, 0.2, samples=7)
    assert not start.slow


def test_four_milliseconds_at_least_sixteen_at_most() -> None:
    for rtt, grown, slow in ((0.001, 0.0049, False), (0.001, 0.0051, True), (1.0, 1.015, False), (1.0, 1.017, True)):
        start = HyStart()
        round_of(start, 0, rtt)
        round_of(start, 1, grown)
        assert start.slow == slow


def test_the_window_grows_at_a_quarter_of_the_pace_and_stops_at_the_end() -> None:
    control = Cubic(1000)
    sent = 0
    for rtt in (0.1, 0.13):
        sent += 100
        for sample in range(8):
            control.round_trip(rtt, sent - 100 + sample, sent)
    before = control.cwnd
    control.acked(1000, 1.0, 0.1, full=True)
    assert control.cwnd == before + 250
    for _ in range(CSS_ROUNDS):
        sent += 100
        control.round_trip(0.13, sent - 100, sent)
    assert control.ssthresh == control.cwnd < MAX_CWND
    assert not control.samples
