"""Segments that came before their turn (RFC 9293, section 3.10.7.4), bounded in bytes and in gaps.

The blocks are disjoint and sorted by their distance from ``rcv_nxt``; inserting is a binary search. Both bounds exist
because a peer chooses what it sends: many one-byte blocks made other stacks quadratic (CVE-2018-5390).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from .seq import MASK

JOIN_BELOW = 65536
"""Bytes from which a block grows no more: each join copies it."""
MAX_BLOCKS = 2048
"""Whoever overshoots a full queue in slow start loses about every second segment of a window: with 1,448 bytes each and
a window of 6 MB every hole finds its place."""
BLOCK_COST = 128
"""Bytes of memory that a block takes beside its payload; with it, many small ones are charged for what they are."""
MAX_LATEST = 8
"""Twice what one report holds: the last segments often lie in one range."""


class Reassembly:
    """Blocks of payload beyond ``rcv_nxt``."""

    __slots__ = ("_data", "_latest", "_start", "evicted", "size")

    def __init__(self) -> None:
        self._start: list[int] = []
        """Unwrapped start of each block: absolute positions, so that the order survives the wrap."""
        self._data: list[bytes] = []
        self._latest: list[int] = []
        """Where the last few segments lay, the latest first."""
        self.size = 0
        """Bytes held."""
        self.evicted = 0
        """Blocks dropped again because nearer ones needed their place."""

    def __bool__(self) -> bool:
        return bool(self._start)

    def __len__(self) -> int:
        return len(self._start)

    def insert(self, position: int, payload: bytes, limit: int) -> bool:
        """Keep `payload` at the absolute `position`; False when a bound cost some of it, or of what lay farther away.

        Known bytes are not kept twice.
        """
        starts, blocks = self._start, self._data
        self._latest = [position, *self._latest[: MAX_LATEST - 1]]
        at = bisect_left(starts, position)
        if at:
            end = starts[at - 1] + len(blocks[at - 1])
            if end > position:
                payload = payload[end - position :]
                position = end
        # Fill every hole up to the end of the new payload; what already stands stays.
        evicted = self.evicted
        while payload:
            hole = starts[at] - position if at < len(starts) else len(payload)
            piece = payload[:hole]
            if piece:
                if self.size + len(piece) > limit:
                    return False
                self.size += len(piece)
                at = self._place(at, position, piece)
            if at >= len(starts):
                break
            skip = starts[at] + len(blocks[at]) - position
            payload = payload[skip:]
            position += skip
            at += 1
        return self.evicted == evicted

    def _place(self, at: int, position: int, piece: bytes) -> int:
        """Put a piece before index `at`, joined with a block that ends where it starts; the next index to look at."""
        starts, blocks = self._start, self._data
        if at and starts[at - 1] + len(blocks[at - 1]) == position and len(blocks[at - 1]) < JOIN_BELOW:
            blocks[at - 1] += piece
            return at
        if len(starts) >= MAX_BLOCKS:
            # The farthest block goes: what is nearest to rcv_nxt is wanted first.
            self.evicted += 1
            if at >= len(starts):
                self.size -= len(piece)
                return len(starts)
            self.size -= len(blocks.pop())
            starts.pop()
        starts.insert(at, position)
        blocks.insert(at, piece)
        return at + 1

    @property
    def cost(self) -> int:
        """Bytes of memory, about."""
        return self.size + BLOCK_COST * len(self._start)

    def ranges(self, most: int = 1 << 30) -> list[tuple[int, int]]:
        """Up to `most` of what is held, start and end; the range of the latest segment first (RFC 2018, section 4),
        then the nearest.
        """
        starts, blocks = self._start, self._data
        found: list[tuple[int, int]] = []
        for position in self._latest:
            at = bisect_right(starts, position) - 1
            if at >= 0 and position < starts[at] + len(blocks[at]):
                run = self._run(at)
                if run not in found:
                    found.append(run)
        at = 0
        while at < len(starts) and len(found) < most:
            run = self._run(at)
            if run not in found:
                found.append(run)
            at = bisect_left(starts, run[1], at)
        return found[:most]

    def repeated(self, position: int, length: int) -> tuple[int, int] | None:
        """The first run of what is held among the `length` bytes from `position` on."""
        starts, blocks = self._start, self._data
        at = bisect_right(starts, position) - 1
        if at < 0 or starts[at] + len(blocks[at]) <= position:
            at += 1
        if at >= len(starts) or starts[at] >= position + length:
            return None
        start, end = self._run(at)
        return max(start, position), min(end, position + length)

    def _run(self, at: int) -> tuple[int, int]:
        """The range that block `at` is part of."""
        starts, blocks = self._start, self._data
        first = last = at
        while first and starts[first - 1] + len(blocks[first - 1]) == starts[first]:
            first -= 1
        while last + 1 < len(starts) and starts[last] + len(blocks[last]) == starts[last + 1]:
            last += 1
        return starts[first], starts[last] + len(blocks[last])

    def take(self, position: int) -> bytes | None:
        """The block that continues at the absolute `position`, or None."""
        while self._start and self._start[0] <= position:
            start = self._start.pop(0)
            data = self._data.pop(0)
            self.size -= len(data)
            if start + len(data) > position:
                return data[position - start :]
        return None


def unwrap(reference: int, seq: int) -> int:
    """The absolute position of `seq` given one (`reference`) it is at or after by less than 2**31."""
    return reference + ((seq - reference) & MASK)
