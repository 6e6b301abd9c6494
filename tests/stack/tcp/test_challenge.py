"""The limit that all connections share on challenge ACKs (RFC 5961, section 7; CVE-2016-5696)."""

from __future__ import annotations

from netbridge.stack.tcp.challenge import ChallengeLimit
from netbridge.stack.tcp.config import TcpConfig

from .conversation import Talk


def allowed(limit: ChallengeLimit, now: float) -> int:
    count = 0
    while limit.allows(now):
        count += 1
    return count


def test_about_so_many_a_second() -> None:
    limit = ChallengeLimit(100)
    seconds = [allowed(limit, 50.0 + second * 1.01) for second in range(200)]
    assert all(50 <= count <= 150 for count in seconds)
    assert 80 < sum(seconds) / len(seconds) < 120
    assert len(set(seconds)) > 20  # an attacker who counts his own learns nothing about others'
    assert not limit.allows(50.0 + 199 * 1.01 + 0.98)


def test_a_clock_that_went_back_does_not_stop_it() -> None:
    limit = ChallengeLimit(10)
    assert allowed(limit, 1e6)
    assert allowed(limit, 5.0)


def test_none_at_all() -> None:
    assert not ChallengeLimit(0).allows(1.0)


def test_connections_share_it() -> None:
    shared = ChallengeLimit(2)
    heard = 0
    for _ in range(20):
        talk = Talk.established(TcpConfig())
        talk.connection._challenges = shared
        talk.says("S", 50)
        heard += bool(talk._out)
        assert talk.counters.challenges == 1
        assert talk.counters.challenges_withheld == (0 if talk._out else 1)
    assert 1 <= heard <= 3
