"""The listening end: whoever comes is let in or told why not, and gets a session; sessions share nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from netbridge.stack.link.base import LinkError

from .admission import Admission, Calm
from .carriers import Opening
from .channel import Channel, in_time, words
from .credentials import Credentials
from .proof import TIMEOUT, prove_listening
from .sides import Side

Tell = Callable[[str], None]
"""Hears one line of what happened."""


class Reception:
    """What all visits of one listener go through; `visit` is what carriers call (see `carriers.Visit`)."""

    def __init__(self, side: Side, credentials: Credentials, admission: Admission, tell: Tell, *, mtu: int) -> None:
        self._side = side
        self._psk = credentials.psk
        self._tell = tell
        self._mtu = mtu
        self.admission = admission
        self.calm = Calm(tell)
        self.served = 0
        """Sessions that began."""
        self.refused = 0
        """Visits that came to nothing."""
        self.left = asyncio.Event()
        """Somebody has left, or was not let in."""

    async def visit(self, source: str, who: str, opening: Opening) -> None:
        """Let it in, and stay until it has left."""
        ticket = self.admission.enter(source)
        if ticket is None:
            self._refuse(f"{who} was turned away: too many are there that have not proved who they are")
            return
        channel: Channel | None = None
        try:
            try:
                async with in_time(TIMEOUT, "did not begin"):
                    channel = await opening()
                await prove_listening(channel, self._psk, ticket.admit)
                link = await channel.link(role=self._side.role, mtu=self._mtu)
            except LinkError as error:
                self._refuse(f"{who} was not let in: {error}")
                return
            self.served += 1
            self._tell(f"{channel.who} joined (sessions: {len(self.admission.sessions)})")
            try:
                await self._side.run(link)
            except LinkError as error:
                self._tell(f"{channel.who} left: {words(error)}")
        finally:
            ticket.leave()
            self.left.set()
            if channel is not None:
                await channel.close()

    def _refuse(self, text: str) -> None:
        self.refused += 1
        self.calm(text)
