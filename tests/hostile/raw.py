"""Packets as bytes, and the sockets that send them. Made by hand, as scapy takes a second for a few thousand.

Addresses are packed, four bytes or sixteen; every function makes the packet of that IP version with right checksums,
and whoever wants a wrong one changes it afterwards.
"""

from __future__ import annotations

import socket
import struct
from errno import EAGAIN, EINVAL, EMSGSIZE, ENETUNREACH, ENOBUFS, EPERM

ICMP, TCP, UDP, ICMPV6, FRAGMENT = 1, 6, 17, 58, 44
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128

PACKET_VNET_HDR = 15
VNET_HDR = struct.Struct("<BBHHHH")
"""flags, gso_type, hdr_len, gso_size, csum_start, csum_offset: how the kernel hands a packet to a raw socket."""
PACKET_OUTGOING = 4
SOL_PACKET = 263
SO_ATTACH_FILTER = 26
NOT_TAKEN = {ENOBUFS, EAGAIN, EPERM, EINVAL, EMSGSIZE, ENETUNREACH}
"""What a kernel says of a packet that it does not send: its queue is full, or it does not like the packet."""
BAD = b"\xba\xd0"
"""Where a stranger's address differs from the kernel's own: bytes 8 and 9 of the TUN's IPv6 prefix."""


def checksum(data: bytes) -> bytes:
    """The Internet checksum, as it goes on the wire."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def ip(
    source: bytes, destination: bytes, protocol: int, payload: bytes, *, hops: int = 64, tos: int = 0,
    identification: int = 0, fragment: int = 0, options: bytes = b"",
) -> bytes:  # fmt: skip
    """An IP packet. `fragment` (flags and offset, IPv4's field), `identification` and `options` are IPv4's alone."""
    if len(source) == 16:
        head = struct.pack("!IHBB", 6 << 28 | tos << 20, len(payload), protocol, hops)
        return head + source + destination + payload
    words = 5 + len(options) // 4
    total = words * 4 + len(payload)
    head = struct.pack("!BBHHHBB", 0x40 | words, tos, total, identification, fragment, hops, protocol)
    rest = source + destination + options
    return head + checksum(head + b"\0\0" + rest) + rest + payload


def summed(source: bytes, destination: bytes, protocol: int, data: bytes, at: int) -> bytes:
    """`data` with its checksum at `at`, where zeros stand, over the pseudo-header too."""
    right = checksum(source + destination + struct.pack("!II", len(data), protocol) + data)
    return data[:at] + right + data[at + 2 :]


def tcp(
    source: bytes, destination: bytes, ports: tuple[int, int], seq: int, ack: int, flags: int, *, window: int = 65535,
    options: bytes = b"", data: bytes = b"", urgent: int = 0,
) -> bytes:  # fmt: skip
    """A TCP segment, without IP. `options` are padded here."""
    options += bytes(-len(options) % 4)
    offset = (20 + len(options)) << 2
    numbers = seq & 0xFFFFFFFF, ack & 0xFFFFFFFF
    segment = struct.pack("!HHIIBBHHH", *ports, *numbers, offset, flags, window, 0, urgent) + options + data
    return summed(source, destination, TCP, segment, 16)


def udp(source: bytes, destination: bytes, ports: tuple[int, int], data: bytes) -> bytes:
    """A UDP datagram, without IP."""
    return summed(source, destination, UDP, struct.pack("!HHHH", *ports, 8 + len(data), 0) + data, 6)


def icmp(source: bytes, destination: bytes, kind: int, code: int, word: int, data: bytes) -> bytes:
    """An ICMP or ICMPv6 message, without IP. `word` is what stands behind the checksum: MTU, identifier, pointer."""
    message = struct.pack("!BBHI", kind, code, 0, word) + data
    if len(source) == 16:
        return summed(source, destination, ICMPV6, message, 2)
    return message[:2] + checksum(message) + message[4:]


def tcp_packet(
    source: bytes, destination: bytes, ports: tuple[int, int], seq: int, ack: int, flags: int, *, window: int = 65535,
    options: bytes = b"", data: bytes = b"", tos: int = 0,
) -> bytes:  # fmt: skip
    """The same with IP before it."""
    segment = tcp(source, destination, ports, seq, ack, flags, window=window, options=options, data=data)
    return ip(source, destination, TCP, segment, tos=tos)


def udp_packet(source: bytes, destination: bytes, ports: tuple[int, int], data: bytes) -> bytes:
    return ip(source, destination, UDP, udp(source, destination, ports, data))


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


class Mouth:
    """Sends IP packets, and counts what left."""

    def __init__(self) -> None:
        self.packets = self.bytes = self.refused = 0
        """`refused`: what this kernel did not take, mostly as the device's queue was full."""

    def send(self, packet: bytes) -> None:
        try:
            self.put(packet)
        except OSError as error:
            if error.errno not in NOT_TAKEN:
                raise
            self.refused += 1
        else:
            self.packets += 1
            self.bytes += len(packet)

    def put(self, packet: bytes) -> None:
        raise NotImplementedError


class Wire(Mouth):
    """A raw socket on the TUN: what is sent reaches the bridge as it is; of what the bridge sends only what goes to
    strangers is heard, its first bytes at that.
    """

    def __init__(self, tun: str) -> None:
        super().__init__()
        self.tun = tun
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        # the half-word at 32 is that of a stranger's destination, IPv6's destination beginning at 24
        code = struct.pack("HBBI", 0x28, 0, 0, 32) + struct.pack("HBBI", 0x15, 0, 1, int.from_bytes(BAD, "big"))
        code += struct.pack("HBBI", 0x06, 0, 0, 1 << 18) + struct.pack("HBBI", 0x06, 0, 0, 0)
        program = bytearray(code)
        import ctypes

        held = (ctypes.c_char * len(program)).from_buffer(program)
        self.socket.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(code) // 8, ctypes.addressof(held))
        )
        self.socket.bind((tun, 0x0003))  # ETH_P_ALL
        self.socket.setblocking(False)

    def put(self, packet: bytes) -> None:
        protocol = 0x86DD if packet and packet[0] >> 4 == 6 else 0x0800
        self.socket.sendto(bytes(VNET_HDR.size) + packet, (self.tun, protocol))

    def heard(self, most: int = 256) -> list[bytes]:
        """The first bytes of what came to strangers since the last call, `most` packets at a time."""
        found = []
        try:
            for _number in range(most):
                data, (_, _, kind, *_) = self.socket.recvfrom(256)
                if kind != PACKET_OUTGOING:
                    found.append(data[VNET_HDR.size :])
        except BlockingIOError:
            pass
        return found


class Spoof(Mouth):
    """Raw IP sockets of a host in the network: any source, by the routes the host has."""

    def __init__(self) -> None:
        super().__init__()
        self._sockets = {4: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)}
        self._sockets[6] = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        for one in self._sockets.values():
            one.setblocking(False)

    def put(self, packet: bytes) -> None:
        version = packet[0] >> 4
        to = packet[24:40] if version == 6 else packet[16:20]
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        self._sockets[version].sendto(packet, (socket.inet_ntop(family, to), 0))
