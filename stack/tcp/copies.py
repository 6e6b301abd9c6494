"""What is sent again, and how much may be: RFC 6675's SetPipe and NextSeg, for super-segments.

Only what is lost of a super-segment is sent again, and as one packet where it is in one piece. NextSeg's rule 3 sends
what may be lost for want of anything better; that is left to RACK's timer, which will know. Its rule 4 waits for the
time at which RFC 8985 would probe.
"""

from __future__ import annotations

from math import inf

from .scoreboard import SACKED, Scoreboard
from .segment import ACK, FIN, PSH
from .sendqueue import Piece, SendQueue
from .seq import MASK


class Copies(SendQueue):
    """A send queue that sends again."""

    __slots__ = ()

    def _marks(self) -> Scoreboard:
        """The scoreboard, from now on if there is none."""
        if self.board is None:
            self.board = Scoreboard()
            self.board.checked = self.base
            self.rtt.stop_timing()  # acknowledgements may wait for a copy now
        return self.board

    def _usable(self) -> int:
        """Bytes of new data that both windows take now."""
        flight = (self.nxt - self.una) & MASK
        pipe = flight if self.board is None else flight - self.board.gone
        return min(self.wnd - flight, self.cc.cwnd - pipe)

    def _next_copy(self) -> tuple[int, int] | None:
        """What to send again now, from position to position; None: nothing, or not now."""
        board = self.board
        if board is None or (found := board.first_lost()) is None:
            return None
        start, end, _ = found
        # The peer may have shrunk its window (RFC 9293, section 3.8.6); where it is closed the persist timer asks.
        size = min(end - start, self.max_payload, self.wnd - (start - self.base))
        room = self.cc.cwnd - ((self.nxt - self.una & MASK) - board.gone)
        if self._forced:
            room = max(room, self.mss)
        if room < size:
            size = room // self.mss * self.mss
        return (start, start + size) if size > 0 else None

    def _resend(self, pieces: list[Piece], now: float, quantum: int) -> int:
        """Send again what is lost, as far as the windows let; returns what is left of the quantum."""
        while quantum > 0 and (found := self._next_copy()) is not None:
            self._forced = False
            start, end = found
            self._put_copy(pieces, start, end, now)
            quantum -= end - start
        return quantum

    def _put_copy(self, pieces: list[Piece], start: int, end: int, now: float) -> None:
        board = self._marks()
        board.resend(start, end, now)
        self.rtt.stop_timing()  # what was timed may wait for this copy
        self._run_until = -inf  # what leaves after it must not look older
        base = self.base
        data = base + ((self.nxt - self.una) & MASK) - self.fin_sent
        size = min(end, data) - start
        flags = ACK | FIN if end > data else ACK | PSH if end == data else ACK
        payload = self._copy(start - base, size) if size > 0 else b""
        pieces.append(((self.una + start - base) & MASK, flags, payload))
        self.retransmitted += 1
        if not board.holds(base):  # else it is soon to be asked about that
            self.deadline = now + self.rtt.rto
        self.persisting = False
        if self._undo_since == inf:
            self._undo_since = now
        self._undo_copies += end - start
        if self.prr is not None:
            self.prr.out += end - start

    def _rescue(self, board: Scoreboard, pieces: list[Piece], now: float) -> None:
        """RFC 6675's rescue retransmission (NextSeg, rule 4): in a recovery without news for two round trips, the last
        of what the peer does not hold goes out again, once. Its answer tells which copies were lost.
        """
        for start, end, mark in reversed(board.look(self.base, self.base + self.flight)):
            if mark != SACKED:
                if now - (mark if mark >= 0 else self._sent_at(end - 1)) >= 2 * self.rtt.srtt:
                    self._rescued = True
                    self._put_copy(pieces, max(start, end - self.mss), end, now)
                break
        else:
            self._rescued = True  # the peer holds all of it
