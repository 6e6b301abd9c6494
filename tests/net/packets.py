"""Packets made by hand, put onto a bridge's TUN as if a program with CAP_NET_RAW over there had sent them."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Packet, Raw

from tests.world import Bridge, Machine


def send(machine: Machine, bridge: Bridge, packets: Iterable[Packet | bytes]) -> None:
    """Put `packets` onto the bridge's TUN, past routing table and packet filters."""
    connected = bridge.event("connected")
    assert connected is not None
    name = connected["tun"]
    made = [bytes(packet) for packet in packets]  # which takes longer than sending them

    def inject() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as wire:
            for data in made:
                wire.sendto(data, (name, 0x86DD if data[0] >> 4 == 6 else 0x0800))

    machine.inside(inject)


def source_of(bridge: Bridge, version: int) -> str:
    """The TUN's address over there."""
    connected = bridge.event("connected")
    assert connected is not None
    return str(connected["addresses"][0 if version == 4 else 1]).partition("/")[0]


def each_protocol(source: str, destination: str, port: int, source_port: int = 40000) -> list[Packet]:
    """A SYN, a datagram and an echo request."""
    version = 6 if ":" in destination else 4
    head = IPv6(src=source, dst=destination) if version == 6 else IP(src=source, dst=destination)
    echo = ICMPv6EchoRequest(id=source_port & 0xFFFF, seq=1) if version == 6 else ICMP(id=source_port & 0xFFFF, seq=1)
    return [
        head / TCP(sport=source_port, dport=port, flags="S", seq=1),
        head / UDP(sport=source_port, dport=port) / Raw(b"hello"),
        head / echo / Raw(b"hello"),
    ]
