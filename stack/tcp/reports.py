"""What the peer says about data in flight, and what it takes back of our judgement.

Needless copies show by their reports (D-SACK, RFC 2883 and RFC 3708), by an echoed timestamp that is older than the
first copy (Eifel, RFC 3522), and after a timeout by an answer that covers what was sent only once (as F-RTO finds, RFC
5682): then what was done about a loss is undone.

Reports are taken as they come, and weighed together when something is to be sent, once for a burst of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from .recovery import Recovery
from .scoreboard import LOST, LOST_AGAIN, SACKED, SENT, Scoreboard
from .segment import Block
from .sendqueue import ASKING, OPEN, RECOVERY, REPAIR
from .seq import HALF, MASK

TIMESTAMP_TICK = 0.001
"""Seconds that an echoed timestamp may be too old by: it counts whole milliseconds."""
RENEGED = 0.01
"""Seconds, at least, until a peer is taken at its word that does not acknowledge what it reported to hold."""
FEW_RANGES = 128
"""Marks that are always remembered."""


class Reports(Recovery):
    """A send queue that listens."""

    __slots__ = ()

    def take_sacks(self, blocks: Sequence[Block]) -> bool:
        """Note what the peer reports to hold, after `acked`; whether something is news.

        A block that is not wholly in flight is old or forged, and ignored.
        """
        if not self.sack or not blocks:
            return False
        una, base = self.una, self.base
        flight = (self.nxt - una) & MASK
        left, right = blocks[0]
        size = (right - left) & MASK
        below = (una - right) & MASK
        # A D-SACK: the first block lies below the acknowledgement, or within the second block (RFC 2883, section 4).
        if below < HALF and 0 < size <= base - below:
            self._needless(size, base - below)
            blocks = blocks[1:]
        elif len(blocks) > 1 and size <= (right - blocks[1][0]) & MASK <= (blocks[1][1] - blocks[1][0]) & MASK < HALF:
            self._needless(size, base + ((right - una) & MASK))
            blocks = blocks[1:]
        found = []
        for left, right in blocks:
            start = (left - una) & MASK
            end = (right - una) & MASK
            if start < end <= flight:
                found.append((base + start, base + end))
        if not found:
            return False
        board = self._marks()
        rack = self._evidence()
        news = 0
        most = max(2 * flight // self.mss, FEW_RANGES)  # every other segment lost makes a mark for each
        for start, end in sorted(found):
            for begin, until, mark in board.sack(start, end, most):
                news += until - begin
                if mark >= 0:
                    rack.arrived(mark, until, again=True)
                elif mark != LOST_AGAIN:
                    rack.arrived(self._sent_at(until - 1), until, again=False, timed=True)
        if news:
            self._delivered += news
            self.retransmit_now = True
        return news > 0

    def duplicate(self) -> None:
        """An acknowledgement that covers nothing new while data is in flight (RFC 5681, section 2).

        With SACK: one that reports something new (RFC 6675, section 2).
        """
        self.duplicates += 1
        if not self.sack and self.phase <= RECOVERY:
            # Each tells that a segment left the network; all of them together, no more than that are there.
            board = self._marks()
            credit = min(self.mss, self.flight - board.gone - min(self.mss, self.flight))
            if credit > 0:
                board.credit += credit
                self._delivered += credit
        self.retransmit_now = True

    def _needless(self, size: int, end: int) -> None:
        """The peer reports that it got a range twice."""
        self._reports += 1
        if self._reports > self.retransmitted:
            return  # the network doubles packets (RFC 3708), or the peer lies
        if end == self._probe_end:
            self._probe_end = -1  # both arrived: nothing was lost (RFC 8985, section 7.4.2)
            return
        self._evidence().needless(self.base, self.base + self.flight)
        if self._undo_since >= 0:
            self._undo_copies -= size
            if self._undo_copies <= 0 and self._undo_since < inf:
                self._evidence().reordering = True  # what was taken for lost was overtaken
                self._undo(self._undo_since)

    def _covered(self, board: Scoreboard, count: int, now: float, sent_at: float) -> None:
        """`count` bytes were acknowledged; `sent_at`: when what brought that left, by its timestamp, or inf."""
        base = self.base
        first_copies = False
        delivered = 0
        for start, end, mark in board.advance(base - count, base):
            if mark == SACKED:
                continue
            delivered += end - start
            if mark in {SENT, LOST}:
                first_copies = True
            if self.sack:  # not timed: it may have waited for the copy of what comes before it
                if mark >= 0:
                    self._evidence().arrived(mark, end, again=True)
                elif mark != LOST_AGAIN:
                    self._evidence().arrived(self._sent_at(end - 1), end, again=False)
        if board.credit:
            known = min(board.credit, max(count - self.mss, 0))
            board.credit -= known
            delivered -= known
        self._delivered += delivered
        self._moved = self.retransmit_now = True
        if board.holds(base):
            # It has thrown away what it reported (RFC 2018, section 8), unless it says so in a moment.
            self.deadline = now + min(max(self.rtt.srtt / 2, RENEGED), self.rtt.rto)
        if self.phase == ASKING and self.sack and first_copies:
            self._undo(now)
        elif 0 <= self._undo_since < inf and sent_at + TIMESTAMP_TICK < self._undo_since:
            self._undo(now)
        if self.phase == OPEN:
            board.credit = 0
        elif base >= self.recover:
            self._leave(board)
        elif self.phase == RECOVERY:
            if not self.sack:
                self._lose_head(board)  # RFC 6582, section 3.2, step 3: the next hole is lost as well
                self._forced = True
        elif self.phase == ASKING:
            self._lose_all(board, self.recover)
            self.phase = REPAIR
