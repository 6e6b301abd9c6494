"""What the rooms of the stack are tested in: a stack that records, packets as scapy makes them, a fake clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from scapy.layers import inet, inet6
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from netbridge.stack import ipv4, ipv6
from netbridge.stack.ip_output import IpOutput
from netbridge.stack.link.base import Buffer, Link, LinkUser
from netbridge.stack.packet import Fragment, IpPacket
from netbridge.stack.vnet import NO_OFFLOAD, VNET_LEN

GATEWAY4, CLIENT4, SERVER4 = "198.18.0.1", "198.18.0.2", "10.7.0.9"
GATEWAY6, CLIENT6, SERVER6 = "fd6e:6272::1", "fd6e:6272::2", "2001:db8::9"


def raw(packet: Any) -> bytes:
    """The bytes of a scapy packet."""
    return bytes(packet)


def parse(data: bytes, *, trusted: bool = False) -> IpPacket | Fragment:
    """Parse as either version."""
    view = memoryview(data)
    if data[0] >> 4 == 6:
        return ipv6.parse(view, checksum_trusted=trusted)
    return ipv4.parse(view, checksum_trusted=trusted)


def whole(packet: Any, *, trusted: bool = False) -> IpPacket:
    """A scapy packet as the stack sees it."""
    parsed = parse(raw(packet), trusted=trusted)
    assert isinstance(parsed, IpPacket)
    return parsed


class RecordingLink(Link):
    """Keeps what is sent."""

    def __init__(self, *, mtu: int = 1500, offload: bool = False) -> None:
        self.mtu = mtu
        self.offload = offload
        self.sent: list[bytes] = []
        self.is_ready = True
        self.closed = False
        self.user: LinkUser | None = None

    def start(self, user: LinkUser) -> None:
        self.user = user

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        self.sent.append(bytes(header) + bytes(payload))

    @property
    def ready(self) -> bool:
        return self.is_ready

    def close(self) -> None:
        self.closed = True


@dataclass
class RecordingUser:
    """Keeps what is delivered."""

    packets: list[bytes] = field(default_factory=list)
    bursts: int = 0
    readies: int = 0
    lost: list[Exception | None] = field(default_factory=list)

    def packet_received(self, packet: memoryview) -> None:
        self.packets.append(bytes(packet))

    def burst_ended(self) -> None:
        self.bursts += 1

    def link_ready(self) -> None:
        self.readies += 1

    def link_lost(self, error: Exception | None) -> None:
        self.lost.append(error)


class FakeStack:
    """What UDP and ICMP need of a stack, with GATEWAY4 and GATEWAY6 as its own addresses and a clock set by hand."""

    def __init__(self, *, mtu: int = 1500, offload: bool = False) -> None:
        from netbridge.stack.icmp.endpoint import Icmp
        from netbridge.stack.udp.endpoint import Udp

        self.link = RecordingLink(mtu=mtu, offload=offload)
        self.send_ip = IpOutput(self.link).send_ip
        self.time = 0.0
        self.own = {4: packed(GATEWAY4), 6: packed(GATEWAY6)}
        self.icmp = Icmp(self)
        self.udp = Udp(self, self.icmp)

    def now(self) -> float:
        return self.time

    def is_local(self, address: bytes) -> bool:
        return address in self.own.values()

    def gateway(self, version: int) -> bytes | None:
        return self.own.get(version)

    def sent(self) -> list[Any]:
        """Everything sent since the last call, as scapy packets; none of it wanted offload."""
        packets = []
        for data in self.link.sent:
            assert data[:VNET_LEN] == NO_OFFLOAD
            packets.append(dissect(data[VNET_LEN:]))
        self.link.sent.clear()
        return packets


def fragments(packet: Any, size: int = 1500) -> list[bytes]:
    """A scapy packet (of IPv6: with a fragment header) in fragments of at most `size` bytes, as scapy makes them."""
    if packet.version == 4:
        pieces: Any = inet.fragment(packet, size - 20)  # type: ignore[no-untyped-call]
    else:
        pieces = inet6.fragment6(packet, size)  # type: ignore[no-untyped-call]
    return [bytes(piece) for piece in pieces]


def dissect(data: bytes) -> Any:
    """Bytes as a scapy packet."""
    return IPv6(data) if data[0] >> 4 == 6 else IP(data)


def rebuilt(packet: Any) -> bytes:
    """The packet with all its lengths and checksums as scapy computes them: the oracle for ours."""
    again = packet.copy()
    layer = again
    while layer:
        for name in ("chksum", "cksum", "len", "plen"):
            if name in layer.fields:
                del layer.fields[name]
        layer = layer.payload
    return bytes(again)


def packed(address: str) -> bytes:
    """A numeric address as bytes."""
    from socket import AF_INET, AF_INET6, inet_pton

    return inet_pton(AF_INET6 if ":" in address else AF_INET, address)
