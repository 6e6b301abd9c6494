"""Reassembly (RFC 791 section 3.2, RFC 8200 section 4.5) and fragmentation.

Reassembly is where stacks die of hostile input, so everything here is bounded: bytes in all, pieces a datagram,
time. The rules, with what they are against:

- Any overlap that is not an exact duplicate drops the datagram and all that still comes of it (RFC 5722; Linux does
  the same for IPv4): overlaps exist only to sneak past filters.
- No more than MAX_FRAGMENTS pieces, kept sorted, so that inserting is a bisection (FragmentSmack, CVE-2018-5391).
- What one datagram costs includes a fixed share for bookkeeping, so that empty-ish datagrams exhaust the budget too;
  when it is spent the oldest datagrams go first, down to 3/4 of it.
- A piece that would end beyond 65,535 bytes is refused by the parsers (the "ping of death").

The rebuilt datagram goes through the parser again, so nothing in it was checked less than a whole one is. Time is an
argument: `now` is monotonic seconds.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from os import urandom

from . import ipv4, ipv6
from .checksum import checksum
from .errors import WireError
from .packet import Buffer, Fragment, IpPacket

TIMEOUT = 30.0
"""Seconds from a datagram's first piece; RFC 1122 asks for 60 to 120, Linux uses 30, and a link reorders nothing."""
MAX_BYTES = 4 << 20
LOW_BYTES = 3 << 20
CE = 3
"""The ECN codepoint "congestion experienced" (RFC 3168, section 5)."""
MAX_FRAGMENTS = 64
"""A 64 KiB datagram at 1,280 bytes a piece comes in 53."""
OVERHEAD = 512
"""Bytes charged for a datagram's and for each piece's bookkeeping."""


class _Datagram:
    """One datagram under reassembly; `starts` and `pieces` run in parallel, sorted."""

    __slots__ = (
        "cost", "deadline", "dropped", "ecn", "first", "header", "link_offset", "pieces", "protocol", "starts", "total",
        "trusted",
    )

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.cost = OVERHEAD
        self.dropped = False
        """Overlapped once: stays as a tombstone until its time is up."""
        self.starts: list[int] = []
        self.pieces: list[bytes] = []
        self.total = -1
        """Bytes of the fragmentable part, once the last piece came."""
        self.first = b""
        """The piece at offset 0 with its IP header, as it came."""
        self.header = b""
        self.link_offset = 0
        self.protocol = 0
        self.trusted = True
        self.ecn = 0
        """A bit for each ECN codepoint that a piece bears (RFC 3168, section 5.3)."""

    def complete(self) -> bool:
        """Nothing overlaps, so all bytes are there when they add up."""
        return self.total >= 0 and self.first != b"" and sum(map(len, self.pieces)) == self.total


@dataclass(slots=True)
class FragmentCounters:
    """What became of datagrams in pieces, and of each piece."""

    begun: int = 0
    """Datagrams of which a first piece came."""
    reassembled: int = 0
    """Datagrams put together, and delivered as packets."""
    unfit: int = 0
    """Datagrams put together that no packet may be: too long, malformed, or marked as congested by mistake."""
    contradicting: int = 0
    """Datagrams dropped because their fragments overlapped or contradicted each other."""
    too_many: int = 0
    """Datagrams dropped because they came in too many fragments."""
    evicted: int = 0
    """Datagrams dropped because the memory for all of them was used up."""
    expired: int = 0
    """Datagrams dropped because the rest did not come in time, or before the stack closed."""
    merged: int = 0
    """Fragments of datagrams that were put together."""
    repeated: int = 0
    """Fragments that were there already; dropped."""
    lost: int = 0
    """Fragments that were dropped with their datagram."""
    after_drop: int = 0
    """Fragments of datagrams that had been dropped already."""


class Reassembler:
    """Puts fragments of both versions together."""

    def __init__(self, *, max_bytes: int = MAX_BYTES, timeout: float = TIMEOUT) -> None:
        self.max_bytes = max_bytes
        self.low_bytes = max_bytes * 3 // 4
        self.timeout = timeout
        self.bytes_held = 0
        """What all unfinished datagrams cost now."""
        self.counters = FragmentCounters()
        self._datagrams: dict[tuple[bytes, bytes, int, int], _Datagram] = {}  # oldest first, so by deadline

    def __len__(self) -> int:
        return len(self._datagrams)

    @property
    def pieces(self) -> int:
        """Fragments that wait for the rest of their datagrams."""
        return sum(len(datagram.pieces) for datagram in self._datagrams.values())

    @property
    def unfinished(self) -> int:
        """Datagrams that wait for their rest; those that were dropped and are only remembered do not count."""
        return sum(not datagram.dropped for datagram in self._datagrams.values())

    def add(self, fragment: Fragment, now: float) -> IpPacket | None:
        """Take one fragment; the whole packet when it was the last missing one.

        The packet's views are of fresh memory and stay valid. Raises WireError when the rebuilt packet is malformed.
        """
        datagram = self._datagrams.get(fragment.key)
        if datagram is None:
            datagram = self._datagrams[fragment.key] = _Datagram(now + self.timeout)
            self.bytes_held += OVERHEAD
            self.counters.begun += 1
        elif datagram.dropped:
            self.counters.after_drop += 1
            return None
        if not self._insert(datagram, fragment):
            return None
        if datagram.complete():
            self._remove(fragment.key, datagram)
            self.counters.merged += len(datagram.pieces)
            try:
                whole = _rebuild(fragment.version, datagram)
            except WireError:
                self.counters.unfit += 1
                raise
            self.counters.reassembled += 1
            return whole
        if self.bytes_held > self.max_bytes:
            self._evict()
        return None

    def _insert(self, datagram: _Datagram, fragment: Fragment) -> bool:
        start = fragment.offset
        data = bytes(fragment.payload)
        end = start + len(data)
        index = bisect_right(datagram.starts, start)
        if index and datagram.starts[index - 1] == start and datagram.pieces[index - 1] == data:
            # A duplicate of the last piece, or of one whose "more" bit it contradicts?
            if fragment.more != (end == datagram.total):
                self.counters.repeated += 1
                return False
            self.counters.contradicting += 1
            self._drop(datagram)
            return False
        if (
            (index and datagram.starts[index - 1] + len(datagram.pieces[index - 1]) > start)
            or (index < len(datagram.starts) and datagram.starts[index] < end)
            or (datagram.total >= 0 and (end > datagram.total or not fragment.more))
            or (not fragment.more and datagram.starts and index < len(datagram.starts))
        ):
            self.counters.contradicting += 1
            self._drop(datagram)
            return False
        if len(datagram.starts) >= MAX_FRAGMENTS:
            self.counters.too_many += 1
            self._drop(datagram)
            return False
        datagram.starts.insert(index, start)
        datagram.pieces.insert(index, data)
        datagram.trusted &= fragment.checksum_trusted
        datagram.ecn |= 1 << _ecn(fragment)
        if not fragment.more:
            datagram.total = end
        cost = len(data) + OVERHEAD
        if start == 0:
            datagram.first = bytes(fragment.packet)
            datagram.header = bytes(fragment.header)
            datagram.link_offset = fragment.link_offset
            datagram.protocol = fragment.protocol
            cost += len(datagram.first)
        datagram.cost += cost
        self.bytes_held += cost
        return True

    def _drop(self, datagram: _Datagram) -> None:
        """Forget what came of a datagram, the piece in hand too, and leave a tombstone for what is still to come."""
        self.counters.lost += len(datagram.pieces) + 1
        self.bytes_held -= datagram.cost - OVERHEAD
        datagram.cost = OVERHEAD
        datagram.dropped = True
        datagram.first = datagram.header = b""
        datagram.starts.clear()
        datagram.pieces.clear()

    def _remove(self, key: tuple[bytes, bytes, int, int], datagram: _Datagram) -> None:
        del self._datagrams[key]
        self.bytes_held -= datagram.cost

    def _evict(self) -> None:
        while self.bytes_held > self.low_bytes:
            key = next(iter(self._datagrams))
            datagram = self._datagrams[key]
            self._remove(key, datagram)
            self.counters.evicted += not datagram.dropped
            self.counters.lost += len(datagram.pieces)

    def next_timeout(self) -> float | None:
        """When `expire` has something to do, or None."""
        for datagram in self._datagrams.values():
            return datagram.deadline
        return None

    def expire(self, now: float) -> list[bytes]:
        """Drop what is too old; the first fragments of those datagrams whose sender is to be told (RFC 792)."""
        told = []
        while self._datagrams:
            key = next(iter(self._datagrams))
            datagram = self._datagrams[key]
            if datagram.deadline > now:
                break
            self._remove(key, datagram)
            self.counters.lost += len(datagram.pieces)
            if not datagram.dropped:
                self.counters.expired += 1
                if datagram.first:
                    told.append(datagram.first)
        return told


def _ecn(fragment: Fragment) -> int:
    """The ECN codepoint: Not-ECT 0, ECT 1 and 2, CE 3."""
    second = fragment.packet[1]
    return second & 3 if fragment.version == 4 else second >> 4 & 3


def _rebuild(version: int, datagram: _Datagram) -> IpPacket | None:
    header = bytearray(datagram.header)
    if datagram.ecn & 1 << CE:
        # A mark on one piece is a mark on the whole; on one whose sender would not understand it, it is a loss.
        if datagram.ecn & 1:
            raise WireError("congestion experienced by a datagram that may not be marked")
        header[1] |= CE if version == 4 else CE << 4
    length = len(header) + datagram.total
    if version == 4:
        if length > ipv4.MAX_LEN:
            raise WireError("reassembled IPv4 packet is too long")
        header[2:4] = length.to_bytes(2, "big")
        header[6:8] = header[10:12] = b"\0\0"
        header[10:12] = checksum(header).to_bytes(2, "big")
    else:
        length -= ipv6.HEADER_LEN
        if length > ipv6.MAX_PAYLOAD:
            raise WireError("reassembled IPv6 packet is too long")
        header[4:6] = length.to_bytes(2, "big")
        header[datagram.link_offset] = datagram.protocol
    packet = memoryview(b"".join((header, *datagram.pieces)))
    parse = ipv4.parse if version == 4 else ipv6.parse
    whole = parse(packet, checksum_trusted=datagram.trusted)
    if isinstance(whole, Fragment):
        raise WireError("fragment inside a fragment")
    whole.dont_fragment = False  # it was fragmented; only IPv4's header could say so
    return whole


def fragment(
    version: int, source: bytes, destination: bytes, protocol: int, transport: Buffer, mtu: int, *, ttl: int, tos: int,
) -> list[bytes]:
    """`transport` (header and payload, checksum complete) as IP fragments of at most `mtu` bytes each.

    Identifications are random (RFC 7739): a counter would tell others how much we send. `mtu` is at least 68 for
    IPv4 (RFC 791) and 1280 for IPv6.
    """
    view = memoryview(transport)
    room = mtu - (ipv4.HEADER_LEN if version == 4 else ipv6.HEADER_LEN + ipv6.FRAGMENT_HEADER_LEN) & ~7
    identification = int.from_bytes(urandom(2 if version == 4 else 4), "big")
    packets = []
    for start in range(0, len(view), room):
        piece = view[start : start + room]
        more = start + room < len(view)
        if version == 4:
            header = ipv4.emit_header(
                source, destination, protocol, len(piece), ttl=ttl, tos=tos,
                identification=identification, flags=start >> 3 | (ipv4.MORE_FRAGMENTS if more else 0),
            )
        else:
            header = ipv6.emit_header(
                source, destination, ipv6.FRAGMENT, ipv6.FRAGMENT_HEADER_LEN + len(piece), ttl=ttl, tos=tos,
            ) + ipv6.FRAGMENT_HEADER.pack(protocol, 0, start | more, identification)
        packets.append(header + piece)
    return packets
