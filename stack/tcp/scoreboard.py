"""What is known of the bytes in flight: held by the peer, lost, or sent again (RFC 2018, RFC 6675, RFC 8985).

What is in flight and bears no mark was sent once, and nothing more is known of it: when, the sender's log of runs tells
(:mod:`.sendqueue`). So a flow without losses needs no scoreboard. Marks are ranges of positions: sequence numbers
without the wrap, counted from the first byte of the connection. The data itself stays in the sender's chunks whole, so
a peer that reports every other byte costs a bounded list and no more (CVE-2019-11477, CVE-2019-11478 were about cutting
the queue up).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque

SENT = -1.0
"""Sent once; what has no mark."""
SACKED = -2.0
"""Held by the peer."""
LOST = -3.0
"""Lost, and not sent again yet."""
LOST_AGAIN = -4.0
"""Sent again, and lost again. (A mark of 0 or more is the clock time at which the range was sent again.)"""

Range = tuple[int, int, float]
"""First position, one past the last, mark."""


class Scoreboard:
    """Marks on ranges of what is in flight, with their sums."""

    __slots__ = ("_ends", "_lost_from", "_marks", "_starts", "again", "checked", "credit", "lost", "sacked")

    def __init__(self) -> None:
        self.sacked = 0
        """Bytes the peer holds."""
        self.lost = 0
        """Bytes that are lost and have not been sent again since."""
        self.credit = 0
        """Bytes that left the network as duplicate acknowledgements tell, which name none (a peer without SACK)."""
        self.checked = 0
        """The position below which nothing is unmarked."""
        self.again: deque[Range] = deque()
        """What was sent again, in the order of time, each with its time; may hold what was acknowledged since."""
        self._lost_from = 0
        """No range below this position is lost."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._marks: list[float] = []

    def __bool__(self) -> bool:
        return bool(self._starts) or self.credit > 0

    def __repr__(self) -> str:
        return f"<Scoreboard {list(self.ranges())} sacked={self.sacked} lost={self.lost}>"

    def ranges(self) -> zip[Range]:
        """Every marked range, in order."""
        return zip(self._starts, self._ends, self._marks, strict=True)

    @property
    def gone(self) -> int:
        """Bytes that are not on their way any more (of RFC 6675's SetPipe)."""
        return self.sacked + self.lost + self.credit

    def many_sacked(self, count: int) -> bool:
        """Whether the peer holds `count` separate ranges or more."""
        return len(self._marks) >= count and self._marks.count(SACKED) >= count

    def look(self, start: int, end: int) -> list[Range]:
        """The ranges from `start` to `end` with their marks, in order; what has none is SENT."""
        starts, ends, marks = self._starts, self._ends, self._marks
        found: list[Range] = []
        index = bisect_right(ends, start)
        at = start
        while index < len(starts) and (left := starts[index]) < end:
            if left > at:
                found.append((at, left, SENT))
                at = left
            right = min(ends[index], end)
            found.append((at, right, marks[index]))
            at = right
            index += 1
        if at < end:
            found.append((at, end, SENT))
        return found

    def mark(self, start: int, end: int, mark: float) -> None:
        """Give the range this mark, whatever it had; touching ranges with the same one become one."""
        starts, ends, marks = self._starts, self._ends, self._marks
        for left, right, old in self.look(start, end):
            self._count(old, left - right)
        self._count(mark, end - start)
        first = bisect_right(ends, start)
        last = bisect_left(starts, end)
        new: list[Range] = [(start, end, mark)]
        if first < last:
            if starts[first] < start:
                new.insert(0, (starts[first], start, marks[first]))
            if ends[last - 1] > end:
                new.append((end, ends[last - 1], marks[last - 1]))
        if first > 0 and ends[first - 1] == start:
            first -= 1
            new.insert(0, (starts[first], ends[first], marks[first]))
        if last < len(starts) and starts[last] == end:
            new.append((starts[last], ends[last], marks[last]))
            last += 1
        joined: list[Range] = []
        for left, right, old in new:
            if joined and joined[-1][2] == old:
                joined[-1] = (joined[-1][0], right, old)
            else:
                joined.append((left, right, old))
        starts[first:last] = [left for left, _, _ in joined]
        ends[first:last] = [right for _, right, _ in joined]
        marks[first:last] = [old for _, _, old in joined]
        if mark <= LOST and start < self._lost_from:
            self._lost_from = start

    def sack(self, start: int, end: int, most: int) -> list[Range]:
        """The peer holds the range: what of it is news, with the marks it had.

        With `most` marks or more, what joins none of them is not remembered: it waits until these have grown together.
        """
        news = [found for found in self.look(start, end) if found[2] != SACKED]
        if not news or (len(self._starts) >= most and not self._touches(start, end)):
            return []
        self.mark(start, end, SACKED)
        return news

    def holds(self, position: int) -> bool:
        """Whether the peer holds the byte there."""
        index = bisect_right(self._ends, position)
        return index < len(self._ends) and self._starts[index] <= position and self._marks[index] == SACKED

    def _touches(self, start: int, end: int) -> bool:
        """Whether the range would grow into one that is marked already."""
        return bisect_left(self._ends, start) < bisect_right(self._starts, end)

    def lose(self, below: int) -> bool:
        """What is unmarked from `checked` to `below` is lost; whether there was any."""
        if below <= self.checked:
            return False
        found = [piece for piece in self.look(self.checked, below) if piece[2] == SENT]
        for start, end, _ in found:
            self.mark(start, end, LOST)
        self.checked = below
        return bool(found)

    def lose_again(self, start: int, end: int, sent_at: float) -> bool:
        """What of the range was sent again at that time, and not since, is lost as well; whether there was any."""
        found = [piece for piece in self.look(start, end) if piece[2] == sent_at]
        for left, right, _ in found:
            self.mark(left, right, LOST_AGAIN)
        return bool(found)

    def first_lost(self) -> Range | None:
        """The lowest range that waits to be sent again."""
        if not self.lost:
            return None
        marks = self._marks
        index = bisect_right(self._ends, self._lost_from)
        while marks[index] > LOST:
            index += 1
        self._lost_from = self._starts[index]
        return self._starts[index], self._ends[index], marks[index]

    def resend(self, start: int, end: int, now: float) -> None:
        """The range is sent again."""
        self.mark(start, end, now)
        self.again.append((start, end, now))

    def advance(self, base: int, to: int) -> list[Range]:
        """Everything below `to` is acknowledged, from `base` on; what it was."""
        old = self.look(base, to)
        starts, ends = self._starts, self._ends
        count = bisect_right(ends, to)
        for left, right, mark in old:
            self._count(mark, left - right)
        del starts[:count], ends[:count], self._marks[:count]
        if starts and starts[0] < to:
            starts[0] = to
        self.checked = max(self.checked, to)
        return old

    def forgive(self, now: float) -> None:
        """Nothing is lost after all: it is late."""
        for start, end, mark in [found for found in self.ranges() if found[2] <= LOST]:
            if mark == LOST_AGAIN:
                self.resend(start, end, now)
            else:
                self._clear(start, end)
                self.checked = min(self.checked, start)

    def forget(self) -> None:
        """The peer may have thrown away what it reported (RFC 2018, section 8)."""
        for start, end, _ in [found for found in self.ranges() if found[2] == SACKED]:
            self._clear(start, end)
            self.checked = min(self.checked, start)

    def _clear(self, start: int, end: int) -> None:
        """Take the mark from a whole range."""
        index = bisect_left(self._starts, start)
        self._count(self._marks[index], start - end)
        del self._starts[index], self._ends[index], self._marks[index]

    def _count(self, mark: float, size: int) -> None:
        if mark == SACKED:
            self.sacked += size
        elif mark <= LOST:
            self.lost += size
