"""A link over a QUIC connection of the `aioquic` package: IP packets in datagrams (RFC 9221), the rest on a stream.

The client's first stream carries the greeting, then frames (:mod:`.carried`) of the packets that no datagram takes; the
link's MTU is chosen so that with this module's own `quic_configuration` there are none. Datagrams may be lost, as IP
packets may, and hold up nothing behind them: a link that loses now and then is better off with QUIC than with anything
above TCP.

Super-segments are cut into plain packets, for a datagram has to fit one packet of QUIC. Encryption and certificates
are QUIC's: see `aioquic.quic.configuration`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..packet import Buffer
from ..vnet import NO_OFFLOAD, VNET_LEN
from .base import LinkError
from .carried import LENGTH, LIMIT, CarriedLink
from .extras import need
from .greeting import TIMEOUT, Greeting, Role, exchange, silence
from .offload import finish

if TYPE_CHECKING:
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.events import QuicEvent
else:
    QuicConnectionProtocol = need("aioquic.asyncio.protocol", "quic").QuicConnectionProtocol

events = need("aioquic.quic.events", "quic")

ALPN = "netbridge-link"
DATAGRAM = 1350
"""Bytes of UDP payload: passes paths of 1400 bytes, and leaves a packet of 1280, IPv6's least MTU, its room."""
OVERHEAD = 1 + 20 + 2 + 16 + 1 + 2
"""Around a datagram at most: flags, longest connection id, packet number, tag (RFC 9001), type, length (RFC 9221)."""
LEAST_MTU = 1280
"""IPv6's (RFC 8200 section 5); where a configuration leaves datagrams less, larger packets take the stream."""
CONTROL = 0
"""The first bidirectional stream of the client (RFC 9000 section 2.1)."""
QUEUE = 256
"""Packets that wait for congestion control before bulk data has to: 2.7 Mbit, a quarter of a second at 10 Mbit/s."""
DROP = 4 * QUEUE
EARLY = 64
"""Packets kept until the link is started; the other end may send as soon as it has heard our greeting."""
KEEPALIVE = 10.0
"""Seconds between pings: NATs forget UDP after 30 (RFC 4787 section 4.3 has 120 s, and few keep it)."""


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
                self.close()

        task = asyncio.ensure_future(run())
        self._serving.add(task)
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Future[Any]) -> None:
        self._serving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "serving a QUIC connection", "exception": error})


class QuicLink(CarriedLink):
    """Packets over one `LinkProtocol`."""

    def __init__(self, connection: LinkProtocol, *, mtu: int, rest: bytes = b"") -> None:
        super().__init__(mtu=mtu, offload=False, rest=rest)
        self.connection = connection
        self.room = connection.room
        """Bytes of the largest packet that travels as a datagram; larger ones take the stream."""
        self._burst = False
        self._drained = asyncio.Event()
        connection.link = self

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        connection = self.connection
        waiting = connection.waiting
        if self._closed or waiting > DROP:
            self.dropped += 1
            return
        pieces = finish(header, payload) if header[0] or header[1] else [b"".join((header, payload))]
        for piece in pieces:
            if len(piece) - VNET_LEN <= self.room:
                connection._quic.send_datagram_frame(piece[VNET_LEN:])
            else:
                connection._quic.send_stream_data(CONTROL, LENGTH.pack(len(piece)) + piece)
        if waiting > QUEUE:
            self._ready = False
        connection._transmit_soon()

    def _datagram(self, data: bytes) -> bool:
        """One packet that came; False while nobody takes any."""
        user = self._user
        if user is None or self._closed:
            return False
        user.packet_received(memoryview(NO_OFFLOAD + data))
        if not self._burst:
            self._burst = True
            asyncio.get_running_loop().call_soon(self._end_burst)
        return True

    def _end_burst(self) -> None:
        self._burst = False
        if self._user is not None and not self._closed:
            self._user.burst_ended()

    def _transmitted(self) -> None:
        """QUIC has sent what it may."""
        if not self._ready and self.connection.waiting < QUEUE // 2:
            self._room()
        if self._closed and not self.connection.waiting:
            self._drained.set()

    async def _receive(self) -> None:
        self._spawn(self._keep_alive())
        early = self.connection._early
        while early:
            self._datagram(early.popleft())
        while data := await self.connection.hear():
            self._take(data)
            if self._closed:
                return
        raise self._ended()

    async def _keep_alive(self) -> None:
        quic = self.connection._quic
        while True:
            await asyncio.sleep(min(KEEPALIVE, quic.configuration.idle_timeout / 3))
            quic.send_ping(0)
            self.connection.transmit()

    async def _release(self) -> None:
        connection = self.connection
        if connection.failure is None and connection.waiting:
            connection.transmit()
            await self._drained.wait()
        connection.close()
        await connection.wait_closed()

    def _abort(self) -> None:
        self.connection.close()


async def quic_link(
    connection: QuicConnectionProtocol, *, mtu: int = 1500, role: Role = Role.STACK, timeout: float = TIMEOUT,
) -> QuicLink:  # fmt: skip
    """A link over a QUIC connection of either side, made with `LinkProtocol`, once both ends have greeted.

    The connection is taken over, and closed with the link. The link's MTU is at most what a datagram takes, but no less
    than 1280. `mtu`, `role` and `timeout` as in `stream_link`. Raises LinkError; TypeError for another protocol class.
    """
    if not isinstance(connection, LinkProtocol):
        raise TypeError("give aioquic's connect or serve create_protocol=LinkProtocol")
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            await connection.until(lambda: connection.shaken)
            ours = Greeting(min(mtu, max(LEAST_MTU, connection.room)), offload=False, role=role)
            theirs, rest = await exchange(ours, connection.hear, connection.greet, timeout=timeout)
    except BaseException as error:
        connection.close()
        if isinstance(error, TimeoutError) and limit.expired():
            raise silence(timeout) from None
        raise
    link = QuicLink(connection, mtu=min(ours.mtu, theirs.mtu), rest=rest)
    link.peer = theirs
    return link


@contextlib.asynccontextmanager
async def quic_connect(
    host: str, port: int, *, configuration: QuicConfiguration, mtu: int = 1500, role: Role = Role.STACK,
    timeout: float = TIMEOUT,
) -> AsyncIterator[QuicLink]:  # fmt: skip
    """A link to a server of `LinkProtocol.serving`; closed at the end of the block. Arguments as for `quic_link`.

    Raises LinkError, also when nobody answers and when the server's certificate does not pass.
    """
    made: list[LinkProtocol] = []

    def create(quic: Any, stream_handler: Any = None) -> LinkProtocol:
        made.append(LinkProtocol(quic, stream_handler))
        return made[0]

    connect = need("aioquic.asyncio.client", "quic").connect
    limit = asyncio.timeout(timeout)
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with limit:
                connecting = connect(host, port, configuration=configuration, create_protocol=create)
                connection = await stack.enter_async_context(connecting)
                link = await quic_link(connection, mtu=mtu, role=role, timeout=timeout)
        except LinkError:
            raise
        except OSError as error:
            if limit.expired():
                if made and made[0].shaken:
                    raise silence(timeout) from None
                raise LinkError(f"no QUIC server answers at {host} port {port} within {timeout:g} s") from None
            raise (made[0].failure if made else None) or LinkError(str(error)) from error
        try:
            yield link
        finally:
            link.close()
            await link.wait_closed()


def quic_configuration(**settings: Any) -> QuicConfiguration:
    """A QuicConfiguration of aioquic's with what a link wants: datagrams, large enough, and a protocol name of its own.

    `settings` are QuicConfiguration's: is_client, congestion_control_algorithm, idle_timeout and so on; certificates
    are loaded by its methods.
    """
    wanted = {"alpn_protocols": [ALPN], "max_datagram_frame_size": 65535, "max_datagram_size": DATAGRAM}
    made: QuicConfiguration = need("aioquic.quic.configuration", "quic").QuicConfiguration(**(wanted | settings))
    return made
