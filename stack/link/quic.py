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
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ..packet import Buffer
from ..vnet import NO_OFFLOAD, VNET_LEN
from .base import LinkError
from .carried import LENGTH, CarriedLink
from .extras import need
from .greeting import TIMEOUT, Greeting, Role, exchange, silence
from .offload import finish
from .quicprotocol import CONTROL, LEAST_MTU, LinkProtocol

if TYPE_CHECKING:
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.quic.configuration import QuicConfiguration

ALPN = "netbridge-link"
DATAGRAM = 1350
"""Bytes of UDP payload: passes paths of 1400 bytes, and leaves a packet of 1280, IPv6's least MTU, its room."""
QUEUE = 256
"""Packets that wait for congestion control before bulk data has to: 2.7 Mbit, a quarter of a second at 10 Mbit/s."""
DROP = 4 * QUEUE
KEEPALIVE = 10.0
"""Seconds between pings: NATs forget UDP after 30 (RFC 4787 section 4.3 has 120 s, and few keep it)."""


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


__all__ = ["ALPN", "LinkProtocol", "QuicLink", "quic_configuration", "quic_connect", "quic_link"]
