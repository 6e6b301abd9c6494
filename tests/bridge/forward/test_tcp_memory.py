"""What a codespace that shows a huge window and does not acknowledge can make this machine hold, and deny to others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from netbridge.bridge.forward.flows import FlowTable
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.forward.policy import Policy
from netbridge.bridge.forward.poller import Poller
from netbridge.bridge.forward.tcp import TcpForwarder, link_tcp
from netbridge.bridge.forward.tcpflow import SHARE, UNPROVEN
from netbridge.stack import Stack, memory_link
from netbridge.stack.link.memory import MemoryLink
from netbridge.stack.tcp.output import HeaderWriter
from netbridge.stack.tcp.segment import ACK, SYN, TCP_HEADER, emit_syn_options
from tests.bridge.forward.fakes import until

CODESPACE = socket.inet_aton("198.18.0.2")
HERE = socket.inet_aton("127.0.0.1")
TCP_AT = 10 + 20


class SilentCodespace:
    """Completes handshakes with the largest window there is, acknowledges the first `takes` bytes of each connection,
    and then says nothing more. A fake, and a hostile one.
    """

    def __init__(self, link: MemoryLink) -> None:
        self.link = link
        self.received = 0
        """Of all connections."""
        self.takes = 0
        self.taken = 0
        """Of the latest one."""
        link.start(self)

    def connect(self, source_port: int, port: int) -> None:
        self.writer = HeaderWriter(CODESPACE, source_port, HERE, port, offload=True)
        self.port = source_port
        self.taken = self.first = 0
        self.link.send(self.writer.write(1000, 0, SYN, 65535, emit_syn_options(1460, 14), b"", 1460))

    def packet_received(self, packet: memoryview) -> None:
        _, port, seq, _, offset, flags, _, _, _ = TCP_HEADER.unpack_from(packet, TCP_AT)
        size = len(packet) - TCP_AT - (offset >> 4 << 2)
        self.received += size
        if port == self.port:
            if flags & SYN:
                self.first = seq + 1
            self.taken = max(self.taken, (seq + size - self.first) & 0xFFFFFFFF if size else 0)  # not what comes again
            if flags & SYN or (size and self.taken <= self.takes):
                self.link.send(self.writer.write(1001, self.first + self.taken, ACK, 65535, b"", b"", 1460))

    def burst_ended(self) -> None:
        pass

    def link_ready(self) -> None:
        pass

    def link_lost(self, error: Exception | None) -> None:
        pass


@asynccontextmanager
async def pouring(limits: Limits, size: int) -> AsyncIterator[tuple[SilentCodespace, TcpForwarder, int]]:
    """A codespace, the forwarder before it, and the port of a server that sends so much to everybody."""
    loop = asyncio.get_running_loop()
    blob = bytes(size)

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(blob)
            await writer.drain()
        except OSError:
            pass  # reset at the test's end

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    here, there = memory_link()
    poller = Poller(loop)
    async with server, Stack(here, ["198.18.0.1/30"], tcp=link_tcp(limits)) as stack:
        forwarder = TcpForwarder(stack, poller, Policy(["127.0.0.0/8"]), limits, FlowTable(100), loop)
        yield SilentCodespace(there), forwarder, server.sockets[0].getsockname()[1]
        forwarder.close()
        assert forwarder.held == 0
        assert len(poller) == 0
    poller.close()


LARGEST = 65536


async def test_a_window_is_believed_up_to_a_bound_a_flow_and_in_all() -> None:
    limits = Limits(bytes_per_flow=1 << 20, bytes_in_all=3 << 20)
    async with pouring(limits, 8 << 20) as (codespace, forwarder, port):
        codespace.takes = 2 << 20
        for number in range(8):
            codespace.connect(4000 + number, port)
            await until(lambda: codespace.taken > codespace.takes)
            await settled(codespace)
            held = codespace.taken - codespace.takes
            assert limits.bytes_per_flow_at_least - LARGEST <= held <= limits.bytes_in_all // SHARE + LARGEST
        assert limits.bytes_in_all // 2 < forwarder.held <= limits.bytes_in_all + LARGEST


async def test_who_acknowledges_nothing_does_not_hold_what_others_need() -> None:
    """Ten windows of a gigabyte, and none of their bytes acknowledged: the eleventh flow has its whole transfer."""
    async with pouring(Limits(bytes_per_flow=1 << 20, bytes_in_all=6 << 20), 8 << 20) as (codespace, forwarder, port):
        for number in range(10):
            codespace.connect(4000 + number, port)
            await settled(codespace)
            assert codespace.taken <= UNPROVEN
        held = forwarder.held
        assert held <= 10 * UNPROVEN
        codespace.takes = 16 << 20
        codespace.connect(5000, port)
        await until(lambda: codespace.taken == 8 << 20 and forwarder.held == held, 20)


async def settled(codespace: SilentCodespace) -> None:
    """Until nothing more came to the latest connection for a while."""
    before = -1
    while codespace.taken != before or not before:
        before = codespace.taken
        await asyncio.sleep(0.1)
