"""Listeners of a stack behave as those of asyncio over sockets."""

from __future__ import annotations

import pytest

from tests.stack.networks import Accepted, Network, Reader, Stacks, Writer, end


async def test_nobody_listens(network: Network) -> None:
    server = await network.serve(Accepted())
    server.close()
    await server.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await network.connect()


async def test_a_closed_server_keeps_its_connections(network: Network) -> None:
    accepted = Accepted()
    server = await network.serve(accepted)
    assert server.is_serving()
    pair = (*await network.connect(), *await accepted.one())
    server.close()
    server.close()
    assert not server.is_serving()
    pair[1].write(b"still here")
    assert await pair[2].readexactly(10) == b"still here"
    with pytest.raises(ConnectionRefusedError):
        await network.connect()
    await end(pair)


async def test_a_server_is_a_context_and_its_port_free_afterwards(stacks: Stacks) -> None:
    for _ in range(2):
        async with await stacks.serve(Accepted()) as server:
            assert server.address == ("10.0.0.2", 80)
            with pytest.raises(OSError, match="already listened on"):
                await stacks.serve(Accepted())
        assert not server.is_serving()


async def test_the_most_exact_listener_gets_the_connection(stacks: Stacks) -> None:
    handlers = {host: Accepted() for host in (None, "0.0.0.0", "10.0.0.2")}
    servers = [await stacks.server.start_server(handler, host, 80) for host, handler in handlers.items()]
    for host in ("10.0.0.2", "0.0.0.0", None):
        _, writer = await stacks.connect()
        _, far_writer = await handlers[host].one()
        writer.close()
        far_writer.close()
        servers.pop().close()
    assert not servers


async def test_a_handler_may_be_a_plain_function(network: Network) -> None:
    def greet(reader: Reader, writer: Writer) -> None:
        writer.write(b"hello")
        writer.close()

    server = await network.serve(greet)  # type: ignore[arg-type]
    reader, writer = await network.connect()
    assert await reader.read() == b"hello"
    writer.close()
    await writer.wait_closed()
    server.close()
