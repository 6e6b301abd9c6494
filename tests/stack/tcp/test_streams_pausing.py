"""Streams whose reader does not read, and writers that wait for it; as over a socket."""

from __future__ import annotations

import asyncio

import pytest

from tests.stack.networks import Network, Stacks, connected, duplex, end


async def test_drain_waits_for_a_reader_that_does_not_read(network: Network) -> None:
    pair = await connected(network)
    _, writer, far_reader, _ = pair
    chunk = bytes(100_000)
    written = 0
    while True:
        writer.write(chunk)
        written += len(chunk)
        try:
            async with asyncio.timeout(0.1):
                await writer.drain()
        except TimeoutError:
            break
        assert written < 50_000_000, "nothing holds the writer back"
    held = writer.transport.get_write_buffer_size()
    low, high = writer.transport.get_write_buffer_limits()
    assert low < high < held <= high + len(chunk)
    writer.close()
    total = 0
    while data := await far_reader.read(65536):
        total += len(data)
    assert total == written
    await end(pair)


async def test_a_paused_reader_leaves_the_rest_with_its_sender(stacks: Stacks) -> None:
    """What lies unread is bounded by the reader's limit and the receive window, and the window opens again."""
    pair = await connected(stacks, limit=1000)
    reader, _, _, far_writer = pair
    data = bytes(range(256)) * 8192
    far_writer.write(data)
    await asyncio.sleep(0.05)
    (flow,) = stacks.client.tcp.flows.values()
    receiver = flow.connection.receiver
    assert 0 < receiver.backlog_bytes <= 65536 + 256  # the window field counts in 256 bytes, rounded up
    assert receiver.window == 0
    assert stacks.client.tcp.budget.used == receiver.backlog_bytes
    assert await reader.readexactly(len(data)) == data
    assert stacks.client.tcp.budget.used == 0
    await end(pair)


async def test_write_buffer_limits(network: Network) -> None:
    pair = await connected(network)
    transport = pair[1].transport
    transport.set_write_buffer_limits(high=1000)
    assert transport.get_write_buffer_limits() == (250, 1000)
    transport.set_write_buffer_limits(low=1000)
    assert transport.get_write_buffer_limits() == (1000, 4000)
    transport.set_write_buffer_limits(high=0)
    assert transport.get_write_buffer_limits() == (0, 0)
    with pytest.raises(ValueError, match=r"high|low"):
        transport.set_write_buffer_limits(high=5, low=10)
    assert transport.get_write_buffer_limits() == (0, 0)
    transport.set_write_buffer_limits()
    assert transport.get_write_buffer_limits()[1] >= 65536
    await end(pair)


async def test_reading_can_be_paused_and_resumed(network: Network) -> None:
    pair = await connected(network)
    reader, writer, _, far_writer = pair
    transport = duplex(writer)
    transport.pause_reading()
    assert not transport.is_reading()
    far_writer.write(b"later")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await reader.read(5)
    transport.resume_reading()
    assert transport.is_reading()
    assert await reader.readexactly(5) == b"later"
    await end(pair)


async def test_end_of_file_comes_after_what_a_paused_reader_has_to_read(network: Network) -> None:
    pair = await connected(network)
    reader, writer, _, far_writer = pair
    duplex(writer).pause_reading()
    far_writer.write(b"x" * 50_000)
    far_writer.close()
    await asyncio.sleep(0.02)
    assert not reader.at_eof()
    duplex(writer).resume_reading()
    assert len(await reader.read()) == 50_000
    await end(pair)
