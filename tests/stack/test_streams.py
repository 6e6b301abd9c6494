"""What asyncio promises of streams and transports (CPython's own test_streams has the list), over sockets and stacks.

tests/stack/tcp/test_streams.py has the rest: the transport's own ways, and what only two stacks can be made to do.
"""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from tests.stack.networks import PATIENCE, Accepted, Network, Reader, Stacks, Writer, connected, duplex, end


async def test_reading_nothing_is_at_once(network: Network) -> None:
    pair = await connected(network)
    reader, _, _, far_writer = pair
    assert await reader.read(0) == b""
    assert await reader.readexactly(0) == b""
    with pytest.raises(ValueError, match="less than zero"):
        await reader.readexactly(-1)
    with pytest.raises(ValueError, match="eparator"):
        await reader.readuntil(b"")
    far_writer.write(b"x")
    assert await reader.read(10) == b"x"  # what is there, not all that was asked for
    await end(pair)


async def test_lines_and_separators_across_segments(network: Network) -> None:
    pair = await connected(network)
    reader, _, _, far_writer = pair

    async def slowly() -> None:
        for piece in (b"a li", b"ne\nand <", b"end", b">tail without end"):
            far_writer.write(piece)
            await far_writer.drain()
            await asyncio.sleep(0.002)
        far_writer.close()

    writing = asyncio.ensure_future(slowly())
    assert await reader.readline() == b"a line\n"
    assert await reader.readuntil(b"<end>") == b"and <end>"
    assert await reader.readline() == b"tail without end"
    assert await reader.readline() == b""
    await writing
    await end(pair)


async def test_a_line_beyond_the_limit_is_a_value_error_and_is_dropped(network: Network) -> None:
    pair = await connected(network, limit=50)
    reader, _, _, far_writer = pair
    far_writer.write(b"x" * 80 + b"\n" + b"short\n")
    with pytest.raises(ValueError, match="limit"):
        await reader.readline()
    assert await reader.readline() == b"short\n"
    await end(pair)


async def test_a_separator_found_beyond_the_limit_leaves_the_data(network: Network) -> None:
    pair = await connected(network, limit=20)
    reader, _, _, far_writer = pair
    far_writer.write(b"y" * 30 + b"$rest")
    far_writer.write_eof()
    with pytest.raises(asyncio.LimitOverrunError) as caught:
        await reader.readuntil(b"$")
    assert caught.value.consumed > 0
    assert await reader.readexactly(31) == b"y" * 30 + b"$"
    assert await reader.read() == b"rest"
    await end(pair)


async def test_reading_by_iteration(network: Network) -> None:
    pair = await connected(network)
    pair[3].write(b"1\n2\n3")
    pair[3].close()
    assert [line async for line in pair[0]] == [b"1\n", b"2\n", b"3"]
    await end(pair)


async def test_at_eof_only_once_all_is_read(network: Network) -> None:
    pair = await connected(network)
    reader, _, _, far_writer = pair
    far_writer.write(b"last")
    far_writer.write_eof()
    assert await reader.readexactly(2) == b"la"
    assert not reader.at_eof()
    assert await reader.read() == b"st"
    assert reader.at_eof()
    assert await reader.read() == b""
    await end(pair)


async def test_a_read_that_is_cancelled_loses_nothing(network: Network) -> None:
    pair = await connected(network)
    reader, _, _, far_writer = pair
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await reader.readexactly(3)
    reading = asyncio.ensure_future(reader.read(3))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    far_writer.write(b"abc")
    assert await asyncio.wait_for(reader.readexactly(3), PATIENCE) == b"abc"
    await end(pair)


async def test_two_readers_at_once_are_refused(network: Network) -> None:
    pair = await connected(network)
    first = asyncio.ensure_future(pair[0].read(1))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another coroutine"):
        await pair[0].read(1)
    pair[3].write(b"x")
    assert await first == b"x"
    await end(pair)


async def test_several_wait_in_drain_and_one_that_is_cancelled_harms_none(network: Network) -> None:
    pair = await connected(network)
    _, writer, far_reader, _ = pair
    writer.transport.set_write_buffer_limits(high=0)
    size = 30_000_000
    writer.write(bytes(size))
    waiting = [asyncio.ensure_future(writer.drain()) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert not any(one.done() for one in waiting)
    waiting[0].cancel()
    total = 0
    while total < size:
        total += len(await far_reader.read(1 << 20))
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*waiting[1:])
    assert waiting[0].cancelled()
    assert writer.transport.get_write_buffer_size() == 0
    await end(pair)


async def test_drain_after_the_end_raises(network: Network) -> None:
    pair = await connected(network)
    _, writer, _, far_writer = pair
    writer.close()
    far_writer.close()
    await writer.wait_closed()
    assert writer.is_closing()
    with pytest.raises(ConnectionResetError):
        await writer.drain()
    await end(pair)


async def test_a_write_after_close_is_no_error(network: Network) -> None:
    pair = await connected(network)
    pair[1].close()
    pair[1].write(b"late")
    assert pair[1].is_closing()
    assert await pair[2].read() in {b"", b"late"}
    await end(pair)


async def test_what_was_written_before_close_arrives_whole(network: Network) -> None:
    pair = await connected(network)
    data = bytes(range(256)) * 20_000
    pair[1].write(data)
    pair[1].close()
    assert await pair[2].read() == data
    await end(pair)


async def test_reading_goes_on_in_pieces_while_the_buffer_is_small(network: Network) -> None:
    """The reader pauses the transport at twice its limit, and lets it go on as it is read."""
    pair = await connected(network, limit=100)
    data = bytes(range(256)) * 4000
    pair[3].write(data)
    pair[3].close()
    got = b""
    while piece := await pair[0].read(97):
        got += piece
    assert got == data
    await end(pair)


async def test_pausing_after_close_keeps_nothing_open(network: Network) -> None:
    pair = await connected(network)
    _, writer, _, far_writer = pair
    transport = duplex(writer)
    writer.close()
    transport.pause_reading()
    assert not transport.is_reading()
    far_writer.write(b"x" * 300_000)
    far_writer.close()
    async with asyncio.timeout(PATIENCE):
        await writer.wait_closed()
        try:
            await far_writer.wait_closed()  # nothing waits for a reader that has gone
        except ConnectionError:
            assert not isinstance(network, Stacks)  # the kernel resets, the stack takes it and forgets


async def test_the_protocol_can_be_another_one_from_now_on(network: Network) -> None:
    """One with a buffer of its own, as TLS has, then one without, without a byte lost between."""
    pair = await connected(network)
    reader, writer, _, far_writer = pair
    transport = duplex(writer)
    usual = transport.get_protocol()
    done = asyncio.get_running_loop().create_future()

    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(7)
            self.got = b""

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.got += self.buffer[:nbytes]
            if len(self.got) >= 20:
                transport.set_protocol(usual)
                done.set_result(self.got)

    transport.set_protocol(buffered := Buffered())
    assert transport.get_protocol() is buffered
    far_writer.write(bytes(range(100)))
    first = await asyncio.wait_for(done, PATIENCE)
    assert first + await reader.readexactly(100 - len(first)) == bytes(range(100))
    await end(pair)


async def test_a_buffered_protocol_that_pauses_itself(stacks: Stacks) -> None:
    pair = await connected(stacks)
    transport = duplex(pair[1])
    usual = transport.get_protocol()
    got: list[bytes] = []
    reading: list[bool] = []
    over = asyncio.Event()

    class Slow(asyncio.BufferedProtocol):
        buffer = bytearray(10)

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            reading.append(transport.is_reading())
            got.append(bytes(self.buffer[:nbytes]))
            transport.pause_reading()
            asyncio.get_running_loop().call_soon(transport.resume_reading)

        def eof_received(self) -> bool:
            over.set()
            return True

    transport.set_protocol(Slow())
    pair[3].write(bytes(range(200)))
    pair[3].write_eof()
    await asyncio.wait_for(over.wait(), PATIENCE)
    assert b"".join(got) == bytes(range(200))
    assert max(map(len, got)) <= 10
    assert all(reading)
    transport.set_protocol(usual)
    await end(pair)


async def test_an_empty_buffer_is_the_protocols_fault(stacks: Stacks) -> None:
    loop, told = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: told.append(context))
    pair = await connected(stacks)
    lost = loop.create_future()

    class Empty(asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> bytearray:
            return bytearray()

        def connection_lost(self, exc: Exception | None) -> None:
            lost.set_result(exc)

    duplex(pair[1]).set_protocol(Empty())
    pair[3].write(b"x")
    assert isinstance(await asyncio.wait_for(lost, PATIENCE), ConnectionAbortedError)
    assert "empty buffer" in str(told[0]["exception"])
    with pytest.raises(ConnectionResetError):
        await pair[2].read()


async def test_a_handler_that_fails_is_reported_and_its_connection_closed(network: Network) -> None:
    loop, told = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: told.put_nowait(context))

    async def broken(reader: Reader, writer: Writer) -> None:
        raise ZeroDivisionError

    server = await network.serve(broken)
    reader, writer = await network.connect()
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    assert isinstance((await asyncio.wait_for(told.get(), PATIENCE))["exception"], ZeroDivisionError)
    writer.close()
    server.close()


async def test_a_writer_that_is_forgotten_warns_and_closes(network: Network) -> None:
    accepted = Accepted()
    server = await network.serve(accepted)
    _, writer = await network.connect()
    far_reader, far_writer = await accepted.one()
    with pytest.warns(ResourceWarning, match="unclosed"):
        del writer, _
        import gc

        gc.collect()
    assert await asyncio.wait_for(far_reader.read(), PATIENCE) == b""
    far_writer.close()
    server.close()


async def test_errors_have_the_kernels_numbers(network: Network) -> None:
    pair = await connected(network)
    network.reset(pair[3])
    with pytest.raises(ConnectionResetError) as caught:
        await pair[0].read()
    assert caught.value.errno == errno.ECONNRESET
    with pytest.raises(ConnectionRefusedError) as refused:
        await network.connect()
    assert refused.value.errno == errno.ECONNREFUSED
    pair[1].close()


async def test_extra_info(stacks: Stacks) -> None:
    pair = await connected(stacks)
    assert pair[1].get_extra_info("stack") is stacks.client
    assert pair[3].get_extra_info("stack") is stacks.server
    for name in ("socket", "ssl_object", "nonsense"):
        assert pair[1].get_extra_info(name) is None
        assert pair[1].get_extra_info(name, 5) == 5
    assert repr(pair[3].transport).startswith("<TcpTransport 10.0.0.2 port 80 > 10.0.0.1 port ")
    await end(pair)
