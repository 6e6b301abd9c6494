"""The tail loss probe (RFC 8985, section 7)."""

from __future__ import annotations

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import Unlimited

from .conversation import MSS
from .losses import part, send, sending, steady

PROBE = 0.21
"""Two round trips of 0.1 s that hardly vary, and a little."""


def test_the_last_segment_is_sent_again_after_two_round_trips() -> None:
    talk, number = steady()
    send(talk, number, 3)
    rto = talk.connection.sender.rtt.rto
    assert rto > PROBE
    talk.passes(PROBE)
    talk.hears("A", 1 + (number + 2) * MSS, data=part(number + 2))
    talk.passes(rto - 0.01)  # the retransmission timer begins anew
    talk.silent()


def test_new_data_is_the_better_probe() -> None:
    talk, number = steady()
    talk.connection.sender.cc.cwnd = 2 * MSS
    send(talk, number, 2)
    talk.writes(b"new")
    talk.writes(bytes(MSS))
    talk.silent()
    talk.passes(PROBE)
    talk.hears("A", 1 + (number + 2) * MSS, data=b"new" + bytes(MSS - 3))  # beyond that window
    talk.silent()


def test_its_answer_tells_of_the_losses_before_it() -> None:
    """Fast recovery instead of a timeout: all but the probe were lost."""
    talk, number = steady()
    at = 1 + number * MSS
    send(talk, number, 4)
    talk.passes(PROBE)
    talk.hears("A", at + 3 * MSS)
    talk.passes(0.1)
    talk.says("A", 1, at, sacks=[(at + 3 * MSS, at + 4 * MSS)])
    talk.passes(0.1 / 4 + 0.001)
    talk.hears("A", at, data=part(number))
    sender = talk.connection.sender
    assert sender.in_recovery
    assert sender.retries == 0


def test_a_loss_it_has_mended_by_itself_is_congestion_as_well() -> None:
    """Section 7.4.2: nobody reports a needless copy, so there was none."""
    talk, number = steady()
    at = 1 + number * MSS
    talk.connection.sender.cc.cwnd = 10 * MSS
    send(talk, number, 4)
    talk.passes(PROBE)
    talk.hears("A", at + 3 * MSS)
    talk.passes(0.1)
    talk.says("A", 1, at + 4 * MSS)
    assert talk.connection.sender.cc.cwnd == 2 * MSS
    assert talk.quiet


def test_a_needless_probe_costs_nothing() -> None:
    """The peer reports that it has it twice (RFC 2883): only the acknowledgements were lost."""
    talk, number = steady()
    at = 1 + number * MSS
    cwnd = talk.connection.sender.cc.cwnd
    send(talk, number, 4)
    talk.passes(PROBE)
    talk.hears("A", at + 3 * MSS)
    talk.passes(0.1)
    talk.says("A", 1, at + 4 * MSS, sacks=[(at + 3 * MSS, at + 4 * MSS)])
    assert talk.connection.sender.cc.cwnd >= cwnd
    assert talk.connection.sender.rack is None or talk.connection.sender.rack.multiple == 1


def test_a_single_segment_is_given_the_time_of_a_delayed_acknowledgement() -> None:
    talk, number = steady(TcpConfig(min_rto=1.0))
    send(talk, number, 1)
    talk.passes(PROBE)
    talk.silent()
    talk.passes(0.2)
    talk.hears("A", 1 + number * MSS)


def test_there_is_one_probe_at_a_time() -> None:
    talk, number = steady(TcpConfig(min_rto=5.0))
    send(talk, number, 4)
    talk.passes(PROBE)
    talk.hears("A", 1 + (number + 3) * MSS)
    talk.passes(4.5)
    talk.silent()


def test_no_probe_on_a_link_that_stalls_nor_without_reports() -> None:
    talk, number = steady(TcpConfig(congestion=Unlimited, min_rto=5.0))
    send(talk, number, 4)
    talk.passes(4.5)
    talk.silent()
    talk = sending(4, TcpConfig(min_rto=5.0), sack=False)
    talk.passes(4.5)
    talk.silent()


def test_a_timer_that_comes_late_waits_for_what_else_is_late() -> None:
    """The process stood still; the acknowledgement lies in the queue, and is read a moment later."""
    talk, number = steady()
    send(talk, number, 4)
    sender = talk.connection.sender
    talk.now = sender.look_at + 0.05
    talk.connection.handle_timeout(talk.now)
    talk.silent()
    talk.says("A", 1, 1 + (number + 4) * MSS)
    assert talk.quiet
