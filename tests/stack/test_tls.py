"""Real TLS 1.3 over our connections, both ways (CPython's test_sslproto has the list), over sockets and stacks."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

from tests.stack.networks import (
    NAME,
    PATIENCE,
    Accepted,
    Network,
    Pair,
    Reader,
    Stacks,
    Writer,
    connected,
    contexts,
    duplex,
    end,
)

SIZE = 10_000_000


async def secured(network: Network, **more: Any) -> Pair:
    """A connection with TLS from its first byte on."""
    server_context, client_context = contexts()
    accepted = Accepted()
    server = await network.serve(accepted, ssl=server_context)
    ends = (*await network.connect(ssl=client_context, server_hostname=NAME, **more), *await accepted.one())
    server.close()
    return ends


async def upgraded(pair: Pair) -> None:
    """TLS on a connection that is open."""
    server_context, client_context = contexts()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(
            pair[1].start_tls(client_context, server_hostname=NAME), pair[3].start_tls(server_context)
        )


async def sends(writer: Writer, data: bytes) -> None:
    for at in range(0, len(data), 100_000):
        writer.write(data[at : at + 100_000])
        await writer.drain()


async def test_both_ways_at_once(network: Network) -> None:
    pair = await secured(network)
    reader, writer, far_reader, far_writer = pair
    up, down = b"up" * (SIZE // 2), b"down" * (SIZE // 4)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(sends(writer, up))
        group.create_task(sends(far_writer, down))
        there = group.create_task(far_reader.readexactly(SIZE))
        here = group.create_task(reader.readexactly(SIZE))
    assert there.result() == up
    assert here.result() == down
    for one in (writer, far_writer):
        assert one.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert one.get_extra_info("cipher")
        assert not one.can_write_eof()
    assert writer.get_extra_info("peercert")["subject"] == ((("commonName", NAME),),)
    assert writer.get_extra_info("peername") == far_writer.get_extra_info("sockname")
    writer.close()
    assert await far_reader.read() == b""  # close_notify
    await end(pair)


async def test_a_connection_is_upgraded(network: Network) -> None:
    pair = await connected(network)
    reader, writer, far_reader, far_writer = pair
    writer.write(b"STARTTLS\n")
    assert await far_reader.readline() == b"STARTTLS\n"
    far_writer.write(b"go ahead\n")
    assert await reader.readline() == b"go ahead\n"
    assert writer.get_extra_info("ssl_object") is None
    await upgraded(pair)
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    data = bytes(range(256)) * (SIZE // 256)
    sending = asyncio.ensure_future(sends(writer, data))
    assert await far_reader.readexactly(len(data)) == data
    await sending
    far_writer.write(b"thanks")
    far_writer.close()
    assert await reader.read() == b"thanks"
    await end(pair)


async def test_what_was_written_before_the_upgrade_is_in_the_clear_and_comes_first(network: Network) -> None:
    pair = await connected(network)
    pair[1].write(b"plain")
    assert await pair[2].readexactly(5) == b"plain"
    await upgraded(pair)
    pair[1].write(b"secret")
    assert await pair[2].readexactly(6) == b"secret"
    await end(pair)


async def test_asyncios_own_start_tls(stacks: Stacks) -> None:
    """`loop.start_tls` where the event loop's is asyncio's, `Stack.start_tls` everywhere."""
    loop = asyncio.get_running_loop()
    usual = isinstance(loop, asyncio.SelectorEventLoop)
    pair = await connected(stacks)
    server_context, client_context = contexts()

    async def upgrade(writer: Writer, context: ssl.SSLContext, **more: Any) -> asyncio.Transport:
        transport = duplex(writer)
        start = loop.start_tls if usual else stacks.client.start_tls
        made = await start(transport, transport.get_protocol(), context, **more)
        assert made is not None
        return made

    async with asyncio.timeout(PATIENCE):
        near, far = await asyncio.gather(
            upgrade(pair[1], client_context, server_hostname=NAME),
            upgrade(pair[3], server_context, server_side=True),
        )
    near.write(b"hello")
    assert await pair[2].readexactly(5) == b"hello"
    far.close()
    assert await pair[0].read() == b""
    near.close()
    if not usual:
        with pytest.raises(TypeError):
            await loop.start_tls(duplex(pair[1]), asyncio.Protocol(), client_context)
    await end(pair)


async def test_tls_within_tls(network: Network) -> None:
    if isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop) or isinstance(network, Stacks):
        pair = await secured(network)
        await upgraded(pair)
        pair[1].write(b"x" * 200_000)
        assert await pair[2].readexactly(200_000) == b"x" * 200_000
        pair[1].transport.abort()
        pair[3].transport.abort()
    else:
        pytest.skip("uvloop knows no TLS within TLS")


async def test_a_certificate_that_is_not_trusted_or_of_another_name(network: Network) -> None:
    server_context, client_context = contexts()
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # asyncio's server tells of it
    server = await network.serve(Accepted(), ssl=server_context)
    for context, name in ((ssl.create_default_context(), NAME), (client_context, "another.test")):
        with pytest.raises(ssl.SSLCertVerificationError):
            await network.connect(ssl=context, server_hostname=name)
    _, writer = await network.connect(ssl=client_context)  # the certificate names the address as well
    writer.transport.abort()
    server.close()


async def test_a_server_that_speaks_no_tls(network: Network) -> None:
    async def rude(reader: Reader, writer: Writer) -> None:
        writer.write(b"220 no TLS here\r\n")
        writer.close()

    server = await network.serve(rude)
    with pytest.raises(ssl.SSLError):
        await network.connect(ssl=contexts()[1], server_hostname=NAME)
    server.close()


async def test_a_server_that_hangs_up_in_the_handshake(network: Network) -> None:
    async def gone(reader: Reader, writer: Writer) -> None:
        writer.close()

    server = await network.serve(gone)
    with pytest.raises(ConnectionResetError):
        await network.connect(ssl=contexts()[1], server_hostname=NAME)
    server.close()


async def test_a_handshake_nobody_answers_ends_in_time(network: Network) -> None:
    accepted = Accepted()
    server = await network.serve(accepted)
    with pytest.raises(ConnectionAbortedError, match="longer than"):
        await network.connect(ssl=contexts()[1], server_hostname=NAME, ssl_handshake_timeout=0.05)
    _, far_writer = await accepted.one()
    far_writer.transport.abort()
    server.close()


async def test_a_handshake_that_is_cancelled_leaves_nothing(stacks: Stacks) -> None:
    accepted = Accepted()
    server = await stacks.serve(accepted)
    opening = asyncio.ensure_future(stacks.connect(ssl=contexts()[1], server_hostname=NAME))
    far_reader, _ = await accepted.one()
    assert await far_reader.readexactly(5)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    with pytest.raises(ConnectionResetError):
        await far_reader.read()
    assert not stacks.client.tcp.flows
    server.close()


async def test_an_upgrade_that_is_cancelled_closes_the_connection(network: Network) -> None:
    pair = await connected(network)
    upgrading = asyncio.ensure_future(pair[1].start_tls(contexts()[1], server_hostname=NAME))
    assert await pair[2].readexactly(5)
    upgrading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upgrading
    await asyncio.wait_for(pair[2].read(), PATIENCE)
    pair[3].close()


async def test_a_server_whose_client_never_says_hello_lets_it_go(stacks: Stacks) -> None:
    server = await stacks.serve(Accepted(), ssl=contexts()[0], ssl_handshake_timeout=0.05)
    reader, writer = await stacks.connect()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), PATIENCE)
    assert not stacks.server.tcp.flows
    writer.close()
    server.close()


async def test_a_reset_in_the_midst(network: Network) -> None:
    pair = await secured(network)
    pair[3].transport.abort()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await pair[0].readexactly(1)
    pair[1].close()


async def test_the_last_data_before_close_notify_arrives(network: Network) -> None:
    pair = await secured(network)
    data = b"z" * 1_000_000
    pair[3].write(data)
    pair[3].close()
    assert await asyncio.wait_for(pair[0].read(), PATIENCE) == data
    await end(pair)


async def test_a_slow_reader_holds_the_writer_back(network: Network) -> None:
    pair = await secured(network)
    _, writer, far_reader, _ = pair
    written = 0
    while written < 60_000_000:
        writer.write(bytes(500_000))
        written += 500_000
        try:
            async with asyncio.timeout(0.3):
                await writer.drain()
        except TimeoutError:
            break
    else:
        pytest.fail("nothing holds the writer back")
    total = 0
    while total < written:
        total += len(await far_reader.read(1 << 20))
    await asyncio.wait_for(writer.drain(), PATIENCE)
    await end(pair)


async def test_arguments_that_make_no_sense(stacks: Stacks) -> None:
    stack = stacks.client
    with pytest.raises(TypeError, match="ssl"):
        await stack.open_connection("10.0.0.2", 80, ssl="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="server_hostname"):
        await stack.open_connection("10.0.0.2", 80, server_hostname=NAME)
    with pytest.raises(TypeError, match="ssl"):
        await stack.start_server(lambda reader, writer: None, None, 80, ssl=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="sslcontext"):
        await stack.start_tls(None, None, "context")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        await stack.open_connection("10.0.0.2", 80, ssl=True, ssl_handshake_timeout=-1)
    assert not stack.tcp.flows


async def test_what_was_said_before_tls_does_not_pass_for_what_was_said_in_it(stacks: Stacks) -> None:
    """Whoever is on the way could send it: the answer to a request that TLS was to protect."""
    accepted = Accepted()
    server = await stacks.serve(accepted)
    reader, writer = await stacks.connect()
    _, far_writer = await accepted.one()
    far_writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not reader._buffer:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    far = asyncio.ensure_future(far_writer.start_tls(contexts()[0]))
    with pytest.raises(ssl.SSLError):
        async with asyncio.timeout(PATIENCE):
            await writer.start_tls(contexts()[1], server_hostname=NAME)
    assert b"200" not in bytes(reader._buffer)  # type: ignore[attr-defined]
    with pytest.raises(OSError):
        await far
    writer.close()
    server.close()


async def test_a_hello_that_came_early_is_heard(stacks: Stacks) -> None:
    """The client did not wait for the server's word that TLS may begin."""
    accepted = Accepted()
    server = await stacks.serve(accepted)
    reader, writer = await stacks.connect()
    far_reader, far_writer = await accepted.one()
    upgrading = asyncio.ensure_future(writer.start_tls(contexts()[1], server_hostname=NAME))
    while not far_reader._buffer:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        await far_writer.start_tls(contexts()[0])
        await upgrading
        writer.write(b"hello")
        assert await far_reader.readexactly(5) == b"hello"
        far_writer.write(b"yes")
        assert await reader.readexactly(3) == b"yes"
    writer.close()
    far_writer.close()
    server.close()
