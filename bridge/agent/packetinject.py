"""Giving the local kernel packets that it takes as incoming, without a network interface of one's own.

Two ways, as tried on Linux 6.18 in a namespace whose processes lacked NET_ADMIN, IPv4 and IPv6:

- **By the device.** A packet sent to `lo` by a packet socket with a virtio_net_hdr arrives there, and the kernel does
  with checksums and super-segments what it does with a TUN's. It is routed like any other that arrives, so its source
  is validated: with IPv4's rp_filter 0 and 2 it is taken, with 1 (strict: the way back to a foreign source is not
  `lo`) it is dropped in silence. IPv6 knows no such filter.
- **By the routes.** A raw IP socket sends to a local address by way of `lo` and takes the route along, so nothing is
  validated. It cannot leave a checksum to the kernel, but `lo` has an MTU of 64 KiB, so a super-segment goes as one
  large packet once it is summed.

So IPv4 goes by the routes where rp_filter is strict, and everything else by the device. Both could also send packets to
other hosts, or in the name of this one. Neither is asked to: the destination must be an address of this host, and the
source must not be.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from typing import Optional, Set

from .netlink import Netlink

SOL_PACKET, PACKET_VNET_HDR = 263, 15
VNET_LEN, LINK_HEADER = 10, 14
NEEDS_CSUM = 1
STRICT = 1
"""net.ipv4.conf.*.rp_filter: RFC 3704's strict reverse path filter."""
LOOK_AGAIN = 1.0
"""Seconds between looks at this host's addresses, at least, when an unknown one is met."""

_VNET = struct.Struct("=BBHHHH")
_NO_MACS = bytes(12)
_ETHER4, _ETHER6 = _NO_MACS + b"\x08\x00", _NO_MACS + b"\x86\xdd"


def reverse_path_filter() -> int:
    """What the kernel applies to packets that arrive on `lo` (ip-sysctl: the maximum of `all` and the interface)."""
    values = [0]
    for name in ("all", "lo"):
        try:
            with open("/proc/sys/net/ipv4/conf/%s/rp_filter" % name, encoding="ascii") as file:
                values.append(int(file.read()))
        except (OSError, ValueError):
            continue
    return max(values)


def summed(packet: bytearray, start: int, offset: int) -> None:
    """Finish the checksum over packet[start:], whose field at start + offset holds the pseudo-header's sum.

    A large integer modulo 65535 is the ones' complement sum (RFC 1071), computed in C. Raises ValueError.
    """
    at = start + offset
    if start < 20 or at + 2 > len(packet):
        raise ValueError("the checksum lies outside the packet")
    data = packet[start:] if (len(packet) - start) % 2 == 0 else packet[start:] + b"\0"
    value = 0xFFFF - int.from_bytes(data, "big") % 0xFFFF
    packet[at] = value >> 8
    packet[at + 1] = value & 0xFF


class Injector:
    """Writes packets as a TUN takes them. Raises OSError when that is not permitted."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._own: Set[bytes] = set()
        self._looked = 0.0
        self._look()
        self._raw: Optional[socket.socket] = None
        self._lo = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        try:
            self._lo.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            self._lo.bind(("lo", 0))
            if reverse_path_filter() == STRICT:
                kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                self._raw = socket.socket(socket.AF_INET, kind, socket.IPPROTO_RAW)
        except BaseException:
            self.close()
            raise

    @property
    def sums(self) -> bool:
        """Whether checksums of IPv4 are computed here."""
        return self._raw is not None

    def close(self) -> None:
        """Close the sockets."""
        self._lo.close()
        if self._raw is not None:
            self._raw.close()

    def _look(self) -> None:
        self._looked = time.monotonic()
        self._own = {info.address.packed for info in self._netlink.addresses()}

    def _is_for_us(self, source: bytes, destination: bytes) -> bool:
        if destination not in self._own and time.monotonic() - self._looked >= LOOK_AGAIN:
            self._look()
        loopback = source[0] == 127 if len(source) == 4 else not any(source[:15])
        return destination in self._own and source not in self._own and not loopback

    def write(self, _descriptor: int, packet: memoryview) -> int:
        """Inject one packet behind its virtio_net_hdr, as os.write does with a TUN. Raises OSError."""
        version = packet[VNET_LEN] >> 4 if len(packet) >= VNET_LEN + 20 else 0
        if version == 4:
            source, destination = bytes(packet[22:26]), bytes(packet[26:30])
        else:
            source, destination = bytes(packet[18:34]), bytes(packet[34:50])
        if version not in (4, 6) or len(destination) not in (4, 16) or not self._is_for_us(source, destination):
            raise OSError(errno.EINVAL, "no packet for this host from another")
        flags, gso, header, gso_size, start, offset = _VNET.unpack_from(packet)
        if self._raw is not None and version == 4:
            return self._write_raw(self._raw, packet[VNET_LEN:], destination, flags, start, offset)
        if flags & NEEDS_CSUM:
            start += LINK_HEADER
        if header:
            header += LINK_HEADER
        ether = _ETHER4 if version == 4 else _ETHER6
        vnet = _VNET.pack(flags, gso, header & 0xFFFF, gso_size, start & 0xFFFF, offset)
        return os.writev(self._lo.fileno(), [vnet, ether, packet[VNET_LEN:]])

    @staticmethod
    def _write_raw(
        raw: socket.socket, packet: memoryview, destination: bytes, flags: int, start: int, offset: int
    ) -> int:
        if not flags & NEEDS_CSUM:
            return raw.sendto(packet, (socket.inet_ntoa(destination), 0))
        whole = bytearray(packet)
        try:
            summed(whole, start, offset)
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from None
        return raw.sendto(whole, (socket.inet_ntoa(destination), 0))
