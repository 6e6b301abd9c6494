"""asyncio's streams over our TCP behave as they do over a socket: most tests here run over both, to prove it."""

from __future__ import annotations

import asyncio

import pytest

from netbridge.stack.link.fault import FaultLink, Faults
from netbridge.stack.link.memory import memory_link
from netbridge.stack.stack import Stack
from tests.stack.networks import PATIENCE, Accepted, Network, Reader, Stacks, Writer, connected, end


async def test_what_is_written_is_read_in_every_way(network: Network) -> None:
    pair = await connected(network)
    reader, _, _, writer = pair
    writer.write(b"one\ntwo\nthree\r\n\r\n")
    writer.writelines([b"four", bytearray(b"five"), memoryview(b"six")])
    await writer.drain()
    assert await reader.readline() == b"one\n"
    assert await reader.readexactly(4) == b"two\n"
    assert await reader.readuntil(b"\r\n\r\n") == b"three\r\n\r\n"
    assert await reader.readexactly(11) == b"fourfivesix"
    writer.write(b"")
    writer.write(b"rest")
    assert await reader.read(100) == b"rest"
    assert not reader.at_eof()
    writer.close()
    assert await reader.read() == b""
    assert reader.at_eof()
    await end(pair)


async def test_what_is_cut_short_is_an_incomplete_read(network: Network) -> None:
    pair = await connected(network)
    reader, _, _, writer = pair
    writer.write(b"abc")
    writer.close()
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        await reader.readexactly(4)
    assert caught.value.partial == b"abc"
    with pytest.raises(asyncio.IncompleteReadError):
        await reader.readuntil(b"\n")
    assert await reader.readline() == b""
    await end(pair)


async def test_a_line_beyond_the_limit_is_an_overrun(network: Network) -> None:
    pair = await connected(network, limit=100)
    reader, _, _, writer = pair
    writer.write(b"x" * 1000 + b"\n")
    with pytest.raises(asyncio.LimitOverrunError):
        await reader.readuntil(b"\n")
    assert await reader.readexactly(1001) == b"x" * 1000 + b"\n"
    await end(pair)


async def test_half_close_leaves_the_other_way_open(network: Network) -> None:
    pair = await connected(network)
    reader, writer, far_reader, far_writer = pair
    assert writer.can_write_eof()
    writer.write(b"question")
    writer.write_eof()
    writer.write_eof()  # a second one is nothing
    assert await far_reader.read() == b"question"
    assert far_reader.at_eof()
    with pytest.raises(RuntimeError):
        writer.write(b"more")
    answer = bytes(range(256)) * 4096
    far_writer.write(answer)
    far_writer.close()
    assert await reader.read() == answer
    assert not writer.is_closing()
    await end(pair)


async def test_only_bytes_are_written(stacks: Stacks) -> None:
    pair = await connected(stacks)
    for nonsense in ("text", 5, None, [1, 2]):
        with pytest.raises(TypeError):
            pair[1].write(nonsense)  # type: ignore[arg-type]
    await end(pair)


async def test_addresses_are_told(network: Network) -> None:
    pair = await connected(network)
    _, writer, _, far_writer = pair
    assert writer.get_extra_info("peername") == far_writer.get_extra_info("sockname")
    assert writer.get_extra_info("sockname") == far_writer.get_extra_info("peername")
    assert writer.get_extra_info("peername")[1] == network.port
    assert writer.get_extra_info("nonsense", "default") == "default"
    await end(pair)


async def test_ipv6_addresses_are_told_as_sockets_do() -> None:
    one, other = memory_link()
    async with Stack(one, ["fd00::1/64"]) as near, Stack(other, ["fd00::2/64"]) as far, asyncio.timeout(PATIENCE):
        accepted = Accepted()
        await far.start_server(accepted, "::", 80)
        _, writer = await near.open_connection("fd00::2", 80)
        _, far_writer = await accepted.one()
        assert writer.get_extra_info("peername") == ("fd00::2", 80, 0, 0)
        assert far_writer.get_extra_info("sockname") == ("fd00::2", 80, 0, 0)
        assert far_writer.get_extra_info("peername")[0] == "fd00::1"


async def test_many_connections_at_once(network: Network) -> None:
    async def echo(reader: Reader, writer: Writer) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def talk(number: int) -> None:
        reader, writer = await network.connect()
        data = number.to_bytes(2, "big") * 20_000
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == data
        writer.close()
        await writer.wait_closed()

    server = await network.serve(echo)
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(talk(number))
    server.close()


async def test_an_attempt_that_is_cancelled_leaves_nothing() -> None:
    """The other side never answers."""
    one, other = memory_link()
    silence = FaultLink(other, sent=Faults(loss=1.0))
    async with Stack(one, ["10.0.0.1/24"]) as near, Stack(silence, ["10.0.0.2/24"]):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await near.open_connection("10.0.0.2", 80)
        assert not near.tcp.flows
