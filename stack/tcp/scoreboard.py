"""What the peer says it holds beyond SND.UNA, and what is therefore lost (RFC 2018, RFC 6675).

Ranges are kept as positions: sequence numbers without the wrap, counted on from the SND.UNA of the first report. They
only mark; the data itself stays in the sender's chunks whole, so a peer that reports every other byte costs a bounded
list and no more (CVE-2019-11477, CVE-2019-11478 were about cutting the queue up).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from .segment import Block
from .seq import MASK

MAX_RANGES = 128
"""Ranges remembered; further ones wait until these have grown together."""
DUPLICATE_THRESHOLD = 3
"""DupThresh of RFC 6675, section 2."""


class Scoreboard:
    """The holes between SND.UNA and the highest byte the peer has."""

    __slots__ = ("_ends", "_starts", "base", "high_rxt", "sacked")

    def __init__(self, una: int) -> None:
        self.base = una
        """Position of SND.UNA."""
        self.high_rxt = una
        """HighRxt: the position up to which holes were sent again in this recovery."""
        self.sacked = 0
        """Bytes the peer holds beyond SND.UNA."""
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __repr__(self) -> str:
        ranges = " ".join(f"{a - self.base}-{b - self.base}" for a, b in zip(self._starts, self._ends, strict=True))
        return f"<Scoreboard {ranges or 'empty'} rxt={self.high_rxt - self.base}>"

    def take(self, blocks: Sequence[Block], flight: int, data: int) -> int:
        """Mark what the peer reports; returns the bytes that are news.

        `flight` is what is outstanding, `data` that without the FIN. A block that is not wholly inside it is old, a
        report of a duplicate (RFC 2883), or forged: it is ignored.
        """
        before = self.sacked
        for left, right in blocks:
            at = (left - self.base) & MASK
            end = (right - self.base) & MASK
            if at < end <= flight and at < data:
                self._mark(self.base + at, self.base + min(end, data))
        return self.sacked - before

    def _mark(self, start: int, end: int) -> None:
        starts, ends = self._starts, self._ends
        first = bisect_left(ends, start)  # touching ranges become one
        last = bisect_right(starts, end)
        if first < last:
            start = min(start, starts[first])
            end = max(end, ends[last - 1])
            self.sacked -= sum(ends[first:last]) - sum(starts[first:last])
        elif len(starts) >= MAX_RANGES:
            return
        starts[first:last] = [start]
        ends[first:last] = [end]
        self.sacked += end - start

    def advance(self, count: int) -> None:
        """SND.UNA moved on by `count`."""
        self.base += count
        starts, ends = self._starts, self._ends
        while starts and starts[0] < self.base:
            self.sacked -= min(ends[0], self.base) - starts[0]
            if ends[0] > self.base:
                starts[0] = self.base
                return
            del starts[0], ends[0]

    def next_hole(self, enough: int, *, head_lost: bool, any_hole: bool) -> tuple[int, int] | None:
        """The first hole not sent again yet: its start and end, positions. None when nothing (more) is lost.

        Lost is what has DupThresh ranges or more than `enough` bytes reported above it (IsLost), and the first hole
        when `head_lost`; with `any_hole` every one counts, for when there is nothing better to send (NextSeg, rule 3).
        """
        above, count = self.sacked, len(self._starts)
        position = self.base
        for start, end in zip(self._starts, self._ends, strict=True):
            if start > position and start > self.high_rxt:
                lost = count >= DUPLICATE_THRESHOLD or above > enough or (head_lost and position == self.base)
                return (max(position, self.high_rxt), start) if lost or any_hole else None
            above -= end - start
            count -= 1
            position = end
        return None

    def pipe(self, flight: int, enough: int, *, head_lost: bool) -> int:
        """Bytes that are still on their way, by what is known: neither held by the peer nor lost (SetPipe)."""
        missing = 0
        above, count = self.sacked, len(self._starts)
        position = self.base
        for start, end in zip(self._starts, self._ends, strict=True):
            if count >= DUPLICATE_THRESHOLD or above > enough or (head_lost and position == self.base):
                missing += max(start - max(position, self.high_rxt), 0)
            above -= end - start
            count -= 1
            position = end
        return flight - self.sacked - missing
