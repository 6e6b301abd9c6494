"""Whatever comes from a nameserver's place is ignored by the stub, or repeats id and question; TCP is cut anywhere."""

from __future__ import annotations

from typing import Any

from netbridge.bridge.agent import dnsmsg
from netbridge.bridge.agent.upstream import Attempt

QUERY = b"nb\1\0\0\1\0\0\0\0\0\0\4Host\7example\0\0\1\0\1"
IDENT = 0x6E62


class _Stream:
    """A connection that gives what it has piece by piece, then its end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def recv(self, _size: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


def _attempt(heard: list[Any], *, stream: bool) -> Attempt:
    parsed = dnsmsg.parse(QUERY)
    assert parsed is not None
    assert parsed.question is not None
    attempt = Attempt(
        None, "192.0.2.1", QUERY, parsed.question, stream=stream, mark=0,  # type: ignore[arg-type]
        done=lambda _attempt, reply, message: heard.append((reply, message)),
    )
    attempt._ident = IDENT
    return attempt


def _streamed(pieces: list[bytes]) -> list[Any]:
    heard: list[Any] = []
    attempt, connection = _attempt(heard, stream=True), _Stream(pieces)
    while not heard:
        attempt._read(connection)  # type: ignore[arg-type]
    return heard


def run(data: bytes) -> object:
    heard: list[Any] = []
    believed = _attempt(heard, stream=False)._check(data)
    assert believed == (len(heard) == 1)
    if believed:
        reply, message = heard[0]
        assert reply == data
        assert message.response
        assert data[:2] == IDENT.to_bytes(2, "big")
        if message.question is None:
            assert message.rcode
        else:
            assert data[12 : 12 + len(QUERY) - 12].lower() == QUERY[12:].lower()
        again = dnsmsg.with_ident(reply, 7)
        assert dnsmsg.ident(again) == 7
        assert again[2:] == reply[2:]
    framed = len(data).to_bytes(2, "big") + data
    whole = _streamed([framed])
    assert whole == _streamed([framed[at : at + 1] for at in range(len(framed))])
    assert (whole[0][1] is not None) == believed
    query = dnsmsg.parse(data)
    if query is not None and not query.response and query.question is not None:
        failure = dnsmsg.failure(data, dnsmsg.SERVFAIL)
        told = dnsmsg.parse(failure)
        assert told is not None
        assert told.question == query.question
        assert told.rcode == dnsmsg.SERVFAIL
        assert len(failure) <= len(data)
        return "a query"
    return believed, query is None, query is not None and query.rcode


def repair(data: bytes) -> bytes:
    """Our id."""
    return IDENT.to_bytes(2, "big") + data[2:]
