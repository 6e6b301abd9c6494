"""asyncio's streams over our TCP behave as they do over a socket: most tests here run over both, to prove it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from netbridge.stack.link.fault import FaultLink, Faults
from netbridge.stack.link.memory import memory_link
from netbridge.stack.stack import Stack
from netbridge.stack.tcp.request import TcpRequest
from netbridge.stack.tcp.streams import HIGH_WATER, TcpTransport
from netbridge.stack.tcp.user import ConnectionUser
from tests.stack.networks import PATIENCE, Accepted, Network, Reader, Stacks, Writer, connected, duplex, end
from tests.stack.tcp.peer import PEER_ISN, Peer


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


# -- what only the stack's side can be made to do


class Recorder(asyncio.Protocol):
    """A protocol that writes down the order of its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.errors: list[Exception | None] = []
        self.stay_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.calls.append(data.decode())

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return self.stay_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.errors.append(exc)


def accept_with(protocol: Recorder, request: TcpRequest) -> TcpTransport:
    transport = TcpTransport(protocol, asyncio.get_running_loop())
    user: ConnectionUser = transport
    transport.attach(request.accept(user))
    return transport


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


async def test_a_protocol_that_knew_of_no_connection_is_told_of_no_end(peer: Peer) -> None:
    protocol = Recorder()
    accept_with(protocol, peer.asks())
    peer.says("R", PEER_ISN + 1)
    await asyncio.sleep(0)
    assert not peer.tcp.flows
    assert protocol.calls == []


async def test_a_protocol_is_told_in_order_and_of_the_end_once(peer: Peer) -> None:
    protocol = Recorder()
    transport = accept_with(protocol, peer.asks())
    isn = peer.hears("SA").seq
    peer.inject(
        peer.segment("A", PEER_ISN + 1, isn + 1, b"a"), peer.segment("FA", PEER_ISN + 2, isn + 1, b"b"),
    )  # fmt: skip
    assert protocol.calls == ["made", "a", "b", "eof"]  # eof_received said no: the transport closes
    assert transport.is_closing()
    peer.hears("FA", isn + 1, PEER_ISN + 4)
    peer.says("A", PEER_ISN + 4, isn + 2)
    transport.abort()
    transport.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert protocol.calls == ["made", "a", "b", "eof", "lost"]
    assert protocol.errors == [None]


async def test_a_reset_after_the_end_was_told_is_not_told_again(peer: Peer) -> None:
    protocol = Recorder()
    transport = accept_with(protocol, peer.asks())
    isn = peer.hears("SA").seq
    peer.says("A", PEER_ISN + 1, isn + 1)
    transport.close()
    peer.hears("FA", isn + 1)
    peer.says("A", PEER_ISN + 1, isn + 2)
    await asyncio.sleep(0)
    assert protocol.calls == ["made", "lost"]
    peer.says("A", PEER_ISN + 1, isn + 2, b"ignored")
    peer.says("R", PEER_ISN + 8)
    await asyncio.sleep(0)
    assert protocol.calls == ["made", "lost"]
    assert not peer.tcp.flows


async def test_writing_is_paused_and_resumed_by_the_acknowledgement_that_makes_room(peer: Peer) -> None:
    class Writing(Recorder):
        def pause_writing(self) -> None:
            self.calls.append("pause")

        def resume_writing(self) -> None:
            self.calls.append("resume")

    protocol = Writing()
    transport = accept_with(protocol, peer.asks())
    isn = peer.hears("SA").seq
    peer.says("A", PEER_ISN + 1, isn + 1, window=65535)  # times 128
    transport.write(bytes(HIGH_WATER))
    assert protocol.calls == ["made"]
    transport.write(bytes(HIGH_WATER))
    assert protocol.calls == ["made", "pause"]
    sent = sum(len(packet.payload.payload.load) for packet in peer.heard())
    assert sent == 14_600  # the initial congestion window
    while protocol.calls[-1] == "pause":
        peer.says("A", PEER_ISN + 1, isn + 1 + sent)
        queued = transport.get_write_buffer_size()
        assert (queued <= HIGH_WATER // 4) == (protocol.calls[-1] == "resume")  # told once what fits has left
        sent += sum(len(packet.payload.payload.load) for packet in peer.heard())
    assert protocol.calls == ["made", "pause", "resume"]


async def test_limits_set_below_what_waits_pause_at_once(peer: Peer) -> None:
    paused: list[bool] = []
    protocol = Recorder()
    protocol.pause_writing = lambda: paused.append(True)  # type: ignore[method-assign]
    transport = accept_with(protocol, peer.asks())
    isn = peer.hears("SA").seq
    peer.says("A", PEER_ISN + 1, isn + 1)
    transport.write(bytes(100_000))
    assert not paused
    transport.set_write_buffer_limits(high=1000)
    assert paused


async def test_writing_to_what_is_over_is_nothing(peer: Peer) -> None:
    protocol = Recorder()
    transport = accept_with(protocol, peer.asks())
    isn = peer.hears("SA").seq
    peer.says("A", PEER_ISN + 1, isn + 1)
    peer.says("R", PEER_ISN + 1)
    transport.write(b"x")
    transport.write_eof()
    transport.pause_reading()
    transport.resume_reading()
    await asyncio.sleep(0)
    peer.silent()
    assert protocol.calls == ["made", "lost"]
