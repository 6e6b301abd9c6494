"""The sending half: what is acknowledged, the peer's window, what may leave now, and the timers' part of it.

The queue is in :mod:`.sendqueue`, what is done about losses in :mod:`.recovery`.
"""

from __future__ import annotations

from math import inf

from .recovery import Recovery
from .segment import ACK, FIN, PSH
from .sendqueue import Piece
from .seq import HALF, MASK, add


class Sender(Recovery):
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
        return usable >= self.mss or usable >= self.queued or self._worth_sending(usable)

    # -- what came back

    def acked(self, ack: int, now: float, rtt: float | None = None) -> int:
        """Take an acknowledgement with SND.UNA < `ack` <= `largest`; returns the sequence numbers newly covered.

        `rtt`: the round trip in seconds by the echoed timestamp; None: it is timed here.
        """
        before = self.nxt - self.una & MASK
        count = (ack - self.una) & MASK
        self.una = ack
        ahead = (self.nxt - ack) & HALF  # of what was sent again after a timeout: the first copies did arrive
        if ahead:
            self.nxt = ack
        self._drop(count)
        if ahead and self.cc.stalls and self.sack:
            self._resume()
        board = self.board
        if board is not None:
            board.advance(count)
            if not board:
                board = self.board = None
        if ack == self.fin_end:
            self.fin_sent = True  # the peer has it, though a timeout meanwhile put it back to be sent again
        timing = self.rtt
        if rtt is not None and not timing.timing:
            timing.sample(rtt)  # of a segment sent again, too: the echo tells which copy is meant (RFC 7323, section 4)
        timing.acked(ack, now)
        self.retries = 0
        self.persisting = False
        self.deadline = now + timing.rto if self.nxt != ack else inf
        if not self.in_recovery:
            self.duplicates = 0
            self.cc.acked(count, before)
            if not (ack - self.recover) & HALF:
                self.recover = ack  # kept near: 2 GiB behind it would look like ahead
        elif (ack - self.recover) & HALF:
            # RFC 6582, section 3.2, step 3: the next hole is lost as well. With SACK and nothing reported beyond it, it
            # may only be late; one segment of it is then what RFC 6675 calls a rescue.
            if not self.sack:
                self.cc.partial(count)
            self.retransmit_now = True
        else:
            self.in_recovery = self.retransmit_now = False
            self.duplicates = 0
            self.cc.leave_recovery(self.flight)
        return count

    def update_window(self, seq: int, ack: int, window: int, now: float) -> None:
        """Take the window if the segment is newer than the one that set it last (RFC 9293, section 3.10.7.4)."""
        if (self.wl1 - seq) & HALF or (self.wl1 == seq and not (ack - self.wl2) & HALF):
            if self.persisting and window > self.wnd:
                self.persisting = False
                self.deadline = now + self.rtt.rto if self.nxt != self.una else inf
                self.retries = 0
                self.rtt.rto = self.rtt.base
            self.wnd = window
            if window > self.max_wnd:
                self.max_wnd = window
            self.wl1 = seq
            self.wl2 = ack

    def ece(self, now: float) -> None:
        """An acceptable acknowledgement says that a router marked a packet of ours (RFC 3168, section 6.1.2)."""

    def set_mss(self, mss: int, max_payload: int) -> None:
        """From now on segments hold `mss` bytes and packets `max_payload`."""
        self.mss = mss
        self.max_payload = max_payload

    # -- what goes out

    def transmit(self, now: float, quantum: int) -> list[Piece]:
        """The segments to send now, at most about `quantum` bytes of payload; 0: only see to the persist timer."""
        pieces: list[Piece] = []
        if self.retransmit_now and quantum > 0:
            self.retransmit_now = False
            if self.board is None:
                self._fast_retransmit(pieces, now)
            else:
                quantum = self._fill_holes(self.board, pieces, now, quantum)
        limit = self.wnd if self.wnd < self.cc.cwnd else self.cc.cwnd
        while self.unsent and quantum > 0:
            usable = limit - ((self.nxt - self.una) & MASK) if self.board is None else self._usable()
            if usable < self.mss and usable < self.queued and not self._worth_sending(usable):
                break
            payload = self._next_payload(usable if usable < self.max_payload else self.max_payload)
            size = len(payload)
            pieces.append((self.nxt, ACK if self.unsent else ACK | PSH, payload))
            quantum -= size
            self.queued -= size
            self._keep_sent(payload)
            self._advance(size, now)
        if self.fin_queued and quantum > 0 and self._fin_fits:
            self.fin_sent = True
            seq, flags, payload = pieces[-1] if pieces else (0, 0, b"")
            if payload and (seq + len(payload)) & MASK == self.nxt:
                pieces[-1] = (seq, flags | FIN, payload)
            else:
                pieces.append((self.nxt, ACK | FIN, b""))
            self._advance(1, now)
            self.fin_end = self.nxt
        if self.deadline == inf and self.nxt == self.una and self._waits:
            # The window is closed (or silly) with nothing in flight whose answer could tell of its opening: probe
            # from RTO on, doubling (RFC 9293, section 3.8.6.1).
            self.persisting = True
            self.deadline = now + self.rtt.rto
        return pieces

    def _worth_sending(self, usable: int) -> bool:
        """Sender's silly-window avoidance (RFC 9293, section 3.8.6.2.1) for less than a segment and than the queue."""
        return usable > 0 and usable * 2 >= self.max_wnd

    def _advance(self, size: int, now: float) -> None:
        nxt = (self.nxt + size) & MASK
        if (self.largest - nxt) & HALF:
            if self.nxt == self.largest and not self.rtt.timing:
                self.rtt.start_timing(nxt, now)
            self.largest = nxt
        else:
            self.retransmitted += 1
        self.nxt = nxt
        if self.deadline == inf or self.persisting:
            self.persisting = False
            self.deadline = now + self.rtt.rto

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
        self.cc.timeout(self.flight, again=self.retries > 1)
        self.go_back()
        self.deadline = inf
        return False

    def _force(self, now: float) -> None:
        """Let the next `transmit` send into a silly window."""
        self.max_wnd = self.wnd
        self.persisting = False
        self.deadline = inf

    def probe_seq(self) -> int:
        """The sequence number of a window or keepalive probe: one the peer has already taken, so that it answers."""
        return add(self.una, -1)

    def release(self) -> None:
        """The connection ended: let go of the data."""
        self.unsent.clear()
        self.sent.clear()
        self.board = None
        self.queued = 0
        self.deadline = inf
        self.retransmit_now = False
