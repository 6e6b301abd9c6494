"""QUIC links: what travels how, and other ends that are aioquic's own, and no link."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from netbridge.stack.link import LinkError
from netbridge.stack.link.carried import LIMIT
from netbridge.stack.vnet import NO_OFFLOAD
from tests.stack.fake import RecordingUser
from tests.stack.link.pairs import LOOPBACK, certificate, pair, quic_client, quic_server
from tests.stack.link.test_links import converse, packet, stacks, until
from tests.stack.link.test_offload import super_segment

pytest.importorskip("aioquic", reason="aioquic is not installed")

from netbridge.stack.link import quic, quicprotocol
from netbridge.stack.link.quic import QuicLink, quic_configuration, quic_connect, quic_link
from netbridge.stack.link.quicprotocol import LEAST_MTU, LinkProtocol


@asynccontextmanager
async def links(client: dict[str, Any] | None = None, **terms: Any) -> AsyncIterator[tuple[QuicLink, QuicLink]]:
    """Both ends, the client's with settings of its own."""
    served: asyncio.Future[QuicLink] = asyncio.get_running_loop().create_future()

    async def opened(connection: LinkProtocol) -> None:
        served.set_result(await quic_link(connection))
        await served.result().wait_closed()

    async with quic_server(opened) as port:
        async with quic_connect(LOOPBACK, port, configuration=quic_client(**client or {}), **terms) as near:
            far = await served
            yield near, far
            near.close()
            await asyncio.gather(near.wait_closed(), far.wait_closed())


async def test_by_default_everything_fits_a_datagram_and_ipv6_its_mtu() -> None:
    async with links() as (near, far):
        assert near.mtu == far.mtu == near.room
        assert near.mtu >= LEAST_MTU
        user = RecordingUser()
        far.start(user)
        near.start(RecordingUser())
        near.send(NO_OFFLOAD + packet(near.mtu))
        await until(lambda: user.packets)
        assert near.connection._quic._streams[0].sender._buffer_stop == 24  # the greeting alone


async def test_a_super_segment_is_cut() -> None:
    async with links() as (near, far):
        user = RecordingUser()
        far.start(user)
        near.start(RecordingUser())
        near.send(super_segment(6, bytes(3000), 1000))
        await until(lambda: len(user.packets) == 3)
        assert all(data[:10] == NO_OFFLOAD for data in user.packets)


@pytest.mark.parametrize("client", [{"max_datagram_size": 1200}, {"max_datagram_frame_size": None}])
async def test_what_no_datagram_takes_travels_on_the_stream(client: dict[str, Any]) -> None:
    """aioquic's own default leaves less than IPv6's least MTU; a peer without datagrams leaves none at all."""
    async with links(client) as (near, far):
        assert near.mtu == LEAST_MTU
        assert min(near.room, far.room) < LEAST_MTU
        async with stacks(near, far) as (one, other):
            await converse(one, other, 100_000)


async def test_a_smaller_mtu_that_was_asked_for() -> None:
    async with links(mtu=600) as (near, far):
        assert near.mtu == far.mtu == 600


async def test_pings_keep_it() -> None:
    """A silent connection would end after its idle timeout: here 0.6 s."""
    async with links({"idle_timeout": 0.6}) as (near, far):
        user = RecordingUser()
        near.start(user)
        far.start(RecordingUser())
        await asyncio.sleep(1.5)
        assert not user.lost


async def test_a_peer_that_vanishes_is_told() -> None:
    async with links({"idle_timeout": 0.3}) as (near, far):
        user = RecordingUser()
        near.start(user)
        transport = far.connection._transport
        assert transport is not None
        far.connection._transport = Deaf()  # type: ignore[assignment]
        await until(lambda: user.lost)
        assert "Idle timeout" in str(user.lost[0])
        far.connection._transport = transport


class Deaf:
    """Sends nothing any more."""

    def sendto(self, *_: object) -> None: ...


async def test_early_packets_have_a_bound() -> None:
    async with links() as (near, far):
        near.start(RecordingUser())
        for number in range(3 * quicprotocol.EARLY):
            near.send(NO_OFFLOAD + packet(100, number))
        await until(lambda: len(far.connection._early) == quicprotocol.EARLY)
        await until(lambda: not near.connection.waiting)
        user = RecordingUser()
        far.start(user)
        await until(lambda: len(user.packets) >= quicprotocol.EARLY)


async def test_a_flood_on_the_stream_that_nobody_takes_ends_the_connection() -> None:
    async with links({"max_datagram_frame_size": None}) as (near, far):
        far.start(RecordingUser())
        near.connection._said += bytes(LIMIT)
        far.send(NO_OFFLOAD + packet(1000))
        await until(lambda: near.connection.failure)
        assert "nobody here listens" in str(near.connection.failure)


# -- strangers


async def met(port: int, **settings: Any) -> str:
    configuration = settings.pop("configuration", None) or quic_client()
    with pytest.raises(LinkError) as caught:
        async with quic_connect(LOOPBACK, port, configuration=configuration, **settings):
            pass
    return str(caught.value)


@asynccontextmanager
async def aioquic_server(create: Any, protocols: list[str]) -> AsyncIterator[int]:
    from aioquic.asyncio.server import serve

    configuration = quic_configuration(is_client=False, alpn_protocols=protocols)
    configuration.load_cert_chain(*certificate())
    server = await serve(LOOPBACK, 0, configuration=configuration, create_protocol=create)
    try:
        yield server._transport.get_extra_info("sockname")[1]  # type: ignore[union-attr]
    finally:
        server.close()


async def test_an_http3_server() -> None:
    from aioquic.asyncio.protocol import QuicConnectionProtocol

    async with aioquic_server(QuicConnectionProtocol, ["h3"]) as port:
        assert "protocol" in (await met(port)).lower()


async def test_an_http3_server_that_takes_any_protocol() -> None:
    """It opens streams of its own (RFC 9114 section 6.2)."""
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.h3.connection import H3Connection
    from aioquic.quic.events import HandshakeCompleted

    class Http(QuicConnectionProtocol):
        def quic_event_received(self, event: Any) -> None:
            if isinstance(event, HandshakeCompleted):
                self.http = H3Connection(self._quic)
                self.transmit()

    async with aioquic_server(Http, [quic.ALPN]) as port:
        assert "speaks another protocol: it opened stream 3" in await met(port)


async def test_an_echo() -> None:
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.quic.events import StreamDataReceived

    class Echo(QuicConnectionProtocol):
        def quic_event_received(self, event: Any) -> None:
            if isinstance(event, StreamDataReceived):
                self._quic.send_stream_data(event.stream_id, event.data)
                self.transmit()

    async with aioquic_server(Echo, [quic.ALPN]) as port:
        assert "is an echo" in await met(port)


async def test_a_server_that_says_nothing() -> None:
    from aioquic.asyncio.protocol import QuicConnectionProtocol

    class Mute(QuicConnectionProtocol):
        def quic_event_received(self, event: Any) -> None: ...

    async with aioquic_server(Mute, [quic.ALPN]) as port:
        assert "did not greet within 1 s" in await met(port, timeout=1.0)


async def test_a_client_that_says_nothing() -> None:
    from aioquic.asyncio.client import connect

    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def opened(connection: LinkProtocol) -> None:
        try:
            await quic_link(connection, timeout=0.1)
        except LinkError as error:
            failed.set_result(str(error))

    async with quic_server(opened) as port:
        async with connect(LOOPBACK, port, configuration=quic_client()) as connection:
            assert "did not greet within 0.1 s" in await failed
            await connection.wait_closed()


async def test_no_quic_at_all() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((LOOPBACK, 0))
        port = silent.getsockname()[1]
        assert f"no QUIC server answers at {LOOPBACK} port {port} within 0.3 s" in await met(port, timeout=0.3)


async def test_a_certificate_that_nobody_vouches_for() -> None:
    async def opened(_: LinkProtocol) -> None: ...

    async with quic_server(opened) as port:
        error = await met(port, configuration=quic_configuration(server_name="localhost"))
        assert "certificate" in error


async def test_another_protocol_class_is_a_mistake_of_the_caller() -> None:
    from aioquic.asyncio.client import connect

    async def opened(connection: LinkProtocol) -> None:
        await connection.wait_closed()

    async with quic_server(opened) as port:
        async with connect(LOOPBACK, port, configuration=quic_client()) as connection:
            with pytest.raises(TypeError, match="create_protocol=LinkProtocol"):
                await quic_link(connection)


async def test_a_server_that_cannot_serve_says_so_to_the_loop() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def opened(connection: LinkProtocol) -> None:
        raise ZeroDivisionError

    async with quic_server(opened) as port:
        assert "the other end closed the link" in await met(port)
    assert isinstance(told[0]["exception"], ZeroDivisionError)


async def test_datagrams_that_are_lost_are_lost_packets() -> None:
    async with pair("quic") as (near, far):
        assert isinstance(near, QuicLink)
        transport: Any = near.connection._transport

        class Losing:
            count = 0

            def sendto(self, data: bytes, address: Any) -> None:
                self.count += 1
                if self.count % 20:
                    transport.sendto(data, address)

            def __getattr__(self, name: str) -> Any:
                return getattr(transport, name)

        near.connection._transport = Losing()  # type: ignore[assignment]
        async with stacks(near, far) as (one, other):
            await converse(one, other, 60_000)
        near.connection._transport = transport
