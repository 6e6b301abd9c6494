"""CUBIC's curve (RFC 9438)."""

from __future__ import annotations

import pytest

from netbridge.stack.tcp.cubic import BETA, C, Cubic

MSS = 1000


def cubic(segments: int) -> Cubic:
    """In congestion avoidance for the first time, with that window."""
    control = Cubic(MSS)
    control.cwnd = control.ssthresh = segments * MSS
    return control


def rounds(control: Cubic, start: float, seconds: float, rtt: float) -> float:
    """A full window is acknowledged each round trip, segment by segment; returns the time afterwards."""
    now = start
    while now < start + seconds:
        window = control.cwnd // MSS
        for number in range(window):
            control.acked(MSS, now + rtt * number / window, rtt, full=True)
        now += rtt
    return now


def test_congestion_leaves_seven_tenths() -> None:
    """Section 4.6."""
    control = cubic(100)
    control.reduce(100 * MSS, 1.0)
    control.settle()
    assert control.cwnd == pytest.approx(70 * MSS, abs=1)


def test_it_returns_to_the_last_maximum_after_k_seconds() -> None:
    """Section 4.2: K is the cube root of what was lost, by C; there the curve is flat, and then it looks for more."""
    control = cubic(1000)
    control.reduce(1000 * MSS, 1.0)
    control.settle()
    k = (1000 * (1 - BETA) / C) ** (1 / 3)
    rounds(control, 1.0, k, 0.1)
    assert control.cwnd == pytest.approx(1000 * MSS, rel=0.02)
    rounds(control, 1.0 + k, 2.0, 0.1)
    assert control.cwnd < 1010 * MSS
    rounds(control, 3.0 + k, 4.0, 0.1)
    assert control.cwnd > 1050 * MSS


def test_half_of_the_loss_is_made_up_for_in_a_fifth_of_the_time() -> None:
    """The concave part (section 4.4)."""
    control = cubic(1000)
    control.reduce(1000 * MSS, 1.0)
    control.settle()
    rounds(control, 1.0, 0.206 * (1000 * (1 - BETA) / C) ** (1 / 3), 0.05)
    assert control.cwnd == pytest.approx(850 * MSS, rel=0.03)


def test_on_short_paths_it_is_as_fast_as_reno() -> None:
    """Section 4.3: 3 (1 - β) / (1 + β) of a segment each round trip, until the last maximum, then one."""
    control = cubic(20)
    control.reduce(20 * MSS, 1.0)
    control.settle()
    rounds(control, 1.0, 0.0995, 0.01)
    assert control.cwnd == pytest.approx(14 * MSS + 10 * 0.53 * MSS, abs=0.7 * MSS)


def test_who_did_not_reach_the_last_maximum_makes_room() -> None:
    """Fast convergence (section 4.7): the second loss at a smaller window aims lower."""
    slow, fast = cubic(100), cubic(100)
    for control, second in ((slow, 100), (fast, 80)):
        control.reduce(100 * MSS, 1.0)
        control.cwnd = second * MSS
        control.reduce(second * MSS, 2.0)
    assert slow._w_max == 100
    assert fast._w_max == pytest.approx(80 * (1 + BETA) / 2)


def test_after_a_timeout_the_first_stage_begins_flat() -> None:
    """Section 4.8: K is 0, and W_max the window there."""
    control = cubic(100)
    control.timeout(100 * MSS, 1.0, again=False)
    assert control.cwnd == MSS
    assert control.ssthresh == 70 * MSS
    control.cwnd = control.ssthresh
    control.acked(MSS, 5.0, 0.1, full=True)
    assert control._k == 0
    assert control._w_max == pytest.approx(70)


def test_time_in_which_the_window_was_not_tried_does_not_count() -> None:
    """Section 5.8."""
    control = cubic(100)
    control.reduce(100 * MSS, 1.0)
    control.settle()
    now = rounds(control, 1.0, 1.0, 0.1)
    before = control.cwnd
    for _ in range(300):
        control.acked(MSS, now, 0.1, full=False)
        now += 0.1
    control.idle(100.0, 1.0)
    control.cwnd = before
    now += 100.0
    rounds(control, now, 0.1, 0.1)
    assert control.cwnd < 1.1 * before


def test_it_grows_by_half_a_round_trip_at_most() -> None:
    """Section 4.2: whatever the curve says."""
    control = cubic(10)
    control.acked(MSS, 0.0, 0.1, full=True)
    for _ in range(10):
        control.acked(MSS, 1000.0, 0.1, full=True)
    assert control.cwnd <= 17 * MSS
