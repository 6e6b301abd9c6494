"""What is done about losses.

Phases. In OPEN nothing is known to be lost. What RACK finds lost by the reports of a peer with SACK
(:mod:`.detection`), or three duplicate acknowledgements of one without (RFC 5681, RFC 6582), begins a RECOVERY, until
everything that was in flight then is acknowledged; each of these lowers the window once, and :mod:`.prr` says what may
leave. When the retransmission timer expires, one segment goes out as a question (ASKING). An answer that covers more
shows that the first copies were only late: nothing else is sent again. Else all that the peer does not hold is lost,
and sent again in slow start (REPAIR). What turns out to have been needless is undone (:mod:`.reports`).
"""

from __future__ import annotations

from math import inf

from .detection import TICK, Detection
from .prr import Prr
from .rack import DUPLICATE_THRESHOLD
from .scoreboard import Scoreboard
from .sendqueue import ACK_CWR, ASKING, NOTHING, OPEN, RECOVERY, REPAIR


class Recovery(Detection):
    """A send queue that repairs losses."""

    __slots__ = ()

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
            # A probe that finds losses which `prr` holds back waits for news, not for another one.
            if self.look_at == inf and not self._rescued and not (self._probing and board.lost):
                self.look_at = now + 2 * self.rtt.srtt + TICK
        self._delivered = 0
        self._moved = False
        if self.phase == OPEN and not board:
            self.board = None
            self.look_at = inf

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

    def ece(self, flight: int, now: float) -> None:
        """The peer echoes a mark of congestion (RFC 3168, section 6.1.2): react, once a window, and say so with CWR.

        `flight`: what was in flight when the echo came. Until new data could say so, the echo goes on and is no news.
        """
        if self.base < self._cwr_end or self._data_flags == ACK_CWR:
            return
        self._cwr_end = self.base + self.flight
        self._data_flags = ACK_CWR
        if self.phase == OPEN and flight:
            self.cc.reduce(min(flight, self.cc.cwnd), now)
            self.cc.settle()
            self._undo_since = NOTHING
