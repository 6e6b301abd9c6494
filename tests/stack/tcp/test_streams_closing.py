"""How streams end: closed, reset, aborted; as over a socket."""

from __future__ import annotations

import asyncio

import pytest

from tests.stack.networks import PATIENCE, Network, Stacks, connected, end


async def test_wait_closed_is_prompt_whoever_closes_first(network: Network) -> None:
    for first, second in ((1, 3), (3, 1)):
        pair = await connected(network)
        writers = {1: pair[1], 3: pair[3]}
        writers[first].write(b"last words")
        writers[first].close()
        assert writers[first].is_closing()
        async with asyncio.timeout(1):
            await writers[first].wait_closed()
        reader = pair[2] if first == 1 else pair[0]
        assert await reader.read() == b"last words"
        writers[second].close()
        async with asyncio.timeout(1):
            await writers[second].wait_closed()
        writers[first].close()  # a second one is nothing


async def test_close_after_a_half_close_whose_end_was_acknowledged(network: Network) -> None:
    pair = await connected(network)
    pair[1].write_eof()
    assert await pair[2].read() == b""
    pair[3].close()
    assert await pair[0].read() == b""
    await asyncio.sleep(0.01)
    await end(pair)


async def test_what_arrives_after_close_is_discarded(stacks: Stacks) -> None:
    pair = await connected(stacks)
    _, writer, _, far_writer = pair
    writer.close()
    await writer.wait_closed()
    far_writer.write(b"x" * 200_000)
    await asyncio.sleep(0.02)
    assert stacks.client.tcp.budget.used == 0
    far_writer.close()
    await far_writer.wait_closed()


async def test_close_with_unread_data_does_not_wait_for_a_reader(stacks: Stacks) -> None:
    pair = await connected(stacks, limit=100)
    _, writer, _, far_writer = pair
    far_writer.write(b"x" * 500_000)
    await asyncio.sleep(0.02)
    assert stacks.client.tcp.budget.used > 0
    writer.close()
    far_writer.close()
    async with asyncio.timeout(PATIENCE):
        await writer.wait_closed()
        await far_writer.wait_closed()
    assert stacks.client.tcp.budget.used == 0


async def test_a_reset_is_a_connection_reset_error(network: Network) -> None:
    pair = await connected(network)
    reader, writer, _, far_writer = pair
    network.reset(far_writer)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert writer.is_closing()
    with pytest.raises(ConnectionResetError):
        await writer.drain()
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()
    await far_writer.wait_closed()  # whoever resets is told of no error


async def test_a_reset_wakes_who_waits_in_drain(network: Network) -> None:
    pair = await connected(network)
    _, writer, _, far_writer = pair
    writer.write(bytes(20_000_000))
    waiting = asyncio.ensure_future(writer.drain())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    network.reset(far_writer)
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(PATIENCE):
            await waiting


async def test_abort_discards_what_was_not_sent(stacks: Stacks) -> None:
    pair = await connected(stacks)
    _, writer, far_reader, _ = pair
    writer.write(bytes(5_000_000))
    assert writer.transport.get_write_buffer_size() > 0
    writer.transport.abort()
    assert writer.transport.get_write_buffer_size() == 0
    writer.transport.abort()
    await writer.wait_closed()
    with pytest.raises(ConnectionResetError):
        await far_reader.read()
    assert not stacks.client.tcp.flows
    assert not stacks.server.tcp.flows


async def test_closing_the_stack_ends_what_is_open_on_both_sides(stacks: Stacks) -> None:
    pair = await connected(stacks)
    reader, writer, far_reader, far_writer = pair
    waiting = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0)
    stacks.client.close()
    with pytest.raises(ConnectionAbortedError):
        await waiting
    with pytest.raises(ConnectionAbortedError):
        await writer.wait_closed()
    with pytest.raises(OSError):  # reset, or aborted because the link is gone as well
        await far_reader.read()
    with pytest.raises(OSError):
        await far_writer.wait_closed()
