"""TCP re-originated: readers that stall, many flows, limits, and the end of it all."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import socket
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.forward.policy import Policy
from netbridge.stack.tcp.flow import Flow
from netbridge.stack.tcp.output import HeaderWriter
from netbridge.stack.tcp.segment import RST, SYN, emit_syn_options
from tests.bridge.forward.bridge import (
    Bridge,
    Listener,
    black_hole,
    closed_port,
    connected,
    host_flow,
    open_descriptors,
    opened,
    read_all,
    read_exactly,
    settle,
)
from tests.bridge.forward.fakes import ALLOW_LOOPBACK, packed, until

# -- backpressure


async def test_a_host_that_does_not_read_closes_the_codespaces_window(bridge: Bridge) -> None:
    listener = Listener(receive_buffer=4096)
    end, host = await opened(bridge, listener)
    upload = random.Random(5).randbytes(20_000_000)
    end.transport.write(upload)
    before = -1
    while before != host_flow(bridge).bytes_up or not before:
        before = host_flow(bridge).bytes_up
        await settle()
    (flow,) = bridge.stack.tcp.flows.values()
    receiver = flow.connection.receiver
    assert before < 10_000_000
    assert receiver.window < 1460, "less than a segment: no sender fills that (RFC 9293, section 3.8.6.2.1)"
    assert 0 < bridge.stack.tcp.budget.used <= receiver.buffer + 256
    assert await asyncio.wait_for(read_exactly(host, len(upload)), 10) == upload
    assert bridge.stack.tcp.budget.used == 0
    assert receiver.window > 0
    end.transport.close()
    host.close()
    listener.close()
    await bridge.nothing_left()


async def test_a_codespace_that_does_not_read_stops_the_host(bridge: Bridge, listener4: Listener) -> None:
    end, host = await opened(bridge, listener4)
    end.transport.pause_reading()
    answer = random.Random(6).randbytes(30_000_000)
    sending = asyncio.ensure_future(bridge.loop.sock_sendall(host, answer))
    before = -1
    while before != host_flow(bridge).bytes_down or not before:
        before = host_flow(bridge).bytes_down
        await settle()
    (flow,) = bridge.stack.tcp.flows.values()
    # What the codespace's window took is in its memory; here lies no more than a segment to probe with.
    assert flow.connection.sender.flight == 0
    assert flow.queued <= flow.connection.sender.mss
    assert bridge.forwarder.held <= flow.connection.sender.mss
    assert not sending.done()
    end.transport.resume_reading()
    await sending
    host.close()
    await until(lambda: end.eof)
    assert end.data == answer
    end.transport.close()
    await bridge.nothing_left()


async def test_many_stalled_flows_hold_little(bridge: Bridge, listener4: Listener) -> None:
    ends = []
    for _ in range(30):
        end, host = await opened(bridge, listener4)
        end.transport.pause_reading()
        host.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                host.send(bytes(1 << 20))
        end.transport.write(bytes(1 << 20))
        ends.append(end)
    before = -1
    while before != sum(flow.bytes_up + flow.bytes_down for flow in bridge.forwarder._flows):
        before = sum(flow.bytes_up + flow.bytes_down for flow in bridge.forwarder._flows)
        await settle()
    assert bridge.forwarder.held <= 30 * 1460
    assert bridge.stack.tcp.budget.used <= 30 * (65536 + 256)
    for end in ends:
        end.transport.abort()
    await bridge.nothing_left()


async def test_small_windows_are_not_filled_with_crumbs(
    bridge: Bridge, listener4: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sender's silly-window avoidance: no tiny segment at the end of each window (RFC 9293, section 3.8.6.2.1)."""
    end, host = await opened(bridge, listener4)
    (flow,) = bridge.stack.tcp.flows.values()
    sizes: list[int] = []
    write = Flow.write

    def spy(self: Flow, data: bytes) -> None:
        if self is flow:
            sizes.append(len(data))
        write(self, data)

    monkeypatch.setattr(Flow, "write", spy)
    flow.connection.sender.wnd = 8_300  # of 65,536 once; of it 8,000 are used and a crumb of 300 is left
    host.send(b"x" * 8_000)
    await until(lambda: sizes)
    host.send(b"y" * 3_000)
    await until(lambda: len(end.data) == 11_000)
    assert sizes == [8_000, 3_000]
    end.transport.close()
    host.close()
    await bridge.nothing_left()


# -- many


async def test_200_flows_at_once_carry_what_they_should(bridge: Bridge, listener4: Listener) -> None:
    async def serve() -> None:
        """Answer what comes with its digest and its reverse."""
        async def one(host: socket.socket) -> None:
            data = await read_all(host)
            await bridge.loop.sock_sendall(host, hashlib.sha256(data).digest() + data[::-1])
            host.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(200):
                group.create_task(one(await listener4.accept()))

    async def ask(number: int) -> None:
        data = random.Random(number).randbytes(random.Random(number).randrange(1, 60_000))
        reader, writer = await bridge.codespace.open_connection(listener4.host, listener4.port)
        writer.write(data)
        writer.write_eof()
        assert await reader.readexactly(32) == hashlib.sha256(data).digest()
        assert await reader.read() == data[::-1]
        writer.close()
        await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        group.create_task(serve())
        for number in range(200):
            group.create_task(ask(number))
    assert bridge.counters.connected == 200
    assert bridge.counters.resets_up == bridge.counters.resets_down == 0
    await bridge.nothing_left()


@pytest.mark.parametrize("where", ["black hole", "open"])
async def test_a_thousand_syns_each_taken_back_leave_nothing(
    bridge: Bridge, listener4: Listener, where: str
) -> None:
    before = open_descriptors()
    source, destination = packed("198.18.0.2"), packed("127.0.0.1")
    with black_hole() as (_, hole):
        inside = open_descriptors()
        port = hole if where == "black hole" else listener4.port
        for number in range(1000):
            writer = HeaderWriter(source, 10_000 + number, destination, port, offload=True)
            bridge.there.send(writer.write(7, 0, SYN, 65535, emit_syn_options(1460, 7), b"", 1460))
            if number % 3:  # in the same burst, or a moment later
                await asyncio.sleep(0)
            bridge.there.send(writer.write(8, 0, RST, 0, b"", b"", 1460))
            if not number % 50:
                await settle()
        await settle()
        await until(lambda: not len(bridge.forwarder))
        # On a busy machine a few are taken back while they wait for their turn.
        assert 500 < bridge.counters.connects <= 1000
        assert bridge.counters.cancelled + bridge.counters.resets_up == bridge.counters.connects
        assert open_descriptors() <= inside
    assert open_descriptors() <= before
    await bridge.nothing_left()


async def test_ports_used_again_at_once_leave_no_flow_behind() -> None:
    """The host closes first, so our side is in TIME-WAIT when the codespace's client takes the same port again."""
    bridge = Bridge(Limits(), Policy(ALLOW_LOOPBACK), time_wait=3600)
    listener = Listener()
    for number in range(5):
        end = await connected(bridge, listener.host, listener.port, source_port=50_000)
        host = await listener.accept()
        host.close()
        await until(lambda end=end: end.eof)  # type: ignore[misc]
        end.transport.close()
        await until(lambda end=end: end.lost)  # type: ignore[misc]
        await until(lambda: not bridge.codespace.tcp.flows)
        assert len(bridge.forwarder) == len(bridge.table) == len(bridge.stack.tcp.flows) == 1, number
    listener.close()
    await bridge.close()


# -- limits


async def test_one_destination_cannot_take_all_places(limits: Limits) -> None:
    bridge = Bridge(Limits(tcp_half_open_per_destination=5), Policy(ALLOW_LOOPBACK))
    listener = Listener()
    with black_hole() as (_, port):
        openings = [
            asyncio.ensure_future(bridge.codespace.open_connection("127.0.0.1", port)) for _ in range(8)
        ]
        await until(lambda: len(bridge.forwarder) == 8)  # nobody can say yet that they lead nowhere
        _, writer = await bridge.codespace.open_connection("127.0.0.1", listener.port)  # a living port there
        writer.transport.abort()
        await until(lambda: bridge.counters.dropped_half_open >= 3, 5)  # a second later it is clear
        assert not any(opening.done() for opening in openings)
        live = asyncio.ensure_future(bridge.codespace.open_connection("127.0.0.9", closed_port()))
        with pytest.raises(ConnectionRefusedError):  # another: at once
            await live
        for opening in openings:
            opening.cancel()
        await asyncio.wait(openings)
    listener.close()
    await bridge.close()


async def test_a_full_table_drops_syns_and_takes_them_when_there_is_room(limits: Limits) -> None:
    bridge = Bridge(limits, Policy(ALLOW_LOOPBACK), budget=2)
    listener = Listener()
    first = await opened(bridge, listener)
    await opened(bridge, listener)
    third = asyncio.ensure_future(bridge.codespace.open_connection(listener.host, listener.port))
    await until(lambda: bridge.counters.dropped_flows == 1)
    assert not third.done()
    first[0].transport.abort()
    await until(lambda: len(bridge.forwarder) == 1)
    _, writer = await third  # the codespace's next SYN, a second later
    writer.transport.abort()
    listener.close()
    await bridge.close()


def test_running_out_of_descriptors(tmp_path: Any) -> None:
    """Connects beyond 64 descriptors are silence and a count, those that are open go on, and nothing dies."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent("""
        import asyncio, resource, socket, sys
        import uvloop

        async def main():
            from netbridge.bridge.forward.limits import Limits
            from netbridge.bridge.forward.policy import Policy
            from tests.bridge.forward.bridge import Bridge, Listener, opened
            from tests.bridge.forward.fakes import ALLOW_LOOPBACK, until
            bridge = Bridge(Limits(), Policy(ALLOW_LOOPBACK))
            listener = Listener()
            first, host = await opened(bridge, listener)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            tasks = [
                asyncio.ensure_future(bridge.codespace.open_connection("127.0.0.1", listener.port)) for _ in range(100)
            ]
            await until(lambda: bridge.counters.dropped_error > 0)
            await until(lambda: bridge.counters.connected + bridge.counters.dropped_error >= 101)
            dropped = bridge.counters.dropped_error
            first.transport.write(b"still here")
            assert await bridge.loop.sock_recv(host, 100) == b"still here"
            done = [task for task in tasks if task.done()]
            assert 10 < len(done) < 60, len(done)
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, tuple):
                    result[1].transport.abort()
            await until(lambda: len(bridge.forwarder) == 1)
            listener.socket.close()
            listener = Listener()
            again, _ = await opened(bridge, listener)  # there is room again
            await bridge.close()
            print("dropped", dropped)

        asyncio.Runner(loop_factory=uvloop.new_event_loop if "uvloop" in sys.argv else None).run(main())
    """))
    root = os.path.dirname(os.path.abspath(__file__)).partition("/tests/")[0]
    for loop in ("asyncio", "uvloop"):
        result = subprocess.run(
            [sys.executable, str(script), loop], check=False, capture_output=True, text=True, timeout=60,
            env=os.environ | {"PYTHONPATH": f"{root}/src:{root}"},
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert int(result.stdout.split()[1]) > 30, result.stdout


# -- the end of it all


async def test_closing_the_forwarder_resets_both_sides_and_drops_what_connects(
    bridge: Bridge, listener4: Listener
) -> None:
    end, host = await opened(bridge, listener4)
    with black_hole() as (_, port):
        opening = asyncio.ensure_future(bridge.codespace.open_connection("127.0.0.1", port))
        await until(lambda: len(bridge.forwarder) == 2)
        bridge.forwarder.close()
        bridge._check()
        await until(lambda: end.lost)
        assert isinstance(end.lost[0], ConnectionResetError)
        with pytest.raises(ConnectionResetError):
            await bridge.loop.sock_recv(host, 1)
        await settle()
        assert not opening.done()
        opening.cancel()
        await asyncio.wait([opening])
    bridge.forwarder.close()  # a second one is nothing


async def test_the_end_of_the_stack_ends_every_flow(bridge: Bridge, listener4: Listener) -> None:
    _, host = await opened(bridge, listener4)
    with black_hole() as (_, port):
        opening = asyncio.ensure_future(bridge.codespace.open_connection("127.0.0.1", port))
        await until(lambda: len(bridge.forwarder) == 2)
        bridge.stack.close()
        bridge._check()
        assert bridge.counters.cancelled == 1
        with pytest.raises(ConnectionResetError):
            await bridge.loop.sock_recv(host, 1)
        with pytest.raises(ConnectionError):
            await opening


async def test_the_table_shows_the_flow(bridge: Bridge, listener4: Listener) -> None:
    end, host = await opened(bridge, listener4)
    host.send(b"12345")
    await until(lambda: end.data)
    (shown,) = bridge.table.snapshot(bridge.loop.time())["flows"]
    assert shown["protocol"] == "tcp"
    assert shown["destination"] == f"127.0.0.1:{listener4.port}"
    assert (shown["state"], shown["bytes_down"]) == ("open", 5)
    end.transport.abort()
    await bridge.nothing_left()
