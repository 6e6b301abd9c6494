"""The end of every TCP connection that goes over the TUN, told to this kernel before the TUN vanishes.

When a bridge ends in order, the session's stack resets its flows. When it ends without the session (the grace is over,
another bridge takes the place, a signal) nobody would tell the applications: their packets would leave by another route
from an address that is gone, and a read would wait for ever. So the answer that any host gives to a segment of a
connection it does not know is given here, to each segment that waits in the TUN: a reset (RFC 9293, section 3.10.7.1).
Quiet connections are made to say a segment by a SYN, which the kernel answers by a challenge ACK (RFC 5961, section
4.2) that carries the very number a reset must have.
"""

from __future__ import annotations

import ipaddress
import os
import select
import struct
import time
from typing import Iterable, List, NamedTuple, Optional, Set

from .frames import MAX_PACKET, VNET_LEN

FIN, SYN, RST, ACK = 1, 2, 4, 16
TCP = 6
SECONDS = 1.0
"""All of it takes no longer; ten thousand connections take 0.3 s."""
QUIET = 0.05
"""Seconds without a segment after which no more are awaited."""
_TCP = struct.Struct("!HHIIBBHHH")
_OPEN = frozenset(("01", "02", "03", "04", "05", "08", "09", "0B"))
"""States of /proc/net/tcp in which somebody may wait: all but TIME_WAIT, CLOSE and LISTEN."""


class Ends(NamedTuple):
    """One connection: addresses packed."""

    local: bytes
    local_port: int
    remote: bytes
    remote_port: int


def _address(text: str) -> bytes:
    """An address of /proc/net/tcp: words of 32 bits in this machine's byte order."""
    return b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))


def connections(local: Set[bytes]) -> List[Ends]:
    """This kernel's TCP connections from these addresses (proc(5))."""
    found = []
    for name in ("tcp", "tcp6"):
        try:
            with open("/proc/net/" + name, encoding="ascii") as table:
                lines = table.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, here, there, state = line.split()[:4]
            ends = [part.split(":") for part in (here, there)]
            addresses = [_plain(_address(text)) for text, _port in ends]
            if state in _OPEN and addresses[0] in local:
                found.append(Ends(addresses[0], int(ends[0][1], 16), addresses[1], int(ends[1][1], 16)))
    return found


def _plain(address: bytes) -> bytes:
    """The IPv4 address that a socket of IPv6 uses (v4-mapped), else the address itself."""
    return address[12:] if address[:12] == bytes(10) + b"\xff\xff" else address


def _sum(data: bytes) -> int:
    total: int = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def segment(ends: Ends, flags: int, seq: int, ack: int) -> bytes:
    """A segment without data from the connection's remote end, behind an empty virtio_net_hdr."""
    header = _TCP.pack(ends.remote_port, ends.local_port, seq, ack, 5 << 4, flags, 0, 0, 0)
    addresses = ends.remote + ends.local
    check = 0xFFFF ^ _sum(addresses + struct.pack("!II", len(header), TCP) + header)
    header = header[:16] + struct.pack("!H", check) + header[18:]
    if len(ends.local) == 16:
        ip = struct.pack("!IHBB", 6 << 28, len(header), TCP, 64) + addresses
    else:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(header), 0, 0, 64, TCP, 0) + addresses
        ip = ip[:10] + struct.pack("!H", 0xFFFF ^ _sum(ip)) + ip[12:]
    return bytes(VNET_LEN) + ip + header


def answer(packet: memoryview) -> Optional[bytes]:
    """The reset for a packet that this kernel sent; None where none is due."""
    view = packet[VNET_LEN:]
    if len(view) >= 40 and view[0] >> 4 == 4 and view[9] == TCP:
        at, end = (view[0] & 15) * 4, int.from_bytes(view[2:4], "big")
        source, destination = bytes(view[12:16]), bytes(view[16:20])
    elif len(view) >= 60 and view[0] >> 4 == 6 and view[6] == TCP:
        at, end = 40, 40 + int.from_bytes(view[4:6], "big")
        source, destination = bytes(view[8:24]), bytes(view[24:40])
    else:
        return None
    if len(view) < at + 20:
        return None
    source_port, port, seq, ack, offset, flags, _, _, _ = _TCP.unpack_from(view, at)
    ends = Ends(source, source_port, destination, port)
    if flags & RST:
        return None
    if flags & ACK:
        return segment(ends, RST, ack, 0)
    length = end - at - (offset >> 4) * 4 + bool(flags & SYN) + bool(flags & FIN)
    return segment(ends, RST | ACK, 0, (seq + length) & 0xFFFFFFFF)


def reset_all(tun: int, addresses: Iterable[str]) -> None:
    """Reset every connection from these addresses; OSError when the TUN is gone."""
    local = {ipaddress.ip_interface(text).ip.packed for text in addresses}
    buffer = memoryview(bytearray(MAX_PACKET))
    deadline = time.monotonic() + SECONDS
    _drain(tun, buffer, deadline)
    for number, ends in enumerate(connections(local)):
        os.write(tun, segment(ends, SYN, 0, 0))
        if number % 64 == 63:
            _drain(tun, buffer, deadline, wait=0.0)
    _drain(tun, buffer, deadline)


def _drain(tun: int, buffer: memoryview, deadline: float, wait: float = QUIET) -> None:
    """Answer what waits in the TUN, and what comes within `wait` after it."""
    while time.monotonic() < deadline and select.select([tun], [], [], wait)[0]:
        reset = answer(buffer[: os.readv(tun, [buffer])])
        if reset is not None:
            os.write(tun, reset)
