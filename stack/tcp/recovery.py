"""Sending again what was lost.

A peer with SACK says what it holds beyond SND.UNA (:mod:`.scoreboard`); the holes are sent again by RFC 6675. To one
without, RFC 5681 and RFC 6582 send the first segment again. A retransmission timeout moves everything in flight back
to `unsent` and goes on from SND.UNA (go-back-N, as BSD does): an acknowledgement that then jumps ahead drops what the
peer already has.
"""

from __future__ import annotations

from collections.abc import Sequence

from .scoreboard import DUPLICATE_THRESHOLD, Scoreboard
from .segment import ACK, FIN, PSH, Block
from .sendqueue import Chunk, Piece, SendQueue
from .seq import HALF, MASK


class Recovery(SendQueue):
    """A send queue that fills holes."""

    __slots__ = ()

    @property
    def _enough(self) -> int:
        """Bytes reported above a hole that make it lost: two packets, as the link's may be super-segments."""
        return (DUPLICATE_THRESHOLD - 1) * self.max_payload

    def _usable(self) -> int:
        """Bytes that both windows take now."""
        flight = (self.nxt - self.una) & MASK
        if self.board is not None and self.in_recovery:
            pipe = self.board.pipe(flight, self._enough, head_lost=True)
            return min(self.wnd - flight, self.cc.cwnd - pipe)
        return min(self.wnd, self.cc.cwnd) - flight

    def take_sacks(self, blocks: Sequence[Block]) -> bool:
        """Note what the peer reports to hold; whether that is news."""
        # After a timeout everything is sent again in order, whatever was reported before (RFC 2018, section 8).
        if not self.sack or self.nxt != self.largest or self.nxt == self.una:
            return False
        board = self.board or Scoreboard(self.una)
        if not board.take(blocks, self.flight, self.flight - self.fin_sent):
            return False
        self.board = board
        return True

    def duplicate(self) -> None:
        """An acknowledgement that covers nothing new while data is in flight (RFC 5681, section 2).

        With SACK: one that reports something new (RFC 6675, section 2).
        """
        self.duplicates += 1
        board = self.board
        if self.in_recovery:
            if board is None:
                self.cc.duplicate()
            else:
                self.retransmit_now = True
        elif not (self.una - self.recover) & HALF and (
            self.duplicates >= DUPLICATE_THRESHOLD
            or (board is not None and board.next_hole(self._enough, head_lost=False, any_hole=False) is not None)
        ):
            self._enter_recovery()

    def _enter_recovery(self) -> None:
        self.in_recovery = True
        self.recover = self.largest
        self.retransmit_now = self._first_hole = True
        self.cc.enter_recovery(self.flight)
        if self.board is not None:
            self.board.high_rxt = self.board.base
        else:
            for _ in range(DUPLICATE_THRESHOLD):  # as many segments have left the network (RFC 5681, section 3.2)
                self.cc.duplicate()

    def _fast_retransmit(self, pieces: list[Piece], now: float) -> None:
        self.rtt.stop_timing()
        if self.sent:
            head = self.sent[0]
            payload: Chunk = head if len(head) <= self.mss else memoryview(head)[: self.mss]
            # A FIN that left on this very segment goes along when nothing follows it.
            last = self.fin_sent and len(self.sent) == 1 and len(payload) == len(head)
            pieces.append((self.una, ACK | FIN if last else ACK, payload))
        elif self.fin_sent and self.una != self.nxt:
            pieces.append((self.una, ACK | FIN, b""))
        else:
            return
        self.retransmitted += 1
        self.deadline = now + self.rtt.rto

    def _fill_holes(self, board: Scoreboard, pieces: list[Piece], now: float, quantum: int) -> int:
        """Send again what is lost, as far as the congestion window lets (RFC 6675, section 5, step C).

        Returns what is left of the quantum. When the window stops it, the next acknowledgement goes on.
        """
        self.rtt.stop_timing()
        flight, enough = self.flight, self._enough
        data = flight - self.fin_sent
        while (hole := board.next_hole(enough, head_lost=True, any_hole=not self.unsent)) is not None:
            if quantum <= 0:
                self.retransmit_now = True
                break
            room = self.cc.cwnd - board.pipe(flight, enough, head_lost=True)
            if room < self.mss and not self._first_hole:
                break
            self._first_hole = False  # it alone does not ask (step 4.3)
            start, end = hole
            payload = self._copy(start - board.base, min(end - start, self.max_payload, max(room, self.mss)))
            board.high_rxt = start + len(payload)
            # A hole ends where the peer holds something, so the FIN, which is behind all data, is never in one.
            pieces.append((start & MASK, ACK | PSH if board.high_rxt - board.base == data else ACK, payload))
            quantum -= len(payload)
            self.retransmitted += 1
            self.deadline = now + self.rtt.rto
        return quantum

    def go_back(self) -> None:
        """Put what is in flight back to be sent again from SND.UNA."""
        self.rtt.stop_timing()
        self.recover = self.largest
        self.in_recovery = False
        self.board = None
        self.duplicates = 0
        self.retransmit_now = False
        while self.sent:
            chunk = self.sent.pop()
            self.unsent.appendleft(chunk)
            self.queued += len(chunk)
        self.nxt = self.una
        self.fin_sent = False

    def _resume(self) -> None:
        """Take what `go_back` put back as being on its way: on this link it is delayed, most likely, and not lost.

        What is lost of it the peer's reports tell (RFC 6675), which may begin recovery at once.
        """
        self.recover = self.una
        unsent = self.unsent
        data = ((self.largest - self.nxt) & MASK) - (self.fin_end == self.largest)
        while data > 0:
            head = unsent[0]
            if len(head) > data:
                view = memoryview(head)
                unsent[0], head = view[data:], view[:data]
            else:
                unsent.popleft()
            self.sent.append(head)
            self.queued -= len(head)
            data -= len(head)
        self.fin_sent = self.fin_end == self.largest
        self.nxt = self.largest
