"""Segments as bytes, made and read without the stack under test.

Sequence numbers in a script are relative to each side's initial one. What comes back is normalised: the host's ISN, its
timestamps and the size of its window are its own business; whether the window is closed, and all else, is not.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from netbridge.stack.checksum import checksum
from netbridge.stack.vnet import NO_OFFLOAD, VNET_LEN

MASK = 0xFFFF_FFFF
LETTERS = "FSRPAUEC"
FIN, SYN, RST, PSH, ACK, ECE, CWR = 1, 2, 4, 8, 16, 64, 128
TCP, ICMP, ICMPV6 = 6, 1, 58
_TCP = struct.Struct("!HHIIBBHHH")


@dataclass(frozen=True, slots=True)
class Raw:
    """A segment as it came from the host under test."""

    source_port: int
    destination_port: int
    seq: int
    ack: int
    flags: int
    window: int
    options: bytes
    payload: bytes
    mark: int
    """The ECN field of its IP header."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A segment the host sent, in the script's terms; two stacks' replies are compared by `==`."""

    flags: str
    """Letters of the flags, PSH left out: where to push is the sender's taste."""
    seq: int
    ack: int | None
    payload: bytes
    closed: bool
    """Whether the window is shown as closed."""
    options: tuple[tuple[object, ...], ...]
    mark: int = 0
    """The ECN field of the IP header: 0, or 2 for ECT(0)."""

    def __str__(self) -> str:
        words = [self.flags, f"seq {self.seq}"]
        words += [] if self.ack is None else [f"ack {self.ack}"]
        words += [f"len {len(self.payload)}"] if self.payload else []
        words += ["window closed"] if self.closed else []
        words += [f"mark {self.mark}"] if self.mark else []
        return " ".join(words + [" ".join(map(str, option)) for option in self.options])


def numbers(letters: str) -> int:
    """The flags' bits."""
    return sum(1 << LETTERS.index(letter) for letter in letters)


def packet(source: str, destination: str, protocol: int, body: bytes, mark: int = 0) -> bytes:
    """An IP packet behind an empty virtio_net_hdr; the transport checksum at `body`'s usual place is filled in.

    `mark`: its ECN field.
    """
    one, other = ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed
    at = 16 if protocol == TCP else 2
    pseudo = b"" if protocol == ICMP else one + other + struct.pack("!II", len(body), protocol)
    value = checksum(pseudo + body)
    body = body[:at] + struct.pack("!H", value) + body[at + 2 :]
    if len(one) == 16:
        return NO_OFFLOAD + struct.pack("!IHBB", 6 << 28 | mark << 20, len(body), protocol, 64) + one + other + body
    header = struct.pack("!BBHHHBBH", 0x45, mark, 20 + len(body), 0, 0x4000, 64, protocol, 0) + one + other
    return NO_OFFLOAD + header[:10] + struct.pack("!H", checksum(header)) + header[12:] + body


def segment(ports: tuple[int, int], seq: int, ack: int, flags: int, window: int, options: bytes, data: bytes) -> bytes:
    """A TCP segment without its checksum; options are padded to whole words."""
    options += bytes(-len(options) % 4)
    return _TCP.pack(*ports, seq & MASK, ack & MASK, (20 + len(options)) << 2, flags, window, 0, 0) + options + data


def echo_request(version: int, number: int) -> bytes:
    """An ICMP echo request without its checksum."""
    return struct.pack("!BBHHH", 8 if version == 4 else 128, 0, 0, 7, number & 0xFFFF)


def dissect(data: bytes) -> Raw | int | None:
    """A segment, the number of an echo reply, or None for anything else."""
    ip = data[VNET_LEN:]
    version4 = ip[0] >> 4 == 4
    protocol, at = (ip[9], (ip[0] & 15) * 4) if version4 else (ip[6], 40)
    body = ip[at:]
    if protocol == TCP:
        source, destination, seq, ack, offset, flags, window, _, _ = _TCP.unpack_from(body)
        end = offset >> 4 << 2
        mark = (ip[1] if version4 else ip[1] >> 4) & 3
        return Raw(source, destination, seq, ack, flags, window, body[20:end], body[end:], mark)
    if (protocol, body[0]) in ((ICMP, 0), (ICMPV6, 129)):
        return int.from_bytes(body[6:8], "big")
    return None


def options_of(options: bytes, peer_isn: int) -> tuple[tuple[tuple[object, ...], ...], int | None]:
    """Options as words, paddings left out, and the host's own timestamp; of ours only the echo is compared."""
    found: list[tuple[object, ...]] = []
    stamp = None
    at = 0
    while at < len(options) and options[at]:
        if options[at] == 1:
            at += 1
            continue
        kind, body = options[at], options[at + 2 : at + options[at + 1]]
        at += options[at + 1]
        if kind == 5:
            edges = [(edge - peer_isn) & MASK for (edge,) in struct.iter_unpack("!I", body)]
            found.append(("sack", *edges))
        elif kind == 8:
            stamp, echo = struct.unpack("!II", body)
            found.append(("timestamp", echo))
        elif kind == 2:
            found.append(("mss", *struct.unpack("!H", body)))
        else:
            found.append(({3: "wscale", 4: "sack-permitted"}.get(kind, kind),))
    return tuple(found), stamp
