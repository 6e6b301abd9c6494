"""Data in: order, holes, acknowledgements (RFC 9293, section 3.10.7.4; RFC 5681, section 4.2)."""

from __future__ import annotations

import pytest

from netbridge.stack.tcp.config import TcpConfig

from .conversation import MSS, OUR_ISN, PEER_ISN, Talk


def test_data_is_delivered_and_acknowledged_late_if_little() -> None:
    talk = Talk.established()
    talk.says("PA", 1, 1, b"hello")
    assert talk.user.data == b"hello"
    talk.silent()
    talk.passes(0.05)
    talk.hears("A", 1, 6)


def test_every_second_full_segment_is_acknowledged_at_once() -> None:
    talk = Talk.established()
    talk.says("A", 1, 1, b"a" * MSS)
    talk.silent()
    talk.says("A", 1 + MSS, 1, b"b" * MSS)
    talk.hears("A", 1, 1 + 2 * MSS)


def test_a_super_segment_is_acknowledged_at_once() -> None:
    talk = Talk.established()
    talk.says("A", 1, 1, b"a" * (5 * MSS))
    talk.hears("A", 1, 1 + 5 * MSS)


def test_an_acknowledgement_rides_on_data() -> None:
    talk = Talk.established()
    talk.says("PA", 1, 1, b"ping")
    talk.writes(b"pong")
    talk.hears("A", 1, 5, b"pong")
    talk.passes(0.1)
    talk.silent()


def test_early_data_is_kept_and_the_hole_told() -> None:
    talk = Talk.established()
    talk.says("A", 1 + MSS, 1, b"b" * MSS)
    talk.hears("A", 1, 1)
    assert talk.user.data == b""
    talk.says("A", 1, 1, b"a" * MSS)
    talk.hears("A", 1, 1 + 2 * MSS)
    assert talk.user.data == b"a" * MSS + b"b" * MSS


def test_old_data_in_front_is_cut() -> None:
    talk = Talk.established()
    talk.says("A", 1, 1, b"abcd")
    talk.says("A", 3, 1, b"cdef")
    assert talk.user.data == b"abcdef"
    talk.hears("A", 1, 7)


def test_data_beyond_the_window_is_cut() -> None:
    talk = Talk.established(TcpConfig(receive_window=2000))
    talk.says("A", 1, 1, b"x" * 3000)
    assert talk.user.data == b"x" * 2000
    talk.hears("A", 1, 2001)


def test_a_fin_that_came_early_counts_once_the_hole_is_filled() -> None:
    talk = Talk.established()
    talk.says("FA", 6, 1, b"world")
    talk.hears("A", 1, 1)
    talk.says("A", 1, 1, b"hello")
    talk.hears("A", 1, 12)
    assert talk.user.data == b"helloworld"
    assert talk.state == "CLOSE-WAIT"
    assert talk.user.calls[-1] == "eof"


def test_urgent_data_is_in_line() -> None:
    talk = Talk.established()
    talk.says("UA", 1, 1, b"urgent")
    assert talk.user.data == b"urgent"


def test_data_that_was_sent_again_is_acknowledged_each_time() -> None:
    talk = Talk.established()
    talk.says("A", 1, 1, b"x" * 2 * MSS)
    talk.hears("A", 1, 1 + 2 * MSS)
    for _ in range(3):  # the acknowledgements get lost; the peer's timer may be short
        talk.says("A", 1, 1, b"x" * MSS)
        talk.hears("A", 1, 1 + 2 * MSS)


@pytest.mark.parametrize("mss", [1000, 40_000, 65_480])
def test_large_segments_are_acknowledged_at_once_and_the_window_reopens(mss: int) -> None:
    """Two full segments may be more than the window."""
    talk = Talk.established(mss=mss, wscale=4)
    talk.says("A", 1, 1, b"x" * 40_000)
    talk.hears("A", 1, 40_001)
    talk.user.room = 0
    talk.says("A", 40_001, 1, b"y" * 65_536)
    talk.hears("A", 1, 105_537, window=0)
    talk.reads()
    assert talk.hears("A", 1, 105_537).window > 0


def test_tiny_unread_segments_are_kept_together() -> None:
    talk = Talk.established()
    talk.user.room = 0
    for number in range(3000):
        talk.says("A", 1 + 2 * number, 1, b"ab")
    backlog = talk.connection.receiver.backlog
    assert backlog is not None
    assert len(backlog) <= 2
    talk.reads()
    assert talk.user.data == b"ab" * 3000


def burst(talk: Talk, *numbers: int) -> None:
    """These full segments arrive before anything is answered."""
    for number in numbers:
        seq = (PEER_ISN + 1 + number * MSS) & 0xFFFFFFFF
        talk.connection.receive(seq, (OUR_ISN + 1) & 0xFFFFFFFF, 0x10, 65535, memoryview(bytes(MSS)), None, talk.now)


def test_a_peer_without_sack_has_a_duplicate_for_each_early_segment() -> None:
    """Three of them make it send again (RFC 5681, section 3.2), so a burst must not be answered by one."""
    talk = Talk.established()
    burst(talk, 1, 2, 3)
    for _ in range(3):
        talk.hears("A", 1, 1)
    talk.silent()


def test_the_first_of_them_may_acknowledge_what_is_new() -> None:
    talk = Talk.established()
    burst(talk, 0, 2, 3, 4)
    for _ in range(4):
        talk.hears("A", 1, 1 + MSS)
    talk.silent()


def test_a_hole_that_a_burst_fills_has_no_duplicates() -> None:
    talk = Talk.established()
    burst(talk, 1, 2, 3, 0)
    talk.hears("A", 1, 1 + 4 * MSS)
    talk.silent()


def test_a_peer_with_sack_needs_but_one() -> None:
    talk = Talk.established(sack=True)
    burst(talk, 1, 2, 3)
    talk.hears("A", 1, 1, sacks=[(1 + MSS, 1 + 4 * MSS)])
    talk.silent()
