"""What is done about losses, and undone when there were none (RFC 5681, 5682, 6298, 6582, 6675, 2883, 3522)."""

from __future__ import annotations

import pytest

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import MAX_CWND, Unlimited

from .conversation import MSS, OUR_ISN, Talk
from .losses import RTT, part, send, sending, steady


def cwnd(talk: Talk) -> int:
    return talk.connection.sender.cc.cwnd


# -- limited transmit (RFC 3042)


def test_two_duplicates_let_two_new_segments_out() -> None:
    talk = sending(10, sack=False)
    talk.writes(bytes(5 * MSS))
    talk.silent()
    talk.says("A", 1, 1)
    talk.hears("A", 10_001)
    talk.says("A", 1, 1)
    talk.hears("A", 11_001)
    talk.says("A", 1, 1)
    talk.hears("A", 1, data=part(0))


# -- without SACK (RFC 6582)


def test_newreno_repairs_a_loss_each_round_trip_and_halves_once() -> None:
    talk = sending(10, sack=False)
    for _ in range(3):
        talk.says("A", 1, 1)
    talk.hears("A", 1, data=part(0))
    talk.says("A", 1, 4001)
    talk.hears("A", 4001, data=part(4))
    talk.says("A", 1, 8001)
    talk.hears("A", 8001, data=part(8))
    talk.says("A", 1, 10_001)
    assert cwnd(talk) == 5 * MSS
    assert talk.quiet


def test_duplicates_of_what_a_timeout_sent_again_begin_nothing() -> None:
    """RFC 6582, section 3.2, step 2."""
    talk = sending(6, sack=False)
    talk.passes(0.8)
    talk.hears("A", 1, data=part(0))
    talk.says("A", 1, 1001)
    talk.hears("A", 1001)
    talk.hears("A", 2001)
    for _ in range(4):
        talk.says("A", 1, 1001)
    talk.silent()


# -- with SACK (RFC 6675)


def test_a_recovery_without_news_asks_with_the_last_segment() -> None:
    """Rescue (NextSeg, rule 4): the copy is lost as well, and nothing left after it that could tell."""
    talk, number = steady()
    at = 1 + number * MSS
    send(talk, number, 8)
    talk.passes(0.1)
    talk.says("A", 1, at, sacks=[(at + MSS, at + 7 * MSS)])
    talk.hears("A", at, data=part(number))
    talk.passes(0.19)
    talk.silent()
    talk.passes(0.02)
    talk.hears("A", at + 7 * MSS, data=part(number + 7))
    talk.passes(0.1)
    talk.says("A", 1, at, sacks=[(at + 7 * MSS, at + 8 * MSS), (at + MSS, at + 7 * MSS)])
    talk.hears("A", at, data=part(number))
    assert talk.connection.sender.retries == 0


def wakeups(talk: Talk) -> int:
    """How often a timer comes before the retransmission timer does; nothing leaves by them."""
    connection, sender = talk.connection, talk.connection.sender
    count = 0
    while connection.next_timeout() < sender.deadline and count < 100:
        talk.passes(connection.next_timeout() - talk.now)
        count += 1
    talk.silent()
    return count


def test_a_peer_that_reports_everything_and_acknowledges_nothing_costs_no_time() -> None:
    """Nothing was left to rescue, and was looked for twice a round trip until the timeout."""
    talk, number = steady(rtt=0.001)
    at = 1 + number * MSS
    send(talk, number, 8)
    talk.passes(0.001)
    talk.says("A", 1, at, sacks=[(at + MSS, at + 8 * MSS)])
    talk.hears("A", at, data=part(number))
    talk.passes(0.001)
    talk.says("A", 1, at, sacks=[(at, at + 8 * MSS)])
    assert wakeups(talk) <= 2


def test_losses_that_wait_for_their_turn_cost_no_time() -> None:
    """Likewise where proportional rate reduction held them back, and no news came."""
    talk, number = steady(rtt=0.001)
    at = 1 + number * MSS
    send(talk, number, 10)
    talk.passes(0.001)
    talk.says("A", 1, at, sacks=[(at + 7 * MSS, at + 10 * MSS)])
    for again in range(3):
        talk.hears("A", at + again * MSS, data=part(number + again))
    assert talk.connection.sender.board
    assert talk.connection.sender.board.lost == 4 * MSS
    assert wakeups(talk) <= 2


def test_only_what_is_lost_of_a_super_segment_is_sent_again() -> None:
    talk = Talk.established(TcpConfig(congestion=Unlimited), sack=True, max_payload=20 * MSS)
    talk.writes(b"".join(part(number) for number in range(20)))
    talk.hears("A", 1)
    talk.passes(RTT)
    talk.says("A", 1, 1, sacks=[(1001, 5001), (7001, 20_001)])
    talk.hears("A", 1, data=part(0))
    talk.hears("A", 5001, data=part(5) + part(6))
    talk.silent()


def test_the_fin_is_sent_again_with_the_data_before_it() -> None:
    talk = sending(1)
    talk.closes()
    talk.hears("FA", 1001)
    talk.passes(0.8)
    talk.hears("A", 1, data=part(0))
    talk.says("A", 1, 1001)
    talk.hears("FA", 1001, data=b"")
    talk.says("A", 1, 1002)
    assert talk.state == "FIN-WAIT-2"


# -- the timeout


def test_a_timeout_asks_with_one_segment_and_sends_the_rest_when_it_was_lost() -> None:
    """RFC 5681, section 3.1: the window is one segment, then doubles."""
    talk = sending(8)
    talk.passes(0.8)
    talk.hears("A", 1, data=part(0))
    talk.silent()
    talk.says("A", 1, 1001)
    talk.hears("A", 1001)
    talk.hears("A", 2001)
    talk.silent()
    talk.says("A", 1, 3001)
    for number in range(3, 7):
        talk.hears("A", 1 + number * MSS)
    talk.silent()


def test_a_timeout_that_was_needless_is_undone() -> None:
    """F-RTO (RFC 5682): the answer covers what was sent only once."""
    talk = sending(8)
    before = cwnd(talk)
    talk.passes(0.8)
    talk.hears("A", 1, data=part(0))
    assert cwnd(talk) == MSS
    talk.says("A", 1, 3001)
    talk.silent()
    assert cwnd(talk) >= before
    assert talk.connection.sender.undone == 1
    talk.says("A", 1, 8001)
    assert talk.quiet


def test_the_timeout_stays_doubled_until_something_is_timed() -> None:
    """Karn's algorithm (RFC 6298, section 5): the acknowledgement of a copy tells nothing about the path."""
    talk = sending(1)
    estimator = talk.connection.sender.rtt
    once = estimator.rto
    talk.passes(once + 0.01)
    talk.hears("A", 1)
    talk.says("A", 1, 1001)
    assert estimator.rto == 2 * once
    send(talk, 1, 1)
    talk.passes(RTT)
    talk.says("A", 1, 2001)
    assert estimator.rto < once


def test_what_is_sent_first_while_losses_are_repaired_is_timed() -> None:
    """Else a timeout that has doubled stays so through a repair, and the next loss waits for as long again."""
    talk = sending(2, sack=False)
    estimator = talk.connection.sender.rtt
    once = estimator.rto
    talk.passes(once + 0.01)
    talk.hears("A", 1)
    talk.says("A", 1, 1001)
    talk.hears("A", 1001)
    send(talk, 2, 1)
    talk.passes(RTT)
    talk.says("A", 1, 2001)
    assert estimator.rto == 2 * once
    talk.says("A", 1, 3001)
    assert estimator.rto < once


@pytest.mark.parametrize("sack", [True, False])
def test_what_waited_for_a_copy_before_it_is_not_timed(sack: bool) -> None:
    """The report of the second and third segment was lost: that the path is slow nobody said."""
    talk = sending(3, sack=sack)
    estimator = talk.connection.sender.rtt
    before = estimator.srtt
    talk.passes(estimator.rto + 0.01)
    talk.hears("A", 1)
    talk.passes(RTT)
    talk.says("A", 1, 3001)
    assert estimator.srtt == before


def test_on_a_link_that_stalls_it_does_not() -> None:
    talk = sending(1, TcpConfig(congestion=Unlimited))
    estimator = talk.connection.sender.rtt
    once = estimator.rto
    talk.passes(once + 0.01)
    talk.hears("A", 1)
    talk.says("A", 1, 1001)
    assert estimator.rto == once


def test_an_echoed_timestamp_tells_which_copy_arrived() -> None:
    """Eifel (RFC 3522): what was acknowledged had left before the copy."""
    talk = sending(6)
    before = cwnd(talk)
    talk.passes(RTT)
    talk.says("A", 1, 1, sacks=[(1001, 5001)])
    talk.hears("A", 1, data=part(0))
    talk.passes(0.1)
    sender = talk.connection.sender
    sender.acked((OUR_ISN + 5001) & 0xFFFF_FFFF, talk.now, rtt=RTT + 0.1)
    assert sender.undone == 1
    assert cwnd(talk) >= before


def test_an_echoed_timestamp_of_the_copy_undoes_nothing() -> None:
    talk = sending(6)
    talk.passes(RTT)
    talk.says("A", 1, 1, sacks=[(1001, 5001)])
    talk.hears("A", 1, data=part(0))
    talk.passes(RTT)
    sender = talk.connection.sender
    sender.acked((OUR_ISN + 5001) & 0xFFFF_FFFF, talk.now, rtt=RTT)
    assert sender.undone == 0


def test_a_recovery_of_which_every_copy_was_needless_is_undone() -> None:
    """D-SACK (RFC 2883, RFC 3708): the segment was overtaken, not lost."""
    talk = sending(6)
    before = cwnd(talk)
    talk.passes(RTT)
    talk.says("A", 1, 1, sacks=[(1001, 5001)])
    talk.hears("A", 1, data=part(0))
    talk.says("A", 1, 6001)
    assert cwnd(talk) < before
    talk.says("A", 1, 6001, sacks=[(1, 1001)])
    assert cwnd(talk) >= before
    assert talk.connection.sender.undone == 1


def test_a_needless_copy_beside_a_needful_one_undoes_nothing() -> None:
    talk = sending(10)
    talk.passes(RTT)
    talk.says("A", 1, 1, sacks=[(1001, 4001)])
    talk.hears("A", 1)
    talk.says("A", 1, 4001, sacks=[(5001, 10_001)])
    talk.hears("A", 4001)
    talk.says("A", 1, 10_001, sacks=[(1, 1001)])
    assert talk.connection.sender.undone == 0


def test_duplicates_within_what_is_reported_are_recognised() -> None:
    """RFC 2883, section 4.2: the first block lies within the second."""
    talk = sending(8, TcpConfig(congestion=Unlimited))
    talk.passes(RTT)
    talk.says("A", 1, 1, sacks=[(1001, 2001), (3001, 8001)])
    talk.hears("A", 1)
    talk.hears("A", 2001)
    talk.says("A", 1, 1, sacks=[(2001, 3001), (1001, 8001)])
    rack = talk.connection.sender.rack
    assert rack is not None
    assert rack.multiple == 2


def test_duplicates_that_the_network_made_mean_nothing() -> None:
    """RFC 3708, section 3: nothing was sent again."""
    talk = sending(4)
    talk.says("A", 1, 4001, sacks=[(1, 1001)])
    sender = talk.connection.sender
    assert sender.rack is None or sender.rack.multiple == 1


# -- a smaller segment size (RFC 1191, RFC 8201)


def test_what_was_too_large_is_sent_again_cut_anew_at_once() -> None:
    talk = sending(4)
    before = talk.connection.sender.cc.cwnd = 20 * MSS
    talk.connection.sender.set_mss(600, 600)
    at = 1
    while at < 4001:
        size = min(600, 4001 - at)
        assert len(talk.hears("A", at).payload) == size
        at += size
    assert cwnd(talk) == before
    talk.says("A", 1, 4001)
    assert talk.quiet


def test_what_was_small_is_not_sent_again() -> None:
    talk = Talk.established(sack=True)
    talk.writes(b"small")
    talk.hears("A", 1)
    talk.connection.sender.set_mss(600, 600)
    talk.silent()


def test_the_first_window_is_counted_in_segments_as_agreed() -> None:
    talk = Talk()
    talk.connection.sender.set_mss(500, 500)
    assert cwnd(talk) == 10 * 500


# -- ECN (RFC 3168, section 6.1.2)

CWR = 0x80


def test_an_echo_halves_the_window_once_a_round_trip_and_is_confirmed() -> None:
    talk = sending(10)
    sender = talk.connection.sender
    sender.ece(sender.flight, talk.now)
    assert cwnd(talk) == 5 * MSS
    sender.ece(sender.flight, talk.now)
    assert cwnd(talk) == 5 * MSS
    talk.writes(bytes(4 * MSS))
    talk.silent()
    talk.says("A", 1, 7001)
    flags = [segment.flags & CWR for segment in talk._out]
    assert flags == [CWR, 0, 0]  # of the new data only the first
    talk._out.clear()
    sender.ece(sender.flight, talk.now)  # still of the same window
    assert cwnd(talk) >= 5 * MSS
    talk.says("A", 1, 11_001)
    sender.ece(sender.flight, talk.now)
    assert cwnd(talk) < 5 * MSS


def test_a_loss_in_the_window_of_an_echo_is_the_same_congestion() -> None:
    talk = sending(10)
    talk.connection.sender.ece(talk.connection.sender.flight, talk.now)
    talk.passes(RTT)
    talk.says("A", 1, 1, sacks=[(1001, 5001)])
    talk.hears("A", 1, data=part(0))
    talk.says("A", 1, 10_001)
    assert cwnd(talk) == 5 * MSS


# -- a window that is taken back (RFC 9293, section 3.8.6)


def test_a_window_shrunk_to_nothing_is_asked_for_and_its_peer_not_given_up() -> None:
    talk = sending(4, TcpConfig(retries=3, persist_retries=3))
    talk.says("A", 1, 1, window=0)
    for _ in range(100):
        talk.passes(1)
        for segment in talk._out:
            assert not segment.payload
        talk._out.clear()
        talk.says("A", 1, 1, window=0)
    assert talk.state == "ESTABLISHED"
    talk.says("A", 1, 1, window=65535)
    talk.hears("A", 1, data=part(0))
    talk.says("A", 1, 1001)
    talk.hears("A", 1001, data=part(1))


# -- waiting


def test_waiting_is_counted_from_the_last_progress() -> None:
    talk = Talk.established(window=2000, sack=True)
    sender = talk.connection.sender
    assert sender.waiting_since > 1e9
    talk.passes(10)
    began = talk.now
    talk.writes(bytes(3 * MSS))
    talk.passes(5)
    assert sender.waiting_since == began
    talk.says("A", 1, 1001, window=1000)
    progress = talk.now
    assert sender.waiting_since == progress
    talk.says("A", 1, 2001, window=0)
    talk.passes(30)
    assert sender.waiting_since == progress  # for a window, too
    talk._out.clear()
    talk.says("A", 1, 2001, window=2000)
    talk.says("A", 1, 3001)
    assert sender.waiting_since > 1e9


# -- Nagle (RFC 9293, section 3.7.4)


def test_small_segments_wait_while_others_are_in_flight() -> None:
    talk = Talk.established(TcpConfig(nagle=True))
    talk.writes(b"a")
    talk.hears("A", 1, data=b"a")
    talk.writes(b"b")
    talk.writes(b"c")
    talk.silent()
    assert not talk.connection.wants_to_send
    talk.says("A", 1, 2)
    talk.hears("A", 2, data=b"bc")
    talk.writes(bytes(MSS + 5))
    assert len(talk.hears("A", 4).payload) == MSS
    talk.silent()
    talk.closes()  # nothing more will come
    talk.hears("FA", 4 + MSS, data=bytes(5))


def test_they_do_not_by_default() -> None:
    talk = Talk.established()
    for number, byte in enumerate(b"abc"):
        talk.writes(bytes([byte]))
        talk.hears("A", 1 + number)


def test_an_unlimited_window_stays_so() -> None:
    talk = sending(8, TcpConfig(congestion=Unlimited))
    talk.passes(RTT)
    talk.says("A", 1, 1, sacks=[(1001, 8001)])
    talk.hears("A", 1)
    assert cwnd(talk) == MAX_CWND
    talk.says("A", 1, 8001)
    assert cwnd(talk) == MAX_CWND
