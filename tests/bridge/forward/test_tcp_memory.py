"""What a codespace that shows a huge window and never acknowledges can make this machine hold."""

from __future__ import annotations

import asyncio
import socket

from netbridge.bridge.forward.flows import FlowTable
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.forward.policy import Policy
from netbridge.bridge.forward.poller import Poller
from netbridge.bridge.forward.tcp import TcpForwarder, link_tcp
from netbridge.stack import Stack, memory_link
from netbridge.stack.link.memory import MemoryLink
from netbridge.stack.tcp.output import HeaderWriter
from netbridge.stack.tcp.segment import ACK, SYN, TCP_HEADER, emit_syn_options

CODESPACE = socket.inet_aton("198.18.0.2")
HERE = socket.inet_aton("127.0.0.1")
TCP_AT = 10 + 20


class SilentCodespace:
    """Completes handshakes with the largest window there is, and then says nothing more. A fake, and a hostile one."""

    def __init__(self, link: MemoryLink) -> None:
        self.link = link
        self.received = 0
        link.start(self)

    def connect(self, source_port: int, port: int) -> None:
        self.writer = HeaderWriter(CODESPACE, source_port, HERE, port, offload=True)
        self.link.send(self.writer.write(1000, 0, SYN, 65535, emit_syn_options(1460, 14), b"", 1460))

    def packet_received(self, packet: memoryview) -> None:
        _, _, seq, _, offset, flags, _, _, _ = TCP_HEADER.unpack_from(packet, TCP_AT)
        self.received += len(packet) - TCP_AT - (offset >> 4 << 2)
        if flags & SYN:
            self.link.send(self.writer.write(1001, seq + 1 & 0xFFFFFFFF, ACK, 65535, b"", b"", 1460))

    def burst_ended(self) -> None:
        pass

    def link_ready(self) -> None:
        pass

    def link_lost(self, error: Exception | None) -> None:
        pass


async def test_a_window_is_believed_up_to_a_bound_a_flow_and_in_all() -> None:
    loop = asyncio.get_running_loop()
    limits = Limits(bytes_per_flow=1 << 20, bytes_in_all=3 << 20)
    blob = bytes(8 << 20)

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(blob)
            await writer.drain()
        except OSError:
            pass  # reset at the test's end

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    here, there = memory_link()
    poller = Poller(loop)
    async with server, Stack(here, ["198.18.0.1/30"], tcp=link_tcp(limits)) as stack:
        forwarder = TcpForwarder(stack, poller, Policy(["127.0.0.0/8"]), limits, FlowTable(100), loop)
        codespace = SilentCodespace(there)
        codespace.connect(4000, port)
        await settled(codespace)
        largest = 65536
        assert limits.bytes_per_flow - largest <= codespace.received <= limits.bytes_per_flow
        for number in range(1, 6):
            codespace.connect(4000 + number, port)
            await settled(codespace)
        assert codespace.received <= limits.bytes_in_all + limits.bytes_per_flow + 6 * limits.bytes_per_flow_at_least
        assert 0 < forwarder.held <= codespace.received
        forwarder.close()
        assert forwarder.held == 0
        assert len(poller) == 0
    poller.close()


async def settled(codespace: SilentCodespace) -> None:
    """Until nothing more came for a while."""
    before = -1
    while codespace.received != before or not before:
        before = codespace.received
        await asyncio.sleep(0.05)
