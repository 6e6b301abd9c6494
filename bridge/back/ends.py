"""Two asyncio transports that feed each other: bytes, half-closes, resets and back-pressure pass through.

An `End` stands on each. Until the two are joined it keeps what comes, at most HELD bytes, and then reads no more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

HELD = 64 * 1024
"""Bytes kept of one that talks before it is joined: a server's greeting, a client's first request."""
CUT = "It was cut off."


class End(asyncio.Protocol):
    """One transport. Subclasses that hold a conversation first override `arrived` and `left`."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.partner: End | None = None
        self.held = bytearray()
        self.ended = False
        """The other side sends no more."""
        self.lost = False
        """The transport is gone."""
        self._failed = ""
        """Why we ended it."""
        self.on_over: Callable[[str], None] | None = None
        """Called once when it is gone: with an empty text when both sides had ended, else with the reason."""

    # -- for subclasses

    def arrived(self) -> None:
        """More is in `held`, and there is no partner yet."""

    def left(self) -> None:
        """The other side ended or went away, and there is no partner yet."""

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's has another base class

    def data_received(self, data: bytes) -> None:
        partner = self.partner
        if partner is not None and partner.transport is not None:
            partner.transport.write(data)
            return
        self.held += data
        if len(self.held) > HELD:
            self.pause()
        self.arrived()

    def eof_received(self) -> bool:
        self.ended = True
        if self.partner is None:
            self.left()
        else:
            self._pass_end(self.partner)
        return True

    def pause_writing(self) -> None:
        if self.partner is not None:
            self.partner.pause()

    def resume_writing(self) -> None:
        if self.partner is not None:
            self.partner.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        partner = self.partner
        if partner is None:
            self.left()
        elif not (self.ended and partner.ended):
            partner.fail(self._failed or _reason(exc))
        self._over(_reason(exc) if partner is None or not (self.ended and partner.ended) else "")

    # -- what may be done to it

    def pause(self) -> None:
        """Read no more for now."""
        if self.transport is not None and not self.lost:
            with contextlib.suppress(RuntimeError):  # it is closing
                self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self.transport is not None and not self.lost:
            with contextlib.suppress(RuntimeError):
                self.transport.resume_reading()

    def fail(self, why: str) -> None:
        """End it at once; what was queued is lost."""
        self._failed = self._failed or why
        self._over(why)
        if self.transport is not None:
            self.transport.abort()

    def _over(self, why: str) -> None:
        told, self.on_over = self.on_over, None
        if told is not None:
            told(why)

    def _pass_end(self, partner: End) -> None:
        if partner.transport is None or self.transport is None:
            return
        with contextlib.suppress(OSError, RuntimeError):  # it is closing
            partner.transport.write_eof()
        if partner.ended:  # all is said; what is queued still leaves
            partner.transport.close()
            self.transport.close()


def join(one: End, other: End) -> None:
    """From now on each gets what comes from the other; first what was held."""
    one.partner, other.partner = other, one
    for end in (one, other):
        if end.held and end.partner is not None and end.partner.transport is not None:
            end.partner.transport.write(bytes(end.held))
            end.held.clear()
    for end, partner in ((one, other), (other, one)):
        if end.lost:
            partner.fail(CUT)
            return
    for end, partner in ((one, other), (other, one)):
        end.resume()
        if end.ended:
            end._pass_end(partner)


def _reason(error: Exception | None) -> str:
    if isinstance(error, ConnectionResetError):
        return "Connection reset by peer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error or "") or CUT
