"""The receiving half: what is next, what came early, what the reader has not taken, and the window it leaves.

In-order payload is offered to the reader as a view, without a copy; what the reader does not take at once waits in
`backlog`, and the window shrinks by it from the left only: the right edge once shown never moves back (RFC 9293,
section 3.8.6). The window doubles each time the reader took a window's worth, up to the configured maximum and while
the budget that all connections share is less than half used; a reader that stalls holds what it had.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .config import TcpConfig
from .reassembly import Reassembly, unwrap
from .seq import MASK

Reader = Callable[[memoryview], int]
"""Takes a view, valid during the call only, and says how many of its bytes it took."""


class Budget:
    """Unread bytes of all connections of a stack, against one limit."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class Receiver:
    """Sequence space and buffers of the data that comes in."""

    __slots__ = (
        "_budget", "_grow_at", "_max", "_position", "_reader", "adv", "backlog", "backlog_bytes", "buffer", "early",
        "irs", "nxt", "scale",
    )  # fmt: skip

    def __init__(self, config: TcpConfig, budget: Budget, reader: Reader) -> None:
        self.irs = 0
        self.nxt = 0
        """RCV.NXT."""
        self.adv = 0
        """The right edge last advertised: RCV.NXT + RCV.WND as the peer knows it."""
        self.scale = 0
        """Our shift; 0 unless both sides scale."""
        self.buffer = config.receive_window
        """Bytes this connection may hold now."""
        self.backlog: deque[bytes | memoryview] = deque()
        """In order, acknowledged, not yet taken by the reader."""
        self.backlog_bytes = 0
        self.early = Reassembly()
        self._max = config.max_receive_window
        self._budget = budget
        self._reader = reader
        self._position = 0
        """RCV.NXT without the wrap, for the reassembly queue."""
        self._grow_at = self.buffer
        """Bytes still to be taken by the reader before the window doubles."""

    def start(self, irs: int, scale: int) -> None:
        """The peer's SYN came with sequence number `irs`."""
        self.irs = irs
        self.nxt = self._position = (irs + 1) & MASK
        self.scale = scale
        self.adv = self.nxt
        self._max = min(self._max, 0xFFFF << scale)
        self.buffer = min(self.buffer, self._max)

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

    def deliver(self, payload: memoryview) -> None:
        """Take payload that starts at RCV.NXT and fits the window."""
        size = len(payload)
        self.nxt = (self.nxt + size) & MASK
        self._position += size
        if self.backlog_bytes:
            self._keep(payload)
        else:
            taken = self._reader(payload)
            self._took(taken)
            if taken < size:
                self._keep(payload[taken:])
        if self.early:
            self._take_early()

    def keep_early(self, seq: int, payload: memoryview) -> bool:
        """Keep payload that starts beyond RCV.NXT; False when a bound forbids it."""
        # 75 % of the window: the missing piece must still find room (RFC 5961's advice for reassembly bombs).
        return self.early.insert(unwrap(self._position, seq), bytes(payload), self.buffer * 3 // 4)

    def drain(self) -> None:
        """The reader has room again: offer it what waits."""
        backlog = self.backlog
        while backlog:
            head = memoryview(backlog[0])
            taken = self._reader(head)
            self._took(taken)
            self.backlog_bytes -= taken
            self._budget.used -= taken
            if taken < len(head):
                backlog[0] = head[taken:]
                return
            backlog.popleft()

    def release(self) -> None:
        """The connection ended: give the budget back."""
        self._budget.used -= self.backlog_bytes
        self.backlog.clear()
        self.backlog_bytes = 0
        self.early = Reassembly()

    def advertise(self, mss: int) -> int:
        """The window field for the segment about to leave; moves the right edge where that is worth telling."""
        edge = self.target_edge()
        gain = (edge - self.adv) & MASK
        # Silly-window avoidance (RFC 9293, section 3.8.6.2.2): open by a segment or half the buffer, or not at all.
        if 0 < gain < 0x8000_0000 and (gain >= mss or gain * 2 >= self.buffer):
            self.adv = edge
        # Rounded up: rounding down would take back bytes of the edge shown before, as RCV.NXT moves by odd amounts.
        scale = self.scale
        field = (((self.adv - self.nxt) & MASK) + (1 << scale) - 1) >> scale
        if field > 0xFFFF:
            field = 0xFFFF
        self.adv = (self.nxt + (field << scale)) & MASK
        return field

    def target_edge(self) -> int:
        """Where the right edge could be, given what waits here and what the whole stack holds."""
        budget = self._budget
        room = self.buffer - self.backlog_bytes
        if room < 0 or (budget.used > budget.limit and self.backlog_bytes):
            room = 0
        return (self.nxt + room) & MASK

    def update_due(self, mss: int) -> bool:
        """Whether the window opened enough to tell the peer unasked (by two segments and a quarter of the buffer)."""
        gain = (self.target_edge() - self.adv) & MASK
        return 2 * mss <= gain < 0x8000_0000 and gain * 4 >= self.buffer

    def _keep(self, payload: memoryview) -> None:
        self.backlog.append(bytes(payload))
        self.backlog_bytes += len(payload)
        self._budget.used += len(payload)

    def _took(self, count: int) -> None:
        self._grow_at -= count
        if self._grow_at <= 0:
            self._grow_at = self.buffer
            # Not while much lies unread anywhere: a larger window would only hold more of it.
            if self.buffer < self._max and self._budget.used * 2 < self._budget.limit:
                self.buffer = min(self.buffer * 2, self._max)
                self._grow_at = self.buffer

    def _take_early(self) -> None:
        while (data := self.early.take(self._position)) is not None:
            self.nxt = (self.nxt + len(data)) & MASK
            self._position += len(data)
            view = memoryview(data)
            taken = 0 if self.backlog_bytes else self._reader(view)
            self._took(taken)
            if taken < len(data):
                self._keep(view[taken:])
