"""What is lost: RACK's judgement of what is in flight (RFC 8985, section 6.2), and the two cases that need none.

The evidence is collected as reports come (:mod:`.reports`); what it means is found out here. What was sent once, and
before the evidence, is a matter of position, for there positions follow time; what was sent again is kept in its order.
"""

from __future__ import annotations

from math import inf

from .rack import DUPLICATE_THRESHOLD, Rack
from .scoreboard import LOST, LOST_AGAIN, SACKED, SENT, Scoreboard
from .sendqueue import RECOVERY
from .tailprobe import TailProbe

TICK = 1e-6
"""Seconds: what two sums of clock times may differ by."""


class Detection(TailProbe):
    """A send queue that finds losses."""

    __slots__ = ()

    def _evidence(self) -> Rack:
        if self.rack is None:
            self.rack = Rack()
        return self.rack

    def _detect(self, board: Scoreboard, now: float) -> bool:
        """RFC 8985, section 6.2: mark what is lost, set the timer for what may be; whether there was something new."""
        rack, estimator = self._evidence(), self.rtt
        stalls = self.cc.stalls
        sample = rack.weigh(now, estimator.min_rtt, copies=not stalls)
        if sample >= 0 and not stalls:
            estimator.sample(sample, max(self.flight // (2 * self.mss), 1))
        latest, end = rack.latest
        self.look_at = inf
        if latest < 0:
            return False
        sure = self.phase == RECOVERY or (
            self.duplicates >= DUPLICATE_THRESHOLD
            or board.sacked > (DUPLICATE_THRESHOLD - 1) * self.mss  # IsLost of RFC 6675
            or board.many_sacked(DUPLICATE_THRESHOLD)
        )
        patience = rack.rtt + rack.window(estimator.min_rtt, estimator.srtt, sure=sure)
        due = now - patience + TICK
        # What was sent once: all that left before the evidence is a matter of position.
        news = board.lose(min(self._sent_until(due, inf), before := self._sent_until(latest, end)))
        timer = -inf
        if board.checked < before:
            for start, _, mark in reversed(board.look(max(board.checked, self.base), before)):
                if mark == SENT:
                    timer = self._sent_at(start) + patience
                    break
        while board.again:
            start, until, sent_at = board.again[0]
            if until > self.base:
                if sent_at > latest or (sent_at == latest and (until >= end or not rack.by_copy)):
                    break
                if sent_at > due:
                    timer = max(timer, sent_at + patience)
                    break
                news |= board.lose_again(max(start, self.base), until, sent_at)
            board.again.popleft()
        if timer > -inf:
            self.look_at = timer
        return news

    def _lose_head(self, board: Scoreboard) -> None:
        """The first segment is lost, unless the peer holds it."""
        end = self.base + min(self.mss, self.flight)
        for start, until, mark in board.look(self.base, end):
            if mark == SACKED:
                break
            if mark > SACKED:
                board.mark(start, until, LOST if mark == SENT else LOST_AGAIN)
        board.credit = min(board.credit, self.flight - board.lost)

    def _lose_all(self, board: Scoreboard, below: int, *, larger_than: int = 0) -> None:
        """Whatever is on its way below that position is lost, as far as it is in pieces that are larger."""
        for start, end, mark in board.look(self.base, below):
            if mark > SACKED and end - start > larger_than:
                board.mark(start, end, LOST if mark == SENT else LOST_AGAIN)
        board.credit = 0
