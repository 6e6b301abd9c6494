"""The sending half: what is acknowledged, the peer's window, what may leave now, and the timers' part of it.

The queue is in :mod:`.sendqueue`. About losses: what the peer tells in :mod:`.reports`, what it means in
:mod:`.detection`, what is done in :mod:`.recovery`, what is sent again in :mod:`.copies` and :mod:`.tailprobe`.
"""

from __future__ import annotations

from math import inf

from .reports import Reports
from .segment import ACK, FIN, PSH
from .sendqueue import OPEN, RECOVERY, Piece
from .seq import HALF, MASK, add


class Sender(Reports):
    """Sequence space and buffers of the data that goes out."""

    __slots__ = ()

    @property
    def room(self) -> int:
        """Bytes that would leave at once if they were written now."""
        if self.board is not None:
            return self._usable() - self.queued
        limit = self.wnd if self.wnd < self.cc.cwnd else self.cc.cwnd
        return limit - ((self.nxt - self.una) & MASK) - self.queued

    @property
    def wants_to_send(self) -> bool:
        """Whether `transmit` would send something now."""
        if self.unsent:
            return self.retransmit_now or self.sendable
        return self.retransmit_now or (self.fin_queued and self._fin_fits)

    @property
    def _fin_fits(self) -> bool:
        """Whether the FIN is what comes next, and within the window.

        Beyond it the peer would drop it, and our later acknowledgements, which bear a higher number, as well.
        """
        return not self.fin_sent and not self.unsent and ((self.nxt - self.una) & MASK) < self.wnd

    @property
    def _waits(self) -> bool:
        """Whether something is to be sent that the window does not take (not: that the link has no room for)."""
        return bool(self.unsent or (self.fin_queued and not self.fin_sent)) and not self.wants_to_send

    @property
    def sendable(self) -> bool:
        """Whether `transmit` would send data now."""
        if not self.unsent:
            return False
        usable = self._usable()
        if usable < self.mss and usable < self.queued and not self._worth_sending(usable):
            return False
        return not (self.nagle and self._small())

    def _small(self) -> bool:
        """Nagle's rule: a small segment waits while others are in flight, unless it is the last of all."""
        return self.queued < self.mss and self.nxt != self.una and not self.fin_queued

    # -- what came back

    def acked(self, ack: int, now: float, rtt: float | None = None) -> int:
        """Take an acknowledgement with SND.UNA < `ack` <= SND.NXT; returns the sequence numbers newly covered.

        `rtt` in seconds when an echoed timestamp tells it (RFC 7323, section 4.1), else the sender times by itself.
        """
        count = (ack - self.una) & MASK
        estimator = self.rtt
        if rtt is not None:
            estimator.sample(rtt, max(((self.nxt - self.una) & MASK) // (2 * self.mss), 1))
        elif self.phase == OPEN:
            estimator.acked(ack, now)
        elif estimator.covers(ack):
            estimator.stop_timing()  # it may have waited for a copy to fill a hole before it
        cc = self.cc
        stalls = cc.stalls
        if stalls:
            estimator.rto = estimator.base  # what is late was not lost: no reason to wait longer for the next
        elif cc.samples and self.board is None:
            cc.round_trip(now - self._sent_at(self.base + count - 1), self.base + count, self.base + self.flight)
        full = self.base < self._full_at
        self.una = ack
        self.base += count
        self._drop(count)
        self.retries = 0
        self.persisting = False
        self.progress_at = now
        self.deadline = now + estimator.rto if self.nxt != ack else inf
        phase = self.phase
        if self.board is not None:
            self._covered(self.board, count, now, inf if rtt is None else now - rtt)
        starts = self._run_starts
        if starts and starts[0] <= self.base:
            self._end_runs()
        if phase != RECOVERY:
            cc.acked(count, now, estimator.srtt, full or phase != OPEN)
            if phase == OPEN:
                self.duplicates = 0
        if self._probe_end >= 0:
            self.retransmit_now = True
        elif not stalls and self.sack:
            self._arm_probe(now)
        return count

    def update_window(self, seq: int, ack: int, window: int, now: float) -> None:
        """Take the window if the segment is newer than the one that set it last (RFC 9293, section 3.10.7.4)."""
        if (self.wl1 - seq) & HALF or (self.wl1 == seq and not (ack - self.wl2) & HALF):
            if self.persisting and window > self.wnd:
                self.persisting = False
                self.deadline = now + self.rtt.rto if self.nxt != self.una else inf
                self.retries = 0
                self.rtt.rto = self.rtt.base
                self.progress_at = now
            if window > self.wnd and self.board is not None:
                self.retransmit_now = True
            self.wnd = window
            if window > self.max_wnd:
                self.max_wnd = window
            self.wl1 = seq
            self.wl2 = ack

    # -- what goes out

    def transmit(self, now: float, quantum: int) -> list[Piece]:
        """The segments to send now, at most about `quantum` bytes of payload; 0: only see to the timers."""
        pieces: list[Piece] = []
        if self.retransmit_now:
            quantum = self._repeat(pieces, now, quantum)
        board = self.board
        if self.unsent and quantum > 0:
            if self.nxt == self.una and now - self._run_at > self.rtt.rto:
                self.cc.idle(now - self._run_at, self.rtt.rto)
            limit = self.cc.cwnd
            whole = limit < self.wnd  # segments: the rest of a congestion window is worth no small one
            if not whole:
                limit = self.wnd
            while self.unsent and quantum > 0:
                usable = limit - ((self.nxt - self.una) & MASK) if board is None else self._usable()
                queued = self.queued
                if usable < self.mss and usable < queued and not self._worth_sending(usable):
                    break
                if usable > self.max_payload:
                    usable = self.max_payload
                if usable < queued:
                    if whole and usable > self.mss:
                        usable -= usable % self.mss
                elif self.nagle and queued % self.mss and not self.fin_queued:
                    if self._small():
                        break
                    if queued > self.mss:
                        usable = queued - queued % self.mss
                if now > self._run_until or self.nxt == self.una:
                    self._begin_run(now)
                payload = self._next_payload(usable)
                size = len(payload)
                flags = self._data_flags
                pieces.append((self.nxt, flags if self.unsent else flags | PSH, payload))
                if flags != ACK:
                    self._data_flags = ACK
                    self._cwr_end = self.base + ((self.nxt - self.una) & MASK) + size  # the peer hears of it then
                quantum -= size
                self.queued -= size
                self._keep_sent(payload)
                self._advance(size, now)
            if whole:
                flight = (self.nxt - self.una) & MASK
                cwnd = self.cc.cwnd
                if flight + self.mss > cwnd or (flight * 2 >= cwnd and cwnd < self.cc.ssthresh):
                    self._full_at = self.base + flight
        if self.fin_queued and quantum > 0 and self._fin_fits:
            self.fin_sent = True
            if now > self._run_until or self.nxt == self.una:
                self._begin_run(now)
            seq, flags, payload = pieces[-1] if pieces else (0, 0, b"")
            if payload and (seq + len(payload)) & MASK == self.nxt:
                pieces[-1] = (seq, flags | FIN, payload)
            else:
                pieces.append((self.nxt, ACK | FIN, b""))
            self._advance(1, now)
        if self.deadline == inf and self.nxt == self.una and self._waits:
            # The window is closed (or silly) with nothing in flight whose answer could tell of its opening: probe
            # from RTO on, doubling (RFC 9293, section 3.8.6.1).
            self.persisting = True
            self.deadline = now + self.rtt.rto
            self.progress_at = now
        elif self.deadline == inf and self.nxt != self.una and not self.retransmit_now:
            # The timer expired while the link had no room, and then the peer closed its window: nothing was sent that
            # would have set the timer again, and the news of an opening may be lost.
            self.deadline = now + self.rtt.rto
        if pieces and self.sack and not self.cc.stalls:
            self._arm_probe(now)
        return pieces

    def _repeat(self, pieces: list[Piece], now: float, quantum: int) -> int:
        """What is to be sent again, and a tail loss probe; returns what is left of the quantum."""
        self._assess(now)
        if quantum <= 0:
            self.retransmit_now = self._probing or self._next_copy() is not None
            return quantum
        board = self.board
        if board is not None and board.lost:
            quantum = self._resend(pieces, now, quantum)
            self.retransmit_now = quantum <= 0 and self._next_copy() is not None
        elif self._probing:
            if board is None:
                self._send_probe(pieces, now)
            elif self.prr is not None and not self._rescued:
                self._rescue(board, pieces, now)
        self._probing = False
        return quantum

    def _worth_sending(self, usable: int) -> bool:
        """Sender's silly-window avoidance (RFC 9293, section 3.8.6.2.1) for less than a segment and than the queue."""
        return usable > 0 and usable * 2 >= self.max_wnd

    def _advance(self, size: int, now: float) -> None:
        """New data leaves, or the FIN."""
        self.nxt = nxt = (self.nxt + size) & MASK
        if not self.rtt.timing:
            self.rtt.start_timing(nxt, now)
        if self.prr is not None:
            self.prr.out += size
        if self.deadline == inf or self.persisting:
            self.persisting = False
            self.deadline = now + self.rtt.rto
            self.progress_at = now

    # -- the timer

    def expire(self, now: float) -> bool:
        """The timer expired: prepare what it asks for. True when a window probe is to be sent by the caller."""
        self.retries += 1
        self.rtt.back_off()
        if self.persisting:
            self.deadline = now + min(self.rtt.rto, self._longest_persist)
            if self.wnd > 0 and self.unsent:
                # A silly window did not open further: use what there is (RFC 1122's override time-out).
                self._force(now)
                return False
            return True
        first = self.phase <= RECOVERY or self.retries == 1
        self._ask(now)
        if self.wnd == 0:
            # The peer shrank its window to nothing: only its opening can help, and it lives while it answers probes.
            self.persisting = True
            self.deadline = now + min(self.rtt.rto, self._longest_persist)
            return True
        cc = self.cc
        if first:
            self._undo_since = inf
            self._undo_copies = 0
        cc.timeout(min(self.flight, cc.cwnd), now, again=not first)
        self.deadline = inf
        return False

    def _force(self, now: float) -> None:
        """Let the next `transmit` send into a silly window."""
        self.max_wnd = self.wnd
        self.persisting = False
        self.deadline = inf

    @property
    def plain_seq(self) -> int:
        """The sequence number of a segment without data: SND.NXT, but where the peer took back some of its window (by
        more than rounding does), the end of what is left, as it would not look at one beyond (RFC 9293, section 3.8.6:
        a sender has to bear that).
        """
        una = self.una
        within = (self.nxt - una) & MASK < self.wnd + (1 << self.scale)
        return self.nxt if within or una == self.iss else add(una, self.wnd)

    def probe_seq(self) -> int:
        """The sequence number of a window or keepalive probe: one the peer has already taken, so that it answers."""
        return add(self.una, -1)

    def release(self) -> None:
        """The connection ended: let go of the data."""
        self.unsent.clear()
        self.sent.clear()
        self.board = self.prr = self.rack = None
        self._run_starts.clear()
        self._run_times.clear()
        self.phase = OPEN
        self.queued = 0
        self.deadline = self.look_at = inf
        self.retransmit_now = self._probing = False
