"""Claims about a path's MTU: which are believed, and for how long."""

from __future__ import annotations

import pytest

from netbridge.stack.tcp.pathmtu import LEAST, MOST, PLATEAUS, REMEMBERED, PathMtus, claimed_mtu

A, B = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])


@pytest.mark.parametrize(
    ("version", "mtu", "quoted", "used"),
    [
        (4, 1400, 1500, 1400),
        (4, 1500, 1500, 0),  # not smaller than what it complains about
        (4, 9000, 1500, 0),
        (4, 68, 1500, LEAST[4]),  # legal and absurd: a forger's favourite
        (4, 68, 552, 0),
        (4, 0, 1500, 1492),  # RFC 1191, section 5: an old router
        (4, 0, 1492, 1006),
        (4, 0, 40, 0),
        (6, 1280, 1500, 1280),
        (6, 1279, 1500, 0),  # RFC 8201, section 4
        (6, 0, 1500, 0),
        (6, 1400, 1300, 0),
    ],
)
def test_claims(version: int, mtu: int, quoted: int, used: int) -> None:
    assert claimed_mtu(version, mtu, quoted) == used


def test_plateaus_fall_and_end_at_the_least() -> None:
    assert list(PLATEAUS) == sorted(PLATEAUS, reverse=True)
    assert PLATEAUS[-1] == LEAST[4]


def test_what_was_learned_is_used_for_ten_minutes() -> None:
    paths = PathMtus()
    paths.learn(A, 1400, 100.0)
    assert paths.get(A, 1500, 100.0) == 1400
    assert paths.get(B, 1500, 100.0) == 1500
    assert paths.get(A, 1300, 100.0) == 1300, "the link itself takes less"
    assert paths.get(A, 1500, 100.0 + REMEMBERED) == 1500
    assert len(paths) == 0


def test_the_oldest_is_forgotten() -> None:
    paths = PathMtus()
    for number in range(MOST + 10):
        paths.learn(number.to_bytes(4, "big"), 1400, 0.0)
    assert len(paths) == MOST
    assert paths.get((0).to_bytes(4, "big"), 1500, 0.0) == 1500
    assert paths.get((MOST + 9).to_bytes(4, "big"), 1500, 0.0) == 1400
