"""When more connects are under way than fit, the oldest gives way: a scan of black holes stops nobody."""

from __future__ import annotations

import asyncio
import contextlib

from netbridge.bridge.forward.flows import FlowTable
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.forward.policy import Policy
from netbridge.bridge.forward.poller import Poller
from netbridge.bridge.forward.tcp import TcpForwarder, link_tcp
from netbridge.stack import Stack, TcpConfig, memory_link

from .bridge import black_hole


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
        _, hole = exits.enter_context(black_hole("0.0.0.0"))
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
