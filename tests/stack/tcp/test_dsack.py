"""What came twice is reported (RFC 2883), so that the peer sees that it sent again in vain."""

from __future__ import annotations

from .conversation import MSS, Talk


def test_data_that_was_acknowledged_already() -> None:
    """Section 4.1.1: the acknowledgement was lost, and the peer's timer expired."""
    talk = Talk.established(sack=True)
    talk.says("A", 1, 1, b"x" * 2 * MSS)
    talk.hears("A", 1, 1 + 2 * MSS)
    talk.says("A", 1, 1, b"x" * MSS)
    talk.hears("A", 1, 1 + 2 * MSS, sacks=[(1, 1 + MSS)])
    talk.says("A", 1 + 2 * MSS, 1, b"x" * 2 * MSS)
    talk.hears("A", 1, 1 + 4 * MSS, sacks=[])  # told once


def test_data_that_is_old_in_part() -> None:
    talk = Talk.established(sack=True)
    talk.says("A", 1, 1, b"x" * 2 * MSS)
    talk.hears("A", 1, 1 + 2 * MSS)
    talk.says("A", 1 + MSS, 1, b"y" * 2 * MSS)
    talk.hears("A", 1, 1 + 3 * MSS, sacks=[(1 + MSS, 1 + 2 * MSS)])


def test_old_data_beside_a_hole() -> None:
    """Section 4.1.2: what is held follows as ever."""
    talk = Talk.established(sack=True)
    talk.says("A", 1, 1, b"x" * 2 * MSS)
    talk.hears("A", 1, 1 + 2 * MSS)
    talk.says("A", 4001, 1, b"x" * MSS)
    talk.hears("A", 1, 2001, sacks=[(4001, 5001)])
    talk.says("A", 1, 1, b"x" * MSS)
    talk.hears("A", 1, 2001, sacks=[(1, 1001), (4001, 5001)])


def test_data_that_waits_beyond_a_hole_already() -> None:
    """Section 4.1.3: the second block is the one that holds the first."""
    talk = Talk.established(sack=True)
    talk.says("A", 1001, 1, b"x" * 3 * MSS)
    talk.hears("A", 1, 1, sacks=[(1001, 4001)])
    talk.says("A", 5001, 1, b"x" * MSS)
    talk.hears("A", 1, 1, sacks=[(5001, 6001), (1001, 4001)])
    talk.says("A", 2001, 1, b"x" * MSS)
    talk.hears("A", 1, 1, sacks=[(2001, 3001), (1001, 4001), (5001, 6001)])


def test_data_that_fills_a_hole_and_more() -> None:
    talk = Talk.established(sack=True)
    talk.says("A", 1001, 1, b"x" * MSS)
    talk.hears("A", 1, 1, sacks=[(1001, 2001)])
    talk.says("A", 1, 1, b"x" * 2 * MSS)
    talk.hears("A", 1, 2001, sacks=[(1001, 2001)])


def test_what_a_burst_repeats_in_a_row_is_one_report() -> None:
    talk = Talk.established(sack=True)
    talk.says("A", 1, 1, b"x" * 4 * MSS)
    talk.hears("A", 1, 4001)
    receive, now = talk.connection.receive, talk.now
    for number in range(3):
        receive((0xFFFFFFF1 + number * MSS) & 0xFFFFFFFF, 0xFFFFFF01, 0x10, 65535, memoryview(bytes(MSS)), None, now)
    talk.hears("A", 1, 4001, sacks=[(1, 3001)])


def test_not_reported_to_a_peer_without_sack() -> None:
    talk = Talk.established()
    talk.says("A", 1, 1, b"x" * 2 * MSS)
    talk.hears("A", 1, 1 + 2 * MSS)
    talk.says("A", 1, 1, b"x" * MSS)
    assert talk.hears("A", 1, 1 + 2 * MSS).options == b""


def test_an_old_segment_by_its_timestamp_is_reported_as_well() -> None:
    talk = Talk.established(sack=True, stamp=0)
    talk.says("A", 1, 1, b"x" * 2 * MSS, stamp=(300, 0))
    talk.hears("A", 1, 1 + 2 * MSS)
    talk.says("A", 1, 1, b"x" * MSS, stamp=(251, 0))
    talk.hears("A", 1, 1 + 2 * MSS, sacks=[(1, 1 + MSS)])
    assert talk.counters.outdated == 1
