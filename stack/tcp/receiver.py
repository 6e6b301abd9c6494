"""The receiving half: what is next, what came early, what the reader has not taken, and the window it leaves.

In-order payload is offered to the reader as a view, without a copy; what the reader does not take at once waits in
`backlog`, and the window shrinks by it from the left only: the right edge once shown never moves back (RFC 9293,
section 3.8.6). The window doubles when the reader took a window's worth within a few round trips, up to the configured
maximum and as the budget that all connections share allows (:mod:`.budget`). Then the window was what held the flow
up; one that takes longer is held up elsewhere, a larger window would only make a queue there, and where others want
the memory it halves.

What the budget does not let us keep is not acknowledged either, so the peer sends it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf

from .budget import FLOOR, Budget
from .config import TcpConfig
from .reassembly import BLOCK_COST, Reassembly, unwrap
from .segment import Block
from .seq import HALF, MASK

Reader = Callable[[memoryview], int]
"""Takes a view, valid during the call only, and says how many of its bytes it took."""
JOIN_BELOW = 4096
"""Unread chunks smaller than this are joined."""
ROUND_TRIPS = 4
"""In which the reader must take a whole window for the window to grow."""
SHORTEST = 0.005
"""Seconds; round trips shorter than what a busy event loop needs for a turn tell nothing."""
UNKNOWN = 1.0
"""Seconds taken for so many round trips while none was measured: longer than most."""


class Receiver:
    """Sequence space and buffers of the data that comes in."""

    __slots__ = (
        "_budget", "_first", "_grow_at", "_max", "_over", "_position", "_taken_since", "adv", "backlog",
        "backlog_bytes", "buffer", "early", "edge", "irs", "nxt", "quick", "reader", "scale", "was_closed",
    )  # fmt: skip

    def __init__(self, config: TcpConfig, budget: Budget, reader: Reader) -> None:
        self.irs = 0
        self.nxt = 0
        """RCV.NXT."""
        self.adv = 0
        """The right edge last advertised: RCV.NXT + RCV.WND as the peer knows it, rounded up by the scale."""
        self.edge = 0
        """The right edge that was meant: less than a unit of the scale before `adv`, and never moving back."""
        self.was_closed = False
        """The window was shown as 0, and no payload came since."""
        self.scale = 0
        """Our shift; 0 unless both sides scale."""
        self.buffer = self._first = config.receive_window
        """Bytes this connection may hold now."""
        self.backlog: deque[bytes | memoryview] | None = None
        """In order, acknowledged, not yet taken by the reader; None without any: an empty deque takes 760 bytes."""
        self.backlog_bytes = 0
        self.early = Reassembly()
        self._max = config.max_receive_window
        self._budget = budget
        self.reader = reader
        self._position = 0
        """RCV.NXT without the wrap, for the reassembly queue."""
        self._grow_at = self.buffer
        """Bytes still to be taken by the reader before the window may double."""
        self._taken_since = inf
        """When the reader began to take them."""
        self._over = False
        self.quick = UNKNOWN
        """Seconds within which a window's worth must be taken for the window to grow."""

    def start(self, irs: int, scale: int) -> None:
        """The peer's SYN came with sequence number `irs`."""
        self.irs = irs
        self.nxt = self._position = (irs + 1) & MASK
        self.scale = scale
        self.adv = self.edge = self.nxt
        self._max = min(self._max, 0xFFFF << scale)
        self.buffer = self._first = min(self.buffer, self._max)

    def round_trip(self, seconds: float) -> None:
        """The handshake took that long; the path is hardly quicker with data on it."""
        self.quick = max(ROUND_TRIPS * seconds, SHORTEST)

    @property
    def window(self) -> int:
        """What the peer may still send: RCV.WND in bytes."""
        return (self.adv - self.nxt) & MASK

    def acceptable(self, seq: int, length: int) -> bool:
        """RFC 9293, section 3.10.7.4, table 6."""
        window = self.window
        if length == 0:
            return seq == self.nxt if window == 0 else ((seq - self.nxt) & MASK) < window
        if window == 0:
            return False
        return ((seq - self.nxt) & MASK) < window or ((seq + length - 1 - self.nxt) & MASK) < window

    def deliver(self, payload: memoryview, now: float) -> None:
        """Take payload that starts at RCV.NXT and fits the window; less of it where the budget forbids more."""
        size = len(payload)
        self.was_closed = False
        if self.backlog_bytes:
            taken = 0
        else:
            taken = self.reader(payload)
            if self._over:
                return  # the reader ended the connection
            self._grow_at -= taken
            if self._grow_at <= 0:
                self._widen(now)
        if taken < size and not self._keep(payload[taken:]):
            size = taken
        self.nxt = (self.nxt + size) & MASK
        self._position += size
        if self.early.size:
            self._take_early(now)

    def keep_early(self, seq: int, payload: memoryview) -> bool:
        """Keep payload that starts beyond RCV.NXT; False when a bound forbids it."""
        budget, early = self._budget, self.early
        before = early.cost
        if budget.refuses(len(payload) + BLOCK_COST, self.backlog_bytes + before):
            return False
        # All of the window that was shown: what is refused of it has to come again, after the sender's timeout.
        kept = early.insert(unwrap(self._position, seq), bytes(payload), self.window)
        budget.used += early.cost - before
        return kept

    def forget_early(self) -> None:
        """The peer said all: what it claims to have said beyond that is no data."""
        early = self.early
        if early.size:
            self._budget.used -= early.cost
            self.early = Reassembly()

    def sacks(self, most: int) -> list[Block]:
        """Up to `most` ranges of what is held beyond RCV.NXT, for the SACK option."""
        return [(start & MASK, end & MASK) for start, end in self.early.ranges(most)]

    def repeated(self, seq: int, length: int) -> Block | None:
        """Which of the `length` numbers from `seq` on, at or after RCV.NXT, are held already: the first run of them."""
        found = self.early.repeated(unwrap(self._position, seq), length)
        return None if found is None else (found[0] & MASK, found[1] & MASK)

    def drain(self, now: float) -> None:
        """The reader has room again: offer it what waits."""
        backlog = self.backlog
        if backlog is None:
            return
        while backlog:
            head = memoryview(backlog[0])
            taken = self.reader(head)
            if self._over:
                return  # the reader ended the connection
            self._grow_at -= taken
            self.backlog_bytes -= taken
            self._budget.used -= taken
            if self._grow_at <= 0:
                self._widen(now)
            if taken < len(head):
                backlog[0] = head[taken:]
                return
            backlog.popleft()
        self.backlog = None

    def release(self) -> None:
        """The connection ended: give the budget back."""
        self._over = True
        self._budget.used -= self.backlog_bytes + self.early.cost
        self.narrow()
        self.backlog = None
        self.backlog_bytes = 0
        self.early = Reassembly()

    def show(self, window: int) -> None:
        """The window that a SYN shows, which is never scaled."""
        self.adv = self.edge = (self.nxt + window) & MASK

    def advertise(self, mss: int) -> int:
        """The window field for the segment about to leave; moves the right edge where that is worth telling."""
        edge = self.target_edge()
        gain = (edge - self.edge) & MASK
        # Silly-window avoidance (RFC 9293, section 3.8.6.2.2): open by a segment or half the buffer, or not at all.
        if 0 < gain < HALF and (gain >= mss or gain * 2 >= self.buffer):
            self.edge = edge
        left = (self.edge - self.nxt) & MASK
        if left & HALF:
            left = 0  # the peer used what the rounding had added
        # Rounded up: rounding down would take back bytes of the edge shown before, as RCV.NXT moves by odd amounts.
        scale = self.scale
        field = (left + (1 << scale) - 1) >> scale
        if field > 0xFFFF:
            field = 0xFFFF
            self.edge = (self.nxt + (field << scale)) & MASK
        shown = (self.nxt + (field << scale)) & MASK
        if (self.adv - shown) & HALF:
            self.adv = shown
        if not field:
            self.was_closed = True
        return field

    def target_edge(self) -> int:
        """Where the right edge could be, given what waits here and what the whole stack holds."""
        held = self.backlog_bytes
        buffer = min(self.buffer, FLOOR) if held and self._budget.tight else self.buffer
        return (self.nxt + max(buffer - held, 0)) & MASK

    def update_due(self, mss: int) -> bool:
        """Whether the window opened enough to tell the peer unasked: by two segments and a quarter of the buffer, or
        by half of a buffer that holds no two segments.
        """
        gain = (self.target_edge() - self.edge) & MASK
        return min(2 * mss, self.buffer // 2) <= gain < HALF and gain * 4 >= self.buffer

    def _keep(self, payload: memoryview) -> bool:
        """Hold what the reader did not take, if the budget allows."""
        if self._over or self._budget.refuses(len(payload), self.backlog_bytes):
            return False
        self._hold(payload)
        return True

    def _hold(self, payload: memoryview) -> None:
        size = len(payload)
        backlog = self.backlog
        if backlog is None:
            backlog = self.backlog = deque()
        if backlog and size < JOIN_BELOW and len(backlog[-1]) < JOIN_BELOW:
            backlog[-1] = b"".join((backlog[-1], payload))  # an object for each tiny segment costs more than its bytes
        else:
            backlog.append(bytes(payload))
        self.backlog_bytes += size
        self._budget.used += size

    def _widen(self, now: float) -> None:
        """The reader took a window's worth: double the window if that was quick, else give back what others want."""
        quick = now - self._taken_since <= self.quick
        self._taken_since = now
        if quick:
            self.buffer += self._budget.regrow(self.buffer - self._first, min(self.buffer, self._max - self.buffer))
        elif self._budget.wanted:
            self.narrow(self.buffer // 2)
        self._grow_at = self.buffer

    def narrow(self, to: int = 0) -> None:
        """Give back what the window exceeds `to` by, as far as it was granted. What was shown stays good."""
        less = self.buffer - max(to, self._first)
        if less > 0:
            self.buffer -= less
            self._budget.narrow(less)
            self._grow_at = min(self._grow_at, self.buffer)

    def _take_early(self, now: float) -> None:
        budget = self._budget
        while True:
            early = self.early
            before = early.cost
            data = early.take(self._position)
            budget.used += early.cost - before
            if data is None:
                return
            self.nxt = (self.nxt + len(data)) & MASK
            self._position += len(data)
            view = memoryview(data)
            taken = 0 if self.backlog_bytes else self.reader(view)
            if self._over:
                return  # the reader ended the connection
            self._grow_at -= taken
            if self._grow_at <= 0:
                self._widen(now)
            if taken < len(data):
                self._hold(view[taken:])  # acknowledged long since: no budget may refuse it now
