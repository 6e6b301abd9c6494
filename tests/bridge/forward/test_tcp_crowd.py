"""When more connects are under way than fit, the oldest gives way: a scan of black holes stops nobody."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

from netbridge.bridge.forward.flows import FlowTable
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.forward.policy import Policy
from netbridge.bridge.forward.poller import Poller
from netbridge.bridge.forward.tcp import TcpForwarder, link_tcp
from netbridge.stack import Stack, TcpConfig, memory_link


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port on every address of 127/8 that answers no SYN: its listener's queue is full and nobody accepts."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("0.0.0.0", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(8):
            filler = sockets.enter_context(socket.socket())
            filler.settimeout(0.05)
            try:
                filler.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        else:
            raise AssertionError("the queue did not fill")
        yield port


async def test_a_hundred_black_holes_and_then_a_live_host() -> None:
    loop = asyncio.get_running_loop()
    limits = Limits(tcp_half_open=20, tcp_half_open_per_destination=20)
    here, there = memory_link()
    poller = Poller(loop)

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"alive")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        contextlib.AsyncExitStack() as exits, server, Stack(here, ["198.18.0.1/30"], tcp=link_tcp(limits)) as stack,
        Stack(there, ["198.18.0.2/30"], sources=[], tcp=TcpConfig(time_wait=0.1)) as codespace,
    ):
        forwarder = TcpForwarder(stack, poller, Policy(["127.0.0.0/8"]), limits, FlowTable(500), loop)
        hole = exits.enter_context(black_hole())
        lost = [loop.create_task(codespace.open_connection(f"127.0.1.{number}", hole)) for number in range(100)]
        await asyncio.sleep(0)
        reader, writer = await asyncio.wait_for(codespace.open_connection("127.0.0.1", port), 2)
        assert await reader.read() == b"alive"
        writer.close()
        assert forwarder.counters.given_up == 81
        assert len(forwarder) <= limits.tcp_half_open + 1
        for task in lost:
            task.cancel()
        await asyncio.gather(*lost, return_exceptions=True)
        forwarder.close()
        assert len(forwarder) == 0
        assert len(poller) == 0
    poller.close()
