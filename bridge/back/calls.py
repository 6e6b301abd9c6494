"""The two halves of a connection back before they are joined: who asked for it, and what came from over there."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .ends import End, join

if TYPE_CHECKING:
    from .service import WayBack

GREETINGS = 64
"""Connections that have not said the secret yet; of those the oldest gives way."""
GREETING_SECONDS = 10.0
"""A quiet link takes a round trip; a full one some more."""
GREETING_MAX = 1024
"""Bytes of the first line."""
REPEAT_SECONDS = 2.0
"""Until an agent that has not come is told again: the message may be lost with a connection that broke."""
ANSWER_SECONDS = 150.0
"""Of a living link. Longer than a kernel tries to connect (tcp_syn_retries 6: 127 s), so its own word comes first."""


class Call:
    """Somebody waits for a place over there."""

    def __init__(self, back: WayBack, number: int, place: tuple[str, int], asker: End) -> None:
        self._back = back
        self._number = number
        self._place = place
        self._asker = asker
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + ANSWER_SECONDS
        self._timer: asyncio.TimerHandle | None = None
        asker.on_over = lambda why: self._hang_up()
        self._ask()

    def _ask(self) -> None:
        if self._loop.time() >= self._until:
            self.refuse("Nothing was heard from over there.", "ETIMEDOUT")
            return
        self._timer = self._loop.call_later(REPEAT_SECONDS, self._ask)
        host, port = self._place
        try:
            self._back._send({"type": "dial", "number": self._number, "host": host, "port": port})
        except OSError:  # the link is down: wait for as long as the bridge does
            self._until = self._loop.time() + ANSWER_SECONDS

    def _hang_up(self) -> None:
        """The asker is gone."""
        self._forget()
        with contextlib.suppress(OSError):  # the link is down; it will find out when it comes home
            self._back._send({"type": "hang_up", "number": self._number})

    def _forget(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._back._calls.pop(self._number, None)

    def refuse(self, why: str, code: str) -> None:
        self._forget()
        self._asker.on_over = None
        self._back.counters.refused += 1
        answer(self._asker, {"error": why, "code": code})

    def reached(self, end: End) -> None:
        self._forget()
        self._back.counters.opened += 1
        self._asker.on_over = None
        self._back._keep(end, self._number)
        assert self._asker.transport is not None
        self._asker.transport.write(json.dumps({"connected": True, "connection": self._number}).encode() + b"\n")
        join(self._asker, end)


class Greeting(End):
    """A connection from over there, until it has said who it is."""

    def __init__(self, back: WayBack) -> None:
        super().__init__()
        self._back = back
        self._greeted = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        greetings = self._back._greetings
        if len(greetings) >= GREETINGS:
            next(iter(greetings)).fail("Others came.")
        greetings[self] = None
        self._timer = asyncio.get_running_loop().call_later(GREETING_SECONDS, self.fail, "It said nothing.")
        self.on_over = lambda why: self._done()

    def arrived(self) -> None:
        if self._greeted:
            return
        line, found, rest = bytes(self.held).partition(b"\n")
        if found and len(line) <= GREETING_MAX:
            self._greeted = True
            self.held[:] = rest
            self._done()
            self.on_over = None
            self._back._greeted(self, line)
        elif len(self.held) > GREETING_MAX:
            self._back.counters.strangers += 1
            self.fail("Its first line has no end.")

    def left(self) -> None:
        if not self._greeted:
            self.fail("It left.")

    def _done(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._back._greetings.pop(self, None)


def answer(asker: End, message: Mapping[str, Any]) -> None:
    """The one line of an answer after which nothing comes."""
    if asker.transport is not None and not asker.lost:
        asker.transport.write(json.dumps(message).encode() + b"\n")
        asker.transport.close()
