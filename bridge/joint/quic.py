"""QUIC: the proof and the greeting on its control stream, packets in datagrams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from netbridge.stack.link.base import LinkError
from netbridge.stack.link.carried import CarriedLink
from netbridge.stack.link.extras import need
from netbridge.stack.link.greeting import Role
from netbridge.stack.link.quic import LinkProtocol, quic_configuration, quic_link

from ..errors import BridgeError
from .carriers import Visit
from .channel import Channel, Held
from .credentials import Credentials, fingerprint, own_certificate
from .place import Place
from .proof import TIMEOUT
from .tls import shown

IDLE = 30.0
"""Seconds of silence after which QUIC gives a connection up; links ping it every ten."""
SHAKING = 64
"""Handshakes at once. Each has shown by a Retry (RFC 9000, section 8.1.2) that its address is no invention."""


class QuicChannel(Held):
    """A connection's control stream."""

    def __init__(self, connection: LinkProtocol, who: str, binding: bytes, rest: contextlib.AsyncExitStack) -> None:
        super().__init__(who, binding)
        self._connection = connection
        self._rest = rest

    async def some(self) -> bytes:
        return await self._connection.hear()

    async def give(self, data: bytes) -> None:
        await self._connection.greet(data)

    async def link(self, *, role: Role, mtu: int) -> CarriedLink:
        self._connection._said[:0] = self.held
        self.held = b""
        link = await quic_link(self._connection, role=role, mtu=mtu)
        return link

    async def close(self) -> None:
        if self._connection.link is None:
            self._connection.transmit()
            self._connection.close()
        else:
            self._connection.link.close()
            await self._connection.link.wait_closed()
        await self._rest.aclose()


@contextlib.asynccontextmanager
async def listen(place: Place, credentials: Credentials, visit: Visit) -> AsyncIterator[list[str]]:
    """See `carriers.listening`."""
    loop = asyncio.get_running_loop()
    own = own_certificate()
    configuration = quic_configuration(
        is_client=False, certificate=own.certificate, private_key=own.key, idle_timeout=IDLE,
    )  # fmt: skip
    shaking: set[LinkProtocol] = set()

    async def opened(connection: LinkProtocol) -> None:
        shaking.discard(connection)
        address = connection._quic._network_paths[0].addr

        async def opening() -> QuicChannel:
            return QuicChannel(connection, shown(address), own.binding, contextlib.AsyncExitStack())

        await visit(address[0], shown(address), opening)

    def late(connection: LinkProtocol) -> None:
        if connection in shaking:
            shaking.discard(connection)
            connection.close()

    made = LinkProtocol.serving(opened)

    def create(quic: Any, stream_handler: Any = None) -> LinkProtocol:
        connection = made(quic, stream_handler)
        if len(shaking) >= SHAKING:
            loop.call_soon(connection.close)
        else:
            shaking.add(connection)
            loop.call_later(TIMEOUT, late, connection)
        return connection

    serve = need("aioquic.asyncio", "quic").serve
    try:
        server = await serve(
            place.host or "::", place.port, configuration=configuration, create_protocol=create, retry=True,
        )  # fmt: skip
    except OSError as error:
        raise BridgeError(
            f"{place} cannot be listened on.", f"{error.strerror or error}.", "Name another address or port.",
        ) from error
    try:
        yield [f"quic://{shown(server._transport.get_extra_info('sockname'))}"]
    finally:
        server.close()


async def connect(place: Place, credentials: Credentials) -> Channel:
    """See `carriers.connect`."""
    import ssl

    configuration = quic_configuration(verify_mode=ssl.CERT_NONE, idle_timeout=IDLE)
    made: list[LinkProtocol] = []

    def create(quic: Any, stream_handler: Any = None) -> LinkProtocol:
        made.append(LinkProtocol(quic, stream_handler))
        return made[0]

    dial = need("aioquic.asyncio.client", "quic").connect
    limit = asyncio.timeout(TIMEOUT)
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with limit:
                connecting = dial(place.host, place.port, configuration=configuration, create_protocol=create)
                connection = await stack.enter_async_context(connecting)
        except LinkError:
            raise
        except OSError as error:
            if limit.expired():
                raise LinkError(f"no QUIC server answers within {TIMEOUT:g} s") from None
            raise (made[0].failure if made else None) or LinkError(str(error) or "no QUIC server is there") from error
        certificate = connection._quic.tls._peer_certificate
        binding = fingerprint(certificate.public_bytes(Encoding.DER))
        return QuicChannel(connection, str(place), binding, stack.pop_all())
    raise AssertionError
