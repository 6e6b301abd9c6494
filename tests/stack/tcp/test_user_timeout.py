"""How long the peer may leave data unacknowledged (RFC 9293, section 3.9.1), and what it may say to that (RFC 5482)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netbridge.stack.tcp.config import LEAST_USER_TIMEOUT, MOST_USER_TIMEOUT, TcpConfig
from netbridge.stack.tcp.segment import Options, emit_syn_options, parse_options

from .conversation import MSS, PEER_ISN, Talk

TEN = TcpConfig(user_timeout=10.0, retries=1, persist_retries=1)


def test_data_that_nobody_acknowledges_ends_the_connection_then() -> None:
    talk = Talk.established(TEN)
    talk.writes(b"x")
    talk.passes(9.9)
    assert talk.state == "ESTABLISHED", "however often it was sent again"
    talk.passes(0.2)
    assert talk.state == "CLOSED"
    assert isinstance(talk.user.error, TimeoutError)


def test_progress_starts_it_anew() -> None:
    talk = Talk.established(TEN)
    talk.writes(b"x" * 2 * MSS)
    talk.passes(9)
    talk.says("A", 1, 1 + MSS)
    talk.passes(9)
    assert talk.state == "ESTABLISHED"
    talk.passes(2)
    assert talk.state == "CLOSED"


def test_it_counts_at_a_closed_window_even_if_the_peer_answers() -> None:
    talk = Talk.established(TEN)
    talk.writes(b"x" * MSS)
    talk.says("A", 1, 1 + MSS, window=0)
    talk.writes(b"y")
    for _ in range(8):
        talk.passes(1)
        talk.says("A", 1, 1 + MSS, window=0)
    assert talk.state == "ESTABLISHED"
    talk.passes(4)
    assert talk.state == "CLOSED"


def test_idle_is_not_waiting() -> None:
    talk = Talk.established(TEN)
    talk.passes(3600)
    assert talk.state == "ESTABLISHED"
    talk.writes(b"x")
    talk.passes(9)
    assert talk.state == "ESTABLISHED"


@pytest.mark.parametrize(
    ("said", "used"), [(0, 10.0), (30, LEAST_USER_TIMEOUT), (600, 600.0), (30 * 86400, MOST_USER_TIMEOUT)]
)
def test_what_the_peer_says_is_adopted_within_bounds(said: int, used: float) -> None:
    for option in (True, False):
        talk = Talk(replace(TEN, user_timeout_option=option))
        talk.connection.accept(PEER_ISN, 65535, Options(MSS, None, user_timeout=said))
        assert talk.connection.user_timeout == (used if option else 10.0)


@pytest.mark.parametrize("option", [True, False])
def test_it_is_told_in_the_syn(*, option: bool) -> None:
    talk = Talk(replace(TEN, user_timeout_option=option))
    talk.connection.open()
    assert parse_options(talk.hears("S", 0).options).user_timeout == (10 if option else 0)


@pytest.mark.parametrize(("seconds", "told"), [(0.2, 1), (1, 1), (0x7FFF, 0x7FFF), (0x8000, 32760), (1e9, 0x7FFF * 60)])
def test_seconds_and_minutes(seconds: float, told: int) -> None:
    """Section 3.3."""
    assert parse_options(emit_syn_options(MSS, 7, user_timeout=seconds)).user_timeout == told
