"""What `netbridge forward` and `socks --listen` are told."""

from __future__ import annotations

import pytest

from netbridge.bridge.back.places import LOOPBACK, Forward, parse_forward, parse_listen
from netbridge.bridge.errors import UsageError


@pytest.mark.parametrize(("text", "expected"), [
    ("db:5432", Forward(LOOPBACK, 5432, "db", 5432)),
    ("15432:db:5432", Forward(LOOPBACK, 15432, "db", 5432)),
    ("0:db:5432", Forward(LOOPBACK, 0, "db", 5432)),
    ("127.0.0.2:15432:db:5432", Forward(("127.0.0.2",), 15432, "db", 5432)),
    ("[::1]:80", Forward(LOOPBACK, 80, "::1", 80)),
    ("[fe80::1]:8080:[fd00::5]:80", Forward(("fe80::1",), 8080, "fd00::5", 80)),
    ("*:8080:web:80", Forward(("0.0.0.0", "::"), 8080, "web", 80)),
])
def test_forms(text: str, expected: Forward) -> None:
    assert parse_forward(text) == expected


@pytest.mark.parametrize("text", [
    "", "db", "5432", ":5432", "db:", "db:0", "db:65536", "db:http", "db:٣", "x:db:5432", "1:2:3:4:5", "::1:80",
    "[::1:80", "[::1]80", "a]:80",
])
def test_nonsense_is_a_wrong_use(text: str) -> None:
    with pytest.raises(UsageError):
        parse_forward(text)


def test_listen() -> None:
    assert parse_listen("1080") == (LOOPBACK, 1080)
    assert parse_listen("127.0.0.1:1080") == (("127.0.0.1",), 1080)
    assert parse_listen("[::1]:0") == (("::1",), 0)
    for text in ("", "a:b", "1:2:3", "host"):
        with pytest.raises(UsageError):
            parse_listen(text)
