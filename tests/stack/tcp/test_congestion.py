"""Congestion control: NewReno's windows (RFC 5681, 6928), pauses (RFC 5681 section 4.1, RFC 7661), and who cheats."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import (
    MAX_BURST,
    MAX_CWND,
    MOST_IN_FLIGHT,
    CongestionControl,
    NewReno,
    Unlimited,
    after_idle,
    initial_window,
)
from netbridge.stack.tcp.cubic import Cubic

from .conversation import MSS, Talk
from .losses import RTT, send, sending


def grown(mss: int = MSS, *, to: int, ssthresh: int = MAX_CWND) -> NewReno:
    control = NewReno(mss)
    control.cwnd, control.ssthresh = to, ssthresh
    return control


@pytest.mark.parametrize(("mss", "window"), [(536, 5360), (1460, 14600), (9000, 18_000), (1000, 10_000)])
def test_the_first_window(mss: int, window: int) -> None:
    """RFC 6928: ten segments, but of large ones no more than 14,600 bytes or two."""
    assert initial_window(mss) == window


def test_slow_start_doubles_and_avoidance_adds_a_segment() -> None:
    control = grown(to=10 * MSS, ssthresh=20 * MSS)
    for _ in range(10):
        control.acked(MSS, 0.0, 0.1, full=True)
    assert control.cwnd == 20 * MSS
    for _ in range(20):
        control.acked(MSS, 0.0, 0.1, full=True)
    assert control.cwnd == 21 * MSS


def test_bytes_are_counted_not_acknowledgements() -> None:
    """ACK division (Savage et al., 1999; RFC 5681, section 3.1): each byte acknowledged alone gains nothing."""
    whole, divided = NewReno(MSS), NewReno(MSS)
    whole.acked(MSS, 0.0, 0.1, full=True)
    for _ in range(MSS):
        divided.acked(1, 0.0, 0.1, full=True)
    assert whole.cwnd == divided.cwnd


def test_one_acknowledgement_opens_for_no_large_burst() -> None:
    """L of RFC 3465; a super-segment, which is acknowledged in one, counts whole."""
    control = grown(to=10 * MSS)
    control.acked(100 * MSS, 0.0, 0.1, full=True)
    assert control.cwnd == (10 + MAX_BURST) * MSS
    control.resize(MSS, 44 * MSS)
    control.acked(100 * MSS, 0.0, 0.1, full=True)
    assert control.cwnd == (10 + MAX_BURST + 44) * MSS


@pytest.mark.parametrize("control", [NewReno, Cubic])
def test_the_application_that_sends_little_opens_no_window(control: type) -> None:
    """RFC 7661's reason: a window that was never used is not known to be good."""
    talk = Talk.established(TcpConfig(congestion=control), sack=True)
    for number in range(50):
        send(talk, number, 1)
        talk.passes(0.1)
        talk.says("A", 1, 1 + (number + 1) * MSS)
    assert talk.connection.sender.cc.cwnd == 10 * MSS


def test_a_burst_of_acknowledgements_opens_it_whole() -> None:
    """What was sent while the window was full counts, though less is in flight with each acknowledgement."""
    talk = sending(10)
    for _ in range(10):
        talk.connection.sender.acked((talk.connection.sender.una + MSS) & 0xFFFF_FFFF, talk.now)
    assert talk.connection.sender.cc.cwnd == 20 * MSS


def test_after_a_pause_the_window_is_smaller_but_remembered() -> None:
    cwnd, ssthresh = after_idle(80 * MSS, 40 * MSS, MSS, 1.0, 0.4)
    assert (cwnd, ssthresh) == (20 * MSS, 60 * MSS)
    assert after_idle(80 * MSS, 40 * MSS, MSS, 1e9, 0.4)[0] == 10 * MSS
    assert after_idle(4 * MSS, 4 * MSS, MSS, 1e9, 0.4)[0] == 4 * MSS


@pytest.mark.parametrize("control", [NewReno, Cubic])
def test_a_pause_begins_when_the_last_segment_left(control: type) -> None:
    talk = sending(10, TcpConfig(congestion=control))
    talk.passes(RTT)
    talk.says("A", 1, 10_001)
    cc = talk.connection.sender.cc
    cc.cwnd = 64 * MSS
    talk.passes(0.1)
    send(talk, 10, 1)
    assert cc.cwnd == 64 * MSS
    talk.says("A", 1, 11_001)
    talk.passes(60)
    send(talk, 11, 1)
    assert cc.cwnd == 10 * MSS
    assert cc.ssthresh == MAX_CWND  # it never met congestion


def test_unlimited_knows_no_pause() -> None:
    talk = sending(1, TcpConfig(congestion=Unlimited))
    talk.says("A", 1, 1001)
    talk.passes(60)
    send(talk, 1, 1)
    assert talk.connection.sender.cc.cwnd == MAX_CWND


def test_an_acknowledgement_of_what_was_not_sent_opens_nothing() -> None:
    """An optimistic peer (Savage et al., 1999; RFC 9293, section 3.10.7.4)."""
    talk = sending(5)
    talk.says("A", 1, 6001)
    talk.hears("A", 5001, 1, b"")
    assert talk.connection.sender.cc.cwnd == 10 * MSS
    assert talk.connection.sender.flight == 5 * MSS


@pytest.mark.parametrize("control", [NewReno, Cubic])
def test_the_window_is_never_less_than_two_segments_after_a_loss(control: type) -> None:
    cc = control(MSS)
    for _ in range(20):
        cc.reduce(cc.cwnd, 1.0)
        cc.settle()
    assert cc.cwnd == 2 * MSS


@pytest.mark.parametrize("control", [NewReno, Cubic])
def test_what_is_undone_is_as_before(control: type) -> None:
    cc = control(MSS)
    cc.cwnd = 50 * MSS
    cc.timeout(50 * MSS, 1.0, again=False)
    cc.timeout(50 * MSS, 2.0, again=True)
    assert cc.cwnd == MSS
    cc.undo()
    assert (cc.cwnd, cc.ssthresh) == (50 * MSS, MAX_CWND)


@pytest.mark.parametrize("control", [NewReno, Cubic])
@pytest.mark.parametrize("ssthresh", [MAX_CWND, 1])
def test_a_peer_that_takes_all_does_not_make_us_hold_all_at_once(
    control: Callable[[int], CongestionControl], ssthresh: int
) -> None:
    cc = control(MSS)
    cc.cwnd = MOST_IN_FLIGHT - MSS
    cc.ssthresh = ssthresh
    for number in range(100):
        cc.acked(MOST_IN_FLIGHT, number / 10, 0.1, full=True)
    assert cc.cwnd == MOST_IN_FLIGHT
