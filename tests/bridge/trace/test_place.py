"""HOST[:PORT] as people write it."""

from __future__ import annotations

import pytest

from netbridge.bridge.errors import UsageError
from netbridge.bridge.trace.place import Place, parse_place


@pytest.mark.parametrize(("text", "host", "port"), [
    ("db.corp.internal:5432", "db.corp.internal", 5432),
    ("db", "db", 0),
    ("db.corp.internal.", "db.corp.internal.", 0),
    (" _http._tcp.corp ", "_http._tcp.corp", 0),
    ("10.0.0.7", "10.0.0.7", 0),
    ("10.0.0.7:80", "10.0.0.7", 80),
    ("fd00::1", "fd00::1", 0),
    ("FD00:0::0001", "fd00::1", 0),
    ("[fd00::1]", "fd00::1", 0),
    ("[fd00::1]:443", "fd00::1", 443),
    ("https://wiki.corp/x?y=z:1", "wiki.corp", 443),
    ("http://[fd00::1]:8080/", "fd00::1", 8080),
    ("postgresql://me:secret@db.corp/app", "db.corp", 5432),
    ("gopher://old.corp/", "old.corp", 0),
    ("DB.Corp.Internal:5432", "db.corp.internal", 5432),
    ("bücher.corp", "bücher.corp", 0),
])
def test_is_understood(text: str, host: str, port: int) -> None:
    assert parse_place(text) == Place(host, port)


@pytest.mark.parametrize("text", [
    "", ":80", "db:", "db:0", "db:65536", "db:x", "db:80:81", "a b", "[10.0.0.1]:80", "[db]:80", "[fd00::1",
    "[fd00::1]80", "[fd00::1]:", "fe80::1%eth0", "db\x1b[2J", "https://", "http://db:99999/", "http://[fd00::1/",
    "a..b", "x" * 64, "user@host",
])
def test_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_place(text)
    assert caught.value.why
    assert "\x1b" not in str(caught.value)


def test_what_it_is() -> None:
    assert Place("10.0.0.1", 0).address is not None
    assert Place("db", 80).address is None
    assert (str(Place("db", 80)), str(Place("db", 0))) == ("db port 80", "db")
