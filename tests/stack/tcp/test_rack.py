"""RACK: what left well before something that arrived is lost (RFC 8985, section 6)."""

from __future__ import annotations

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import Unlimited

from .conversation import MSS
from .losses import RTT, part, send, sending


def test_one_report_and_a_quarter_of_a_round_trip_are_enough() -> None:
    """No third duplicate comes; the reordering timer does (section 6.2, step 5)."""
    talk = sending(2)
    talk.passes(RTT)
    talk.says("A", 1, 1, sacks=[(1001, 2001)])
    talk.silent()
    talk.passes(RTT / 4 - 0.001)
    talk.silent()
    talk.passes(0.002)
    talk.hears("A", 1, data=part(0))


def test_three_segments_beyond_a_hole_need_no_patience() -> None:
    """While the path was never seen to reorder (step 4)."""
    talk = sending(4)
    talk.passes(RTT)
    talk.says("A", 1, 1, sacks=[(1001, 4001)])
    talk.hears("A", 1, data=part(0))


def test_a_path_that_reorders_is_given_time() -> None:
    """What was taken for late arrived late once: three segments beyond a hole prove nothing any more (step 3)."""
    talk = sending(3)
    talk.passes(RTT)
    talk.says("A", 1, 1, sacks=[(1001, 2001)])
    talk.says("A", 1, 3001)  # the first had been overtaken
    send(talk, 3, 5)
    talk.passes(RTT)
    talk.says("A", 1, 3001, sacks=[(4001, 8001)])
    talk.silent()
    talk.passes(RTT / 4 + 0.001)
    talk.hears("A", 3001, data=part(3))


def test_a_copy_that_is_lost_is_sent_a_third_time() -> None:
    """Segments that left after the copy arrived (step 5): no timeout is needed."""
    talk = sending(4)
    talk.passes(RTT)
    talk.says("A", 1, 1, sacks=[(1001, 4001)])
    talk.hears("A", 1, data=part(0))
    talk.passes(0.01)
    send(talk, 4, 1)
    talk.passes(RTT)
    talk.says("A", 1, 1, sacks=[(1001, 5001)])
    talk.hears("A", 1, data=part(0))
    assert talk.connection.sender.retries == 0


def test_what_left_later_is_not_lost() -> None:
    """The evidence is older than it."""
    talk = sending(3)
    talk.passes(0.1)
    send(talk, 3, 4)
    talk.passes(RTT - 0.1)
    talk.says("A", 1, 1001, sacks=[(2001, 3001)])
    talk.passes(RTT / 4 + 0.001)
    talk.hears("A", 1001, data=part(1))
    talk.silent()


def test_what_left_just_after_a_copy_is_not_lost_when_that_arrives() -> None:
    """Though it left within a moment of what left before the copy, and is lost."""
    talk = sending(4)
    talk.passes(RTT)
    talk.connection.sender.cc.cwnd = 20 * MSS
    send(talk, 4, 2)
    talk.passes(0.0001)
    talk.says("A", 1, 1, sacks=[(1001, 4001)])
    talk.hears("A", 1, data=part(0))
    talk.passes(0.0001)
    talk.connection.sender.cc.cwnd = 20 * MSS
    send(talk, 6, 1)
    talk.passes(RTT)
    talk.says("A", 1, 5001)
    talk.hears("A", 5001, data=part(5))
    talk.silent()
    assert talk.connection.sender.in_recovery


def test_a_confirmation_sooner_than_any_round_trip_is_of_the_first_copy() -> None:
    """Step 2: else it would prove that all that left before the copy is lost."""
    talk = sending(3)
    talk.passes(RTT)
    talk.says("A", 1, 1, sacks=[(2001, 3001)])
    talk.passes(RTT / 4 + 0.001)
    talk.hears("A", 1, data=part(0))
    rack = talk.connection.sender.rack
    assert rack is not None
    evidence = rack.latest
    talk.passes(0.01)
    talk.says("A", 1, 1001, sacks=[(2001, 3001)])
    assert rack.latest == evidence


def test_reports_of_needless_copies_widen_the_window_for_sixteen_recoveries() -> None:
    """Section 6.2, step 4: a quarter of the round trip more, at most once a round trip."""
    talk = sending(4, TcpConfig(congestion=Unlimited))
    talk.passes(RTT)
    talk.says("A", 1, 1, sacks=[(1001, 4001)])
    talk.hears("A", 1, data=part(0))
    talk.says("A", 1, 4001)
    rack = talk.connection.sender.rack
    assert rack is not None
    assert rack.multiple == 1
    talk.says("A", 1, 4001, sacks=[(1, 1001)])
    assert rack.multiple == 2
    talk.says("A", 1, 4001, sacks=[(1, 1001)])  # more than was sent again
    assert rack.multiple == 2
    for recovery in range(16):
        assert rack.multiple == 2
        first = 4 + 4 * recovery
        send(talk, first, 4)
        talk.passes(RTT)
        ack = 1 + first * MSS
        talk.says("A", 1, ack, sacks=[(ack + MSS, ack + 4 * MSS)])
        talk.passes(RTT / 2 + 0.001)
        talk.hears("A", ack)
        talk.says("A", 1, ack + 4 * MSS)
    assert rack.multiple == 1


def test_a_burst_is_one_entry_of_the_log() -> None:
    """However many packets leave within a sixteenth of a round trip; the first in flight is none."""
    talk = sending(10)
    starts = talk.connection.sender._run_starts
    assert starts == []
    talk.passes(0.1)
    talk.says("A", 1, 2001)
    send(talk, 10, 1)
    talk.passes(0.0005)
    send(talk, 11, 3)
    assert starts == [10_000]
    talk.passes(0.1)
    talk.says("A", 1, 4001)
    send(talk, 14, 4)
    assert starts == [10_000, 14_000]
    talk.says("A", 1, 13_001)
    assert starts == [14_000]
    talk.says("A", 1, 18_001)
    assert starts == []
    send(talk, 18, 1)
    assert starts == []


def test_a_link_that_stands_still_does_not_fill_the_memory() -> None:
    """A byte every two milliseconds, for a minute, with nothing acknowledged."""
    talk = sending(1, TcpConfig(congestion=Unlimited, min_rto=60.0))
    for _ in range(30_000):
        talk.now += 0.002
        talk.connection.write(b"x")
        talk.connection.transmit(talk.now)
    assert talk.connection.sender.flight == 31_000
    assert len(talk.connection.sender._run_starts) < 3000
