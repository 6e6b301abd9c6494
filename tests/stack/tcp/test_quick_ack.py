"""Acknowledgements without delay where the peer is in slow start (as Linux's quick-ACK)."""

from __future__ import annotations

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.segment import Options

from .conversation import Talk


def test_the_first_segments_are_acknowledged_one_by_one() -> None:
    talk = Talk.established(TcpConfig(quick_acks=3), quick=True)
    for number in range(3):
        talk.says("A", 1 + number * 10, 1, b"0123456789")
        talk.hears("A", 1, 11 + number * 10)
    talk.says("A", 31, 1, b"0123456789")
    talk.silent()
    talk.passes(0.05)
    talk.hears("A", 1, 41)


def test_again_after_a_pause_longer_than_the_timeout() -> None:
    """By then the peer begins anew (RFC 5681, section 4.1)."""
    talk = Talk.established(TcpConfig(quick_acks=1), quick=True)
    for _ in range(2):
        at = len(talk.user.data)
        talk.says("A", 1 + at, 1, b"first")
        talk.hears("A", 1, 6 + at)
        talk.passes(0.1)
        talk.says("A", 6 + at, 1, b"then")
        talk.silent()
        talk.passes(1.0)
        talk.hears("A", 1, 10 + at)


def test_an_answer_ends_it() -> None:
    """In a dialogue the acknowledgement rides on the next answer."""
    talk = Talk.established(quick=True)
    talk.says("PA", 1, 1, b"question")
    talk.hears("A", 1, 9)
    talk.writes(b"answer")
    talk.hears("A", 1, 9, b"answer")
    talk.says("PA", 9, 7, b"question")
    talk.silent()
    talk.writes(b"answer")
    talk.hears("A", 7, 17, b"answer")


def test_one_for_a_burst() -> None:
    talk = Talk.established(TcpConfig(quick_acks=2), quick=True)
    for number in range(4):
        seq = (0xFFFFFFF1 + number) & 0xFFFFFFFF
        talk.connection.receive(seq, 0xFFFFFF01, 0x10, 65535, memoryview(b"x"), None, talk.now)
    talk.hears("A", 1, 5)
    talk.says("A", 5, 1, b"y")
    talk.hears("A", 1, 6)
    talk.says("A", 6, 1, b"z")
    talk.silent()


def test_a_peer_with_small_segments_has_every_second_acknowledged() -> None:
    """What counts is what the peer sends, not what we would take."""
    talk = Talk()
    talk.connection.open()
    talk.hears("S", 0)
    talk.says("SA", 0, 1, options=Options(500, None))
    talk.hears("A", 1, 1)
    talk.says("A", 1, 1, bytes(500))
    talk.silent()
    talk.says("A", 501, 1, bytes(500))
    talk.hears("A", 1, 1001)
