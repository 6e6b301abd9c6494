"""A QUIC connection of aioquic's that may become a link: what of its events a link wants, until there is one and after.

aioquic has no public way to ask how much waits in its queues, nor how large a datagram both ends take: `waiting` and
`room` are the two places that look inside.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .base import LinkError
from .carried import LIMIT
from .extras import need

if TYPE_CHECKING:
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.quic.events import QuicEvent

    from .quic import QuicLink
else:
    QuicConnectionProtocol = need("aioquic.asyncio.protocol", "quic").QuicConnectionProtocol

events = need("aioquic.quic.events", "quic")

OVERHEAD = 1 + 20 + 2 + 16 + 1 + 2
"""Around a datagram at most: flags, longest connection id, packet number, tag (RFC 9001), type, length (RFC 9221)."""
LEAST_MTU = 1280
"""IPv6's (RFC 8200 section 5); where a configuration leaves datagrams less, larger packets take the stream."""
CONTROL = 0
"""The first bidirectional stream of the client (RFC 9000 section 2.1)."""
EARLY = 64
"""Packets kept until the link is started; the other end may send as soon as it has heard our greeting."""


class LinkProtocol(QuicConnectionProtocol):
    """A QUIC connection that may become a link: what aioquic's `connect` and `serve` want as `create_protocol`."""

    opened: Callable[[LinkProtocol], Awaitable[object]] | None = None

    def __init__(self, quic: Any, stream_handler: Any = None) -> None:
        super().__init__(quic, stream_handler)
        self.link: QuicLink | None = None
        self.failure: LinkError | None = None
        """Why the connection ended."""
        self.shaken = False
        """The handshake is complete."""
        self._begun = False
        """The control stream is open."""
        self._said = bytearray()
        """What came on the control stream and nobody has taken yet."""
        self._early: deque[bytes] = deque(maxlen=EARLY)
        self._arrived = asyncio.Event()
        self._serving: set[asyncio.Future[Any]] = set()

    @staticmethod
    def serving(opened: Callable[[LinkProtocol], Awaitable[object]]) -> Callable[..., LinkProtocol]:
        """A `create_protocol` for `aioquic.asyncio.serve`: `opened(connection)` runs for each one, and ends it."""

        def create(quic: Any, stream_handler: Any = None) -> LinkProtocol:
            protocol = LinkProtocol(quic, stream_handler)
            protocol.opened = opened
            return protocol

        return create

    @property
    def room(self) -> int:
        """Bytes of the largest datagram that both ends take; 0 where the other end takes none."""
        quic = self._quic
        theirs = quic._remote_max_datagram_frame_size or 0
        return max(0, min(theirs - 3, quic._max_datagram_size - OVERHEAD))

    @property
    def waiting(self) -> int:
        """Packets that wait in aioquic's queues, what the control stream holds counted as such."""
        quic = self._quic
        control = quic._streams.get(CONTROL)
        held = 0 if control is None else control.sender._buffer_stop - control.sender._buffer_start
        return len(quic._datagrams_pending) + held // LEAST_MTU

    def say(self, data: bytes) -> None:
        """Send on the control stream."""
        self._quic.send_stream_data(CONTROL, data)
        self._transmit_soon()

    async def greet(self, data: bytes) -> None:
        """`say`, once the stream is there: the client opens it."""
        if not self._quic.configuration.is_client:
            await self.until(lambda: self._begun)
        self.say(data)

    async def until(self, condition: Callable[[], object]) -> None:
        """Return when it holds, of what changes with what comes. Raises LinkError when the connection ends before."""
        while not condition():
            if self.failure is not None:
                raise self.failure
            self._arrived.clear()
            await self._arrived.wait()

    async def hear(self) -> bytes:
        """What came on the control stream. Raises LinkError when there will be no more."""
        await self.until(lambda: self._said)
        data = bytes(self._said)
        self._said.clear()
        return data

    def transmit(self) -> None:
        super().transmit()
        if self.link is not None:
            self.link._transmitted()

    def quic_event_received(self, event: QuicEvent) -> None:
        link = self.link
        if isinstance(event, events.DatagramFrameReceived):
            if link is None or not link._datagram(event.data):
                self._early.append(event.data)
        elif isinstance(event, events.StreamDataReceived):
            self._heard(event.stream_id, event.data, end=event.end_stream)
        elif isinstance(event, (events.StreamReset, events.StopSendingReceived)):
            self._end("the other end broke the stream off")
        elif isinstance(event, events.HandshakeCompleted):
            self.shaken = True
            self._arrived.set()
            if self.opened is not None:
                self._serve(self.opened)
        elif isinstance(event, events.ConnectionTerminated):
            if event.error_code:
                self._end(f"the QUIC connection ended: {event.reason_phrase or f'error {event.error_code:#x}'}")
            else:
                self._end("the other end closed the link")

    def _heard(self, stream: int, data: bytes, *, end: bool) -> None:
        if stream != CONTROL:
            self._end(f"the other end speaks another protocol: it opened stream {stream}")
        elif len(self._said) + len(data) > LIMIT:
            self._end("the other end sends, and nobody here listens")
        else:
            self._said += data
            self._begun = True
            self._arrived.set()
            if end:
                self._end("the other end closed the link")

    def _end(self, why: str) -> None:
        if self.failure is None:
            self.failure = LinkError(why)
            self._arrived.set()
            if self.link is not None:
                self.link._finish(self.failure)

    def _serve(self, opened: Callable[[LinkProtocol], Awaitable[object]]) -> None:
        async def run() -> None:
            try:
                await opened(self)
            finally:
                if self.link is not None:
                    self.link.close()
                    await self.link.wait_closed()
                self.close()

        task = asyncio.ensure_future(run())
        self._serving.add(task)
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Future[Any]) -> None:
        self._serving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "serving a QUIC connection", "exception": error})
