"""Packets that lie, and the clients and servers that must not mind.

An error is forged when it quotes what was not sent: a wrong port, address, protocol, identifier or sequence number
(RFC 5927). `Wire` shows a test what really passes a machine's link, so that it can lie about everything but one thing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6Unknown, IPv6
from scapy.packet import Packet, Raw

from tests.world.addresses import SILENT

from .conftest import Through

Inside = Callable[[Callable[[], socket.socket]], socket.socket]

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
NET = {4: (3, 0), 6: (1, 0)}
"""Type and code."""
PORT = {4: (3, 3), 6: (1, 4)}
PROHIBITED = {4: (3, 13), 6: (1, 1)}
TOO_BIG = {4: (3, 4), 6: (2, 0)}
EXPIRED = {4: (11, 0), 6: (3, 0)}
HARD = (NET, PORT, PROHIBITED)
ABSURD = 68
"""Bytes: an MTU that IPv4 knows and no link has (RFC 791); IPv6's least is 1280."""


def ip(version: int, source: str, destination: str) -> Packet:
    return IP(src=source, dst=destination) if version == 4 else IPv6(src=source, dst=destination)


def error(says: dict[int, tuple[int, int]], quoted: Packet, *, mtu: int = 0, by: str = "", at: str = "") -> Packet:
    """An ICMP error about `quoted`, sent `by` the host it went to and to the one it came from unless told otherwise."""
    version = 4 if isinstance(quoted, IP) else 6
    kind, code = says[version]
    to = ip(version, by or quoted.dst, at or quoted.src)
    if version == 4:
        header = ICMP(type=kind, code=code, nexthopmtu=mtu) if kind == 3 else ICMP(type=kind, code=code)
        return to / header / Raw(raw(quoted)[:64])
    return to / ICMPv6Unknown(type=kind, code=code, msgbody=mtu.to_bytes(4, "big") + raw(quoted)[:88])


class Wire:
    """A link as root sees it: every packet that comes in by it, and any packet one likes to send."""

    def __init__(self, inside: Inside, version: int, link: str) -> None:
        self.version = version

        def listening() -> socket.socket:
            found = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons({4: 0x0800, 6: 0x86DD}[version]))
            found.bind((link, {4: 0x0800, 6: 0x86DD}[version]))
            found.settimeout(5)
            return found

        def sending() -> socket.socket:
            return socket.socket(FAMILY[version], socket.SOCK_RAW, socket.IPPROTO_RAW)

        self._ear = inside(listening)
        self._mouth = inside(sending)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ear.close()
        self._mouth.close()

    def hear(self, is_it: Callable[[Packet], bool]) -> Packet:
        """The next packet that is it."""
        while True:
            data = self._ear.recv(65536)
            packet = IP(data) if self.version == 4 else IPv6(data)
            if is_it(packet):
                return packet

    def say(self, *packets: Packet) -> None:
        for packet in packets:
            self._mouth.sendto(raw(packet), (packet.dst, 0))


def lies(packet: Packet) -> list[Packet]:
    """`packet` (UDP or TCP) with one thing wrong in each."""
    version = 4 if isinstance(packet, IP) else 6
    transport = UDP if UDP in packet else TCP
    other = {UDP: TCP, TCP: UDP}[transport]
    ports = {"sport": packet[transport].sport, "dport": packet[transport].dport}
    here, there = packet.src, packet.dst
    same = packet[transport].copy()
    made = [
        ip(version, here, there) / transport(sport=1, dport=ports["dport"]),
        ip(version, here, there) / transport(sport=ports["sport"], dport=ports["dport"] ^ 1),
        ip(version, here, SILENT[version]) / same,
        ip(version, SILENT[version], there) / same,
        ip(version, there, here) / same,
        ip(version, here, there) / other(**ports) / Raw(bytes(20)),
    ]
    if transport is TCP:
        for away in (-(2**31), -100_000, 100_000_000):
            wrong = packet[TCP].copy()
            wrong.seq = (packet[TCP].seq + away) % 2**32
            made.append(ip(version, here, there) / wrong)
    return made


def echo(version: int) -> type[Packet]:
    return ICMP if version == 4 else ICMPv6EchoRequest


def is_request(packet: Packet, to: str) -> bool:
    if packet.dst != to:
        return False
    return ICMPv6EchoRequest in packet if packet.version == 6 else ICMP in packet and packet[ICMP].type == 8


# --- who must not mind ------------------------------------------------------------------------------------------------


def udp_client(through: Through, version: int, server: tuple[str, int]) -> socket.socket:
    client = through.inside(lambda: socket.socket(FAMILY[version], socket.SOCK_DGRAM))
    client.settimeout(5)
    client.connect(server)
    return client


def meet(client: socket.socket, server: socket.socket) -> tuple[str, int]:
    """A question and an answer; who asked, as the server sees it. An error that waits at the client's is raised."""
    client.send(b"question")
    data, peer = server.recvfrom(100)
    assert data == b"question"
    server.sendto(b"answer", peer)
    assert client.recv(100) == b"answer"
    return str(peer[0]), int(peer[1])


def exchange(client: socket.socket, server: socket.socket) -> None:
    """A few hundred kilobytes each way, in pieces that buffers hold: one thread plays both ends."""
    for sender, receiver in ((client, server), (server, client)) * 5:
        data = os.urandom(50_000)
        sender.sendall(data)
        received = bytearray()
        while len(received) < len(data):
            more = receiver.recv(65536)
            assert more, "the connection ended"
            received += more
        assert received == data
