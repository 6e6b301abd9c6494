"""What acknowledgements tell about losses, and what is done about it.

Phases. In OPEN nothing is known to be lost. What RACK (:mod:`.rack`) finds lost by the reports of a peer with SACK, or
three duplicate acknowledgements of one without (RFC 5681, RFC 6582), begins a RECOVERY, until everything that was in
flight then is acknowledged; each of these halves the window once, and :mod:`.prr` says what may leave. When the
retransmission timer expires, one segment goes out as a question (ASKING). An answer that covers more shows that the
first copies were only late (as F-RTO does, RFC 5682): nothing else is sent again. Else all that the peer does not hold
is lost, and sent again in slow start (REPAIR).

What turns out to have been needless is undone: by that answer, by an echoed timestamp that is older than the first copy
(Eifel, RFC 3522), or when the peer reports every copy as a duplicate (D-SACK, RFC 2883 and RFC 3708).

Reports are taken as they come, and weighed together when something is to be sent, once for a burst of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import inf

from .prr import Prr
from .rack import DUPLICATE_THRESHOLD, Rack
from .scoreboard import LOST, LOST_AGAIN, SACKED, SENT, Scoreboard
from .segment import Block
from .sendqueue import ACK_CWR, ASKING, NOTHING, OPEN, RECOVERY, REPAIR
from .seq import HALF, MASK
from .tailprobe import TailProbe

TICK = 1e-6
"""Seconds: what two sums of clock times may differ by."""
TIMESTAMP_TICK = 0.001
"""Seconds that an echoed timestamp may be too old by: it counts whole milliseconds."""
RENEGED = 0.01
"""Seconds, at least, until a peer is taken at its word that does not acknowledge what it reported to hold."""


class Recovery(TailProbe):
    """A send queue that finds losses, and repairs them."""

    __slots__ = ()

    # -- what the peer says

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
        for start, end in sorted(found):
            for begin, until, mark in board.sack(start, end):
                news += until - begin
                if mark >= 0:
                    rack.arrived(mark, until, again=True)
                elif mark != LOST_AGAIN:
                    rack.arrived(self._sent_at(until - 1), until, again=False)
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
                self._undo(self._undo_since)

    def _evidence(self) -> Rack:
        if self.rack is None:
            self.rack = Rack()
        return self.rack

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
            if self.sack:
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

    # -- what it means

    def _assess(self, now: float) -> None:
        """Weigh what acknowledgements told since the last call."""
        self.retransmit_now = False
        if self._probe_end >= 0:
            self._judge_probe(now)
        board = self.board
        if board is None:
            return
        news = self._detect(board, now) if self.sack else False
        flight = self.flight
        if self.phase == OPEN:
            if not self.sack and self.duplicates >= DUPLICATE_THRESHOLD and self.base >= self.recover:
                self._lose_head(board)
            if board.lost:
                self._enter_recovery(flight, now)
        if self.prr is not None:
            pipe = flight - board.gone
            self.cc.cwnd = pipe + self.prr.allow(self._delivered, pipe, safe=self._moved and not news)
            if self.look_at == inf and not self._rescued:
                self.look_at = now + 2 * self.rtt.srtt + TICK
        self._delivered = 0
        self._moved = False
        if self.phase == OPEN and not board:
            self.board = None
            self.look_at = inf

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
        if timer > 0:
            self.look_at = timer
        return news

    def _sent_until(self, at: float, end: float) -> int:
        """The position up to which all had been sent for the first time at that time, of the run of that moment what
        lies before `end`.
        """
        starts, times = self._run_starts, self._run_times
        index = bisect_right(times, at)
        until = starts[index] if index < len(starts) else self.base + self.flight
        if index and times[index - 1] == at and end < until:
            return max(starts[index - 1], int(end))
        return until if index else self.base

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

    # -- what is done

    def _enter_recovery(self, flight: int, now: float) -> None:
        self.phase = RECOVERY
        self.recover = self.base + flight
        self._forced = True
        self._rescued = False
        cc = self.cc
        if self.base >= self._cwr_end:  # not twice a window (RFC 3168, section 6.1.2)
            cc.reduce(min(flight, cc.cwnd), now)
            self._undo_since = inf
            self._undo_copies = 0
        if not cc.stalls:
            self.prr = Prr(flight, cc.ssthresh, self.mss)

    def _leave(self, board: Scoreboard) -> None:
        """Everything that was in flight when this phase began is acknowledged."""
        if self.phase == RECOVERY:
            self.cc.settle()
            self.prr = None
            if self.rack is not None:
                self.rack.recovered()
        self.phase = OPEN
        self.duplicates = 0
        board.credit = 0

    def _ask(self, now: float) -> None:
        """The retransmission timer expired: the first segment goes out again as a question."""
        board = self._marks()
        self.rtt.stop_timing()
        if board.holds(self.base):
            board.forget()
        self._lose_head(board)
        board.credit = 0
        self.phase = ASKING
        self.recover = self.base + self.flight
        if self.prr is not None:
            self.prr = None
            self.cc.settle()  # it stood at what the repair let out last, maybe less than a segment
        self.duplicates = 0
        self.look_at = inf
        self._probe_end = -1
        self._probing = False
        self._forced = self.retransmit_now = True

    def _undo(self, now: float) -> None:
        """What was sent again had arrived, or was on its way: nothing was lost."""
        self.undone += 1
        if self._undo_since >= 0:
            self.cc.undo()
        self._undo_since = NOTHING
        if self.phase != OPEN:
            self.phase = OPEN
            self.prr = None
            self.duplicates = 0
            self._forced = False
            if self.board is not None:
                self.board.forgive(now)

    def set_mss(self, mss: int, max_payload: int) -> None:
        """Segments have another size from now on: `mss` bytes of payload, `max_payload` in one packet for the link.

        What is in flight in larger ones than that did not arrive, and is sent again cut anew. That is no congestion
        (RFC 1191, section 6.4; RFC 8201, section 5.4).
        """
        smaller = mss < self.mss
        self.mss = mss
        self.max_payload = max_payload
        self.cc.resize(mss, max_payload)
        flight = self.flight
        if smaller and flight - self.fin_sent > mss:
            self._lose_all(self._marks(), self.base + flight, larger_than=mss)
            self._forced = self.retransmit_now = True
            if self.phase == OPEN:
                self.phase = REPAIR
                self.recover = self.base + flight

    def ece(self, now: float) -> None:
        """The peer echoes a mark of congestion (RFC 3168, section 6.1.2): react, once a window, and say so with CWR."""
        if self.base < self._cwr_end:
            return
        self._cwr_end = self.base + self.flight
        self._data_flags = ACK_CWR
        if self.phase == OPEN:
            self.cc.reduce(min(self.flight, self.cc.cwnd), now)
            self.cc.settle()
            self._undo_since = NOTHING
