"""What `make differ` found: peers that take back a window, echo nothing, or go on behind their FIN."""

from __future__ import annotations

from netbridge.stack.tcp.segment import CWR

from .conversation import Talk


def test_an_acknowledgement_stays_within_a_window_that_was_taken_back() -> None:
    """RFC 9293, section 3.8.6: a sender has to bear it; beyond the window the peer would not look at it."""
    talk = Talk.established()
    talk.writes(b"x" * 10)
    talk.hears("A", 1, 1)
    talk.says("A", 1, 7, window=0)  # 1 to 10 had been allowed
    talk.says("A", 101, 7, b"early", window=0)
    talk.hears("A", 7, 1)
    talk.connection.abort()
    talk.hears("RA", 7, 1)


def test_rounding_by_the_scale_takes_nothing_back() -> None:
    talk = Talk.established(wscale=7, window=65535 << 7)
    talk.writes(b"x" * 1000)
    talk.hears("A", 1, 1)
    talk.says("A", 1, 1, window=896)  # 7 units, for 1,000 bytes: less than a unit short
    talk.says("A", 101, 1, b"early", window=896)
    talk.hears("A", 1001, 1)


def test_an_echo_of_congestion_with_nothing_in_flight_is_none() -> None:
    talk = Talk.established(ecn=True)
    talk.says("AE", 1, 1)
    talk.writes(b"x" * 10)
    assert not talk.hears("A", 1, 1).flags & CWR


def test_a_mark_behind_the_fin_is_not_echoed() -> None:
    talk = Talk.established(ecn=True)
    talk.says("FA", 1, 1)
    talk.hears("A", 1, 2)
    talk.says("A", 2, 1, b"more", marked=True)
    talk.silent()


def test_what_came_early_from_behind_the_fin_is_let_go_of() -> None:
    talk = Talk.established(sack=True)
    talk.says("A", 64, 1, b"x" * 100)
    talk.hears("A", 1, 1, sacks=[(64, 164)])
    assert talk.budget.used
    talk.says("FA", 1, 1)
    talk.hears("A", 1, 2, sacks=[])
    assert not talk.budget.used
