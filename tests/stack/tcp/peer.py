"""A stack on a link that only records, and a peer that sends it exactly the packets a test wants, made by scapy.

What the stack answers is read back by scapy too, so that headers and checksums have an oracle. Sequence numbers are
absolute here; the peer starts at PEER_ISN and the stack's ISN is read from its SYN or SYN-ACK.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import IPv6

from netbridge.stack.link.base import Link
from netbridge.stack.stack import Stack
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.flow import Flow
from netbridge.stack.tcp.request import TcpRequest
from netbridge.stack.vnet import NO_OFFLOAD, VNET_LEN
from tests.stack.fake import CLIENT4, CLIENT6, GATEWAY4, GATEWAY6, SERVER4, SERVER6, RecordingLink, dissect, rebuilt

PEER_ISN = 0xFFFF_FFF0
NEXT = PEER_ISN + 1
"""The peer's sequence number after its SYN."""
ADDRESSES = (f"{GATEWAY4}/30", f"{GATEWAY6}/64")
CLIENT = {4: CLIENT4, 6: CLIENT6}
SERVER = {4: SERVER4, 6: SERVER6}
GATEWAY = {4: GATEWAY4, 6: GATEWAY6}


class User:
    """A `ConnectionUser` that writes down what it is told and takes as much data as it may."""

    def __init__(self) -> None:
        self.data = b""
        self.room = 1 << 60
        self.calls: list[str] = []
        self.error: OSError | None = None
        self.closes = 0

    def connected(self) -> None:
        self.calls.append("connected")

    def data_received(self, data: memoryview) -> int:
        taken = min(len(data), self.room)
        self.room -= taken
        self.data += bytes(data[:taken])
        return taken

    def probed(self, idle: float) -> None:
        pass

    def eof_received(self) -> None:
        self.calls.append("eof")

    def acked(self) -> None:
        pass

    def closed(self, error: OSError | None) -> None:
        self.calls.append("closed")
        self.error = error
        self.closes += 1


class Peer:
    """The stack and the one who talks to it. Use inside a running event loop; `close` at the end."""

    def __init__(
        self, *, version: int = 4, config: TcpConfig | None = None, offload: bool = False, mtu: int = 1500,
        link: Link | None = None, sources: Sequence[str] | None = None,
    ) -> None:
        self.version = version
        self.link = RecordingLink(mtu=mtu, offload=offload)
        # Acknowledgements are delayed from the first on, as later in a connection.
        config = replace(config or TcpConfig(), quick_acks=0)
        self.stack = Stack(link or self.link, ADDRESSES, tcp=config, sources=sources)
        self.stack.start()
        self.tcp = self.stack.tcp
        self.requests: list[TcpRequest] = []
        self.tcp.forward = self.requests.append

    def close(self) -> None:
        self.stack.close()

    # -- saying

    def ip(self, source: str | None = None, destination: str | None = None, *, ttl: int = 64) -> Any:
        """The IP header of a packet from the client to the server, or between the addresses given."""
        source, destination = source or CLIENT[self.version], destination or SERVER[self.version]
        if self.version == 4:
            return IP(src=source, dst=destination, ttl=ttl)
        return IPv6(src=source, dst=destination, hlim=ttl)

    def segment(
        self, flags: str, seq: int, ack: int = 0, data: bytes = b"", *, sport: int = 5000, dport: int = 80,
        window: int = 65535, options: Sequence[Any] = (), source: str | None = None, destination: str | None = None,
        ttl: int = 64,
    ) -> Any:
        tcp = TCP(
            sport=sport, dport=dport, flags=flags, seq=seq & 0xFFFFFFFF, ack=ack & 0xFFFFFFFF, window=window,
            options=list(options),
        )
        return self.ip(source, destination, ttl=ttl) / tcp / data

    def inject(self, *packets: Any, burst_ends: bool = True) -> None:
        """These packets (of scapy, or bytes) arrive in one burst."""
        for packet in packets:
            self.stack.packet_received(memoryview(NO_OFFLOAD + bytes(packet)))
        if burst_ends:
            self.stack.burst_ended()

    def says(self, flags: str, seq: int, ack: int = 0, data: bytes = b"", **more: Any) -> None:
        """A segment arrives, in a burst of its own."""
        self.inject(self.segment(flags, seq, ack, data, **more))

    # -- hearing

    def heard(self) -> list[Any]:
        """What was sent since the last call, as scapy packets; on a link without offload the checksums are verified."""
        packets = []
        for data in self.link.sent:
            packet = dissect(data[VNET_LEN:])
            if not self.link.offload:
                assert data[:VNET_LEN] == NO_OFFLOAD
                assert rebuilt(packet) == data[VNET_LEN:], "a length or checksum is wrong"
            packets.append(packet)
        self.link.sent.clear()
        return packets

    def hears(self, flags: str, seq: int | None = None, ack: int | None = None) -> Any:
        """Exactly one segment was sent, with these flags (PSH does not matter); the TCP layer of it."""
        packets = self.heard()
        assert len(packets) == 1, packets
        segment = packets[0][TCP]
        assert str(segment.flags).replace("P", "") == flags, segment.summary()
        assert seq is None or segment.seq == seq & 0xFFFFFFFF, (segment.seq, seq)
        assert ack is None or segment.ack == ack & 0xFFFFFFFF, (segment.ack, ack)
        return segment

    def hears_icmp(self) -> tuple[int, int]:
        """Exactly one ICMP error was sent: its type and code."""
        packets = self.heard()
        assert len(packets) == 1, packets
        if self.version == 4:
            return packets[0][ICMP].type, packets[0][ICMP].code
        data = bytes(packets[0])
        return data[40], data[41]

    def silent(self) -> None:
        """Nothing was sent."""
        assert self.heard() == []

    # -- states

    def asks(self, **more: Any) -> TcpRequest:
        """A SYN arrives and is held as a request."""
        self.says("S", PEER_ISN, options=[("MSS", 1460), ("NOP", None), ("WScale", 7)], **more)
        return self.requests.pop()

    def syn_received(self, user: User, **more: Any) -> tuple[Flow, int]:
        """A request was accepted; the flow and the stack's ISN. The handshake's last ACK is still to come."""
        flow = self.asks(**more).accept(user)
        return flow, self.hears("SA", ack=PEER_ISN + 1).seq

    def established(self, user: User, *, window: int = 512, **more: Any) -> tuple[Flow, int]:
        """A flow with the handshake done; its next sequence numbers are PEER_ISN + 1 and the returned ISN + 1."""
        flow, isn = self.syn_received(user, **more)
        self.says("A", PEER_ISN + 1, isn + 1, window=window, **more)
        assert user.calls == ["connected"]
        self.silent()
        return flow, isn
