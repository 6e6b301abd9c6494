"""A link that asks whether the other end still lives: the same over every carrier, whatever it has of its own.

While nothing comes, an echo request goes to the other end every `INTERVAL` seconds, whose stack or kernel answers it;
when nothing at all has come for `SILENCE` seconds the link is given up. Anything that comes counts, so a link that is
full of data is never taken for a dead one.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

from netbridge.stack import ipv4
from netbridge.stack.checksum import checksum
from netbridge.stack.icmp.wire import ECHO_REQUEST, HEADER
from netbridge.stack.link.base import Link, LinkError, LinkUser
from netbridge.stack.link.wrapper import Wrapper
from netbridge.stack.packet import ICMP
from netbridge.stack.vnet import NO_OFFLOAD

INTERVAL = 10.0
SILENCE = 30.0
"""Three questions without an answer; and a Wi-Fi that changes takes ten."""
IDENTIFIER = 0x6E62
"""Of the echo requests ("nb"): their answers are looked at by nobody."""


class Alive(Wrapper):
    """Passes everything through, and fails with LinkError when the other end is silent."""

    def __init__(self, inner: Link, ours: str, theirs: str, *, interval: float = INTERVAL, silence: float = SILENCE,
                 ) -> None:  # fmt: skip
        """`ours` and `theirs` are IPv4 addresses of the two ends."""
        super().__init__(inner)
        self._question = _echo_request(ours, theirs)
        self._interval = interval
        self._silence = silence
        self._heard = True
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._failure: LinkError | None = None

    def start(self, user: LinkUser) -> None:
        super().start(user)
        if self._timer is None:
            self._tick()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._heard:
            self._heard, self._since = False, now
        elif now - self._since >= self._silence:
            self._failure = LinkError(f"nothing has come from the other end for {self._silence:g} s")
            self.inner.close()
            return
        else:
            self.inner.send(self._question)
        self._timer = loop.call_later(self._interval, self._tick)

    def burst_ended(self) -> None:
        self._heard = True
        super().burst_ended()

    def link_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().link_lost(error or self._failure)


def _echo_request(ours: str, theirs: str) -> bytes:
    data = HEADER.pack(ECHO_REQUEST[4], 0, 0, IDENTIFIER, 0)
    data = HEADER.pack(ECHO_REQUEST[4], 0, checksum(data), IDENTIFIER, 0)
    source, destination = (ip_address(one).packed for one in (ours, theirs))
    return NO_OFFLOAD + ipv4.emit_header(source, destination, ICMP, len(data)) + data
