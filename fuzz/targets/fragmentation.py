"""What we cut into fragments comes together as it was, through the parsers, in any order; cut short it never does."""

from __future__ import annotations

from fuzz.prefixes import refused_or_read
from netbridge.stack import fragments, ipv4, ipv6
from netbridge.stack.errors import WireError
from netbridge.stack.fragments import Reassembler
from netbridge.stack.packet import Fragment, IpPacket

ENDS = {4: (b"\x0a\0\0\1", b"\x0a\0\0\2"), 6: (bytes(15) + b"\1", bytes(15) + b"\2")}
LEAST = {4: 68, 6: 1280}


def _read(data: bytes | memoryview) -> IpPacket | Fragment:
    if data and data[0] >> 4 == 6:
        return ipv6.parse(memoryview(data), checksum_trusted=False)
    return ipv4.parse(memoryview(data), checksum_trusted=False)


def run(data: bytes) -> object:
    """Version and marks, protocol, MTU, length (2), time to live; then how the fragments come: each byte picks one."""
    head, order = data[:6].ljust(6, b"\0"), data[6:]
    version = 6 if head[0] & 1 else 4
    protocol = 253 if head[1] in ipv6.EXTENSIONS else head[1]
    transport = bytes(index * 7 + (index >> 8) & 255 for index in range(max(head[3] << 8 | head[4], 8) % 20_000))
    mtu = LEAST[version] + head[2] * 6
    sent = fragments.fragment(version, *ENDS[version], protocol, transport, mtu, ttl=head[5] or 1, tos=0)
    assert all(len(packet) <= mtu for packet in sent)
    waiting = [_marked(packet, head[0] >> 1 & 3, (head[0] >> 3) == number) for number, packet in enumerate(sent)]
    if len(waiting) == 1:
        refused_or_read(waiting[0], _read)
    reassembler, came, now = Reassembler(), set[int](), 0.0
    for byte in order:
        if not waiting:
            break
        number = byte % len(waiting)
        came.add(number)
        if byte & 0x80 and len(waiting[number]) > 60:
            _cut_short(reassembler, waiting[number])
            continue
        now += 0.1
        try:
            whole = reassembler.add(_fragment(waiting[number]), now)
        except WireError as error:
            if head[0] >> 1 & 3 == fragments.CE:
                return "a mark that may not be"
            raise AssertionError(error) from error
        if whole is None:
            continue
        assert len(came) == len(sent)
        assert (whole.source, whole.destination, whole.protocol) == (*ENDS[version], protocol)
        assert whole.payload == transport
        assert not whole.dont_fragment
        assert repr(whole).startswith("<IpPacket")
        return version, "whole", min(len(sent), 3), whole.tos
    counters = reassembler.counters
    return version, "in pieces", bool(counters.contradicting), bool(counters.too_many), bool(counters.after_drop)


def _fragment(packet: bytes) -> Fragment:
    """The packet as a fragment; a datagram in one piece (atomic) is none, and is given as the whole it is."""
    parsed = _read(packet)
    if isinstance(parsed, Fragment):
        return parsed
    # One that needed no cutting: pretend that it is the first and last piece.
    return Fragment(
        parsed.version, (parsed.source, parsed.destination, 0, 0), parsed.protocol, 0, parsed.packet,
        parsed.packet[: 20 if parsed.version == 4 else 40], parsed.payload,
        more=False, link_offset=6 if parsed.version == 6 else 0, checksum_trusted=False,
    )


def _cut_short(reassembler: Reassembler, packet: bytes) -> None:
    """The fragment, cut: the parser refuses it, so that the reassembler never sees it."""
    held = reassembler.bytes_held
    try:
        _read(packet[:-1])
    except WireError:
        assert reassembler.bytes_held == held
        return
    raise AssertionError("a fragment that was cut was taken")


def _marked(packet: bytes, ecn: int, here: bool) -> bytes:
    """A router has set the ECN bits of one fragment."""
    if not here or not ecn:
        return packet
    changed = bytearray(packet)
    if packet[0] >> 4 == 6:
        changed[1] |= ecn << 4
    else:
        changed[1] |= ecn
        changed[10:12] = b"\0\0"
        total = sum(int.from_bytes(changed[at : at + 2], "big") for at in range(0, 20, 2))
        changed[10:12] = (0xFFFF ^ (total % 0xFFFF or 0xFFFF)).to_bytes(2, "big")
    return bytes(changed)
