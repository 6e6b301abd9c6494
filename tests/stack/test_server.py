"""Servers of a stack: where they listen, what they say of it, how they end."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from tests.stack.networks import PATIENCE, Accepted, Network, Sockets, Stacks


async def test_port_0_is_a_free_one(stacks: Stacks) -> None:
    servers = [await stacks.server.start_server(Accepted(), "10.0.0.2", 0) for _ in range(20)]
    ports = {server.sockets[0].getsockname()[1] for server in servers}
    assert len(ports) == 20
    assert min(ports) >= 49152
    stacks.port = ports.pop()
    _, writer = await stacks.connect()
    writer.close()
    for server in servers:
        server.close()


async def test_every_port_taken_is_address_in_use(stacks: Stacks) -> None:
    stacks.server.tcp.listeners.update(dict.fromkeys([(None, port) for port in range(49152, 65536)]))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="in use") as caught:
        await stacks.server.start_server(Accepted())
    assert caught.value.errno == errno.EADDRINUSE
    stacks.server.tcp.listeners.clear()


async def test_sockets_say_where_it_listens(network: Network) -> None:
    server = await network.serve(Accepted())
    (one,) = server.sockets
    assert one.getsockname() == ("127.0.0.1" if isinstance(network, Sockets) else "10.0.0.2", network.port)
    assert one.family == socket.AF_INET
    assert one.type == socket.SOCK_STREAM
    assert server.get_loop() is asyncio.get_running_loop()
    server.close()
    assert not server.sockets
    await server.wait_closed()


async def test_any_address_is_told_of_both_versions(stacks: Stacks) -> None:
    async with await stacks.server.start_server(Accepted(), None, 80) as server:
        assert [one.getsockname()[:2] for one in server.sockets] == [("0.0.0.0", 80), ("::", 80)]
        assert [one.family for one in server.sockets] == [socket.AF_INET, socket.AF_INET6]
        assert repr(server) == "<Server any address port 80>"
    assert repr(server) == "<Server any address port 80 closed>"


async def test_several_hosts_and_all_or_none(stacks: Stacks) -> None:
    stack = stacks.server
    async with await stack.start_server(Accepted(), ["10.0.0.2", "::"], 80) as server:
        assert [one.getsockname()[0] for one in server.sockets] == ["10.0.0.2", "::"]
        with pytest.raises(OSError, match="already listened on"):
            await stack.start_server(Accepted(), ["0.0.0.0", "::"], 80)
        assert len(stack.tcp.listeners) == 2  # what had begun to listen was undone
    assert not stack.tcp.listeners
    with pytest.raises(ValueError, match="host"):
        await stack.start_server(Accepted(), [], 80)


@pytest.fixture
async def asyncios(network: Network) -> Network:
    if isinstance(network, Sockets) and not isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
        pytest.skip("uvloop's own servers end serve_forever() in their own way")
    return network


async def test_serve_forever_until_it_is_cancelled(asyncios: Network) -> None:
    accepted = Accepted()
    server = await asyncios.serve(accepted)
    serving = asyncio.ensure_future(server.serve_forever())
    await asyncio.sleep(0)
    _, writer = await asyncios.connect()
    writer.close()
    (await accepted.one())[1].close()
    with pytest.raises(RuntimeError, match="already"):
        await server.serve_forever()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not server.is_serving()
    with pytest.raises(RuntimeError, match="closed"):
        await server.serve_forever()


async def test_close_ends_serve_forever(asyncios: Network) -> None:
    server = await asyncios.serve(Accepted())
    await server.start_serving()
    serving = asyncio.ensure_future(server.serve_forever())
    await asyncio.sleep(0.01)
    server.close()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(serving, PATIENCE)


async def test_a_local_port_that_was_asked_for(stacks: Stacks) -> None:
    accepted = Accepted()
    async with await stacks.serve(accepted):
        _, writer = await stacks.connect(local_addr=("10.0.0.1", 5555))
        _, far_writer = await accepted.one()
        assert far_writer.get_extra_info("peername") == ("10.0.0.1", 5555)
        with pytest.raises(OSError, match="in use") as caught:
            await stacks.connect(local_addr=(None, 5555))
        assert caught.value.errno == errno.EADDRINUSE
        writer.close()
        far_writer.close()
    stacks.client.close()
    with pytest.raises(OSError, match="down") as caught:
        await stacks.connect(local_addr=("10.0.0.1", 5556))
    assert caught.value.errno == errno.ENETDOWN
