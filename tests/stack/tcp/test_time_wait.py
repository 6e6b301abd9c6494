"""TIME-WAIT: what it answers, how long it lasts, who may take its ports (RFC 9293, 3.10.7.4; RFC 1337; RFC 6191)."""

from __future__ import annotations

import pytest

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.segment import Options
from netbridge.stack.tcp.seq import MASK

from .conversation import PEER_ISN, PEER_STAMP, Talk


def waiting(config: TcpConfig | None = None, *, stamp: int | None = None) -> Talk:
    """We closed first; the peer's FIN was number 1, and its timestamp 250 + `stamp`."""
    talk = Talk.established(config, stamp=stamp)
    told = None if stamp is None else (stamp + 250, 0)
    talk.closes()
    talk.hears("FA", 1)
    talk.says("FA", 1, 2, stamp=told)
    talk.hears("A", 2, 2)
    assert talk.state == "TIME-WAIT"
    return talk


def test_the_peers_fin_again_is_acknowledged_and_starts_the_time_anew() -> None:
    talk = waiting()
    talk.passes(20)
    talk.says("FA", 1, 2)
    talk.hears("A", 2, 2)
    talk.passes(20)
    assert talk.state == "TIME-WAIT"
    talk.passes(11)
    assert talk.state == "CLOSED"


@pytest.mark.parametrize(
    ("flags", "seq", "data"), [("A", 1, b""), ("A", 2, b""), ("A", -9, b"x" * 9), ("FA", 900, b"")]
)
def test_nothing_else_makes_it_longer(flags: str, seq: int, data: bytes) -> None:
    """Not even a FIN that is not the peer's: a blind one could hold the ports for ever."""
    talk = waiting()
    talk.passes(20)
    talk.says(flags, seq, 2, data)
    talk.passes(11)
    assert talk.state == "CLOSED"


def test_old_data_is_acknowledged() -> None:
    talk = waiting()
    talk.says("A", -9, 2, b"0123456789")
    talk.hears("A", 2, 2)
    assert talk.user.data == b""


def test_a_reset_does_not_end_it() -> None:
    """RFC 1337: an old duplicate could, and the next connection would take what is still on its way."""
    talk = waiting()
    talk.says("R", 2)
    talk.says("RA", 2, 2)
    talk.silent()
    assert talk.state == "TIME-WAIT"


def test_a_syn_that_may_not_begin_a_connection_is_challenged() -> None:
    talk = waiting()
    talk.says("S", -100)
    talk.hears("A", 2, 2)


@pytest.mark.parametrize(
    ("old", "ahead", "newer_number", "taken"),
    [
        (0, 1, False, True),  # the timestamp is newer
        (0, 0, True, True),  # the same, but the number is newer
        (0, 0, False, False),
        (0, -1, True, False),  # an older one is that of an old duplicate
        (0, None, True, True),  # none: the number decides
        (0, None, False, False),
        (None, 1, False, True),  # the old connection's segments bear none, and so are not mistaken
        (None, None, True, True),
        (None, None, False, False),
    ],
)
def test_who_may_take_the_ports(old: int | None, ahead: int | None, newer_number: bool, taken: bool) -> None:
    """RFC 6191, section 2."""
    talk = waiting(stamp=old)
    stamp = None if ahead is None else ((PEER_STAMP + 250 + ahead) & MASK, 0)
    seq = (PEER_ISN + (3 if newer_number else 0)) & MASK
    assert talk.connection.gives_way_to(seq, Options(1460, 7, stamp=stamp)) is taken
    if stamp is not None:
        assert talk.connection.gives_way_to(seq, stamp) is taken  # a SYN with nothing else


def test_timestamps_that_we_would_not_use_decide_nothing() -> None:
    talk = waiting(TcpConfig(timestamps=False), stamp=0)
    newer, older = (PEER_ISN + 3) & MASK, PEER_ISN
    assert talk.connection.gives_way_to(newer, Options(stamp=(1, 0)))
    assert not talk.connection.gives_way_to(older, Options(stamp=(1, 0)))


def test_a_fin_sent_again_moves_the_timestamp_to_be_exceeded() -> None:
    talk = waiting(stamp=0)
    talk.says("FA", 1, 2, stamp=(9000, 0))
    talk.hears("A", 2, 2)
    older = (PEER_STAMP + 8000) & MASK, 0
    assert not talk.connection.gives_way_to((PEER_ISN + 3) & MASK, Options(stamp=older))
