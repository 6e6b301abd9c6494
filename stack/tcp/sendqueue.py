"""The sequence space and the chunks of the data that goes out: queued, in flight, acknowledged.

Data stays in the chunks it came in (what one read of a host socket returned), from `unsent` to `sent` to acknowledged;
only small chunks are joined, so that a chunk of up to 64 KiB leaves as one super-segment without a copy.
"""

from __future__ import annotations

from collections import deque
from math import inf

from .congestion import CongestionControl
from .rto import MAX_RTO, MIN_RTO, RtoEstimator
from .scoreboard import Scoreboard
from .seq import MASK

Chunk = bytes | memoryview
Piece = tuple[int, int, Chunk]
"""What to send: sequence number, flags, payload."""

JOIN_BELOW = 16 * 1024
"""Chunks smaller than this are joined with what follows: a copy costs less than one more packet."""

KEEP_APART = 4096
"""Sent chunks smaller than this are kept as one: an object for each tiny one costs twenty times its bytes."""


class SendQueue:
    """The state of the sending half, and what is done to its queue."""

    __slots__ = (
        "_first_hole", "_longest_persist", "board", "cc", "deadline", "duplicates", "fin_end", "fin_queued",
        "fin_sent", "in_recovery", "iss", "largest", "max_payload", "max_wnd", "mss", "nxt", "persisting", "queued",
        "recover", "retransmit_now", "retransmitted", "retries", "rtt", "sack", "scale", "sent", "una", "unsent",
        "wl1", "wl2", "wnd",
    )  # fmt: skip

    def __init__(
        self, iss: int, mss: int, max_payload: int, cc: CongestionControl, min_rto: float = MIN_RTO,
        longest_persist: float = MAX_RTO,
    ) -> None:  # fmt: skip
        self.iss = iss
        self.una = iss
        """SND.UNA."""
        self.nxt = iss
        """SND.NXT; goes back to SND.UNA at a retransmission timeout."""
        self.largest = iss
        """The highest sequence number ever sent (exclusive): what an acknowledgement may cover."""
        self.wnd = 0
        """SND.WND in bytes."""
        self.max_wnd = 0
        """The largest window the peer ever showed (MAX.SND.WND of RFC 5961)."""
        self.wl1 = 0
        self.wl2 = 0
        self.scale = 0
        """The peer's shift."""
        self.mss = mss
        """Payload of one segment on the wire; a super-segment is a multiple of it."""
        self.max_payload = max_payload
        """Payload of the largest packet handed to the link: one segment, or the largest super-segment."""
        self.cc = cc
        self.rtt = RtoEstimator(minimum=min_rto)
        self._longest_persist = longest_persist
        self.unsent: deque[Chunk] = deque()
        self.sent: deque[Chunk] = deque()
        self.queued = 0
        """Bytes in `unsent`."""
        self.fin_queued = False
        self.fin_sent = False
        self.fin_end: int | None = None
        """The sequence number after our FIN, once it was sent for the first time."""
        self.deadline = inf
        """When the retransmission or persist timer expires."""
        self.persisting = False
        """The deadline is the persist timer's."""
        self.retries = 0
        """Expiries in a row without an answer."""
        self.duplicates = 0
        self.sack = False
        """Both sides use selective acknowledgements."""
        self.board: Scoreboard | None = None
        """What the peer holds beyond SND.UNA; None while there is nothing."""
        self.in_recovery = False
        self._first_hole = False
        """The first hole of this recovery is still to be sent."""
        self.recover = iss
        """RFC 6582's recover: where recovery ends."""
        self.retransmit_now = False
        """Fast retransmit: the first segment of `sent` is to be sent again."""
        self.retransmitted = 0
        """Segments sent again, for the counters."""

    @property
    def flight(self) -> int:
        """Sequence numbers sent and not acknowledged."""
        return (self.nxt - self.una) & MASK

    def write(self, data: bytes) -> None:
        """Queue a chunk. It is kept, not copied."""
        self.unsent.append(data)
        self.queued += len(data)

    def _keep_sent(self, payload: Chunk) -> None:
        """Keep what has just left until it is acknowledged."""
        sent = self.sent
        if sent and len(payload) < KEEP_APART and len(sent[-1]) < KEEP_APART:
            sent[-1] = b"".join((sent[-1], payload))
        else:
            sent.append(payload)

    def _drop(self, count: int) -> None:
        """Forget `count` acknowledged bytes, first of what is in flight, then of what was put back by a timeout."""
        sent = self.sent
        while count and sent:
            head = sent[0]
            size = len(head)
            if size > count:
                sent[0] = memoryview(head)[count:]
                return
            sent.popleft()
            count -= size
        unsent = self.unsent
        while count and unsent:
            head = unsent[0]
            size = len(head)
            if size > count:
                unsent[0] = memoryview(head)[count:]
                self.queued -= count
                return
            unsent.popleft()
            self.queued -= size
            count -= size

    def _next_payload(self, room: int) -> Chunk:
        unsent = self.unsent
        head = unsent[0]
        size = len(head)
        if size > room:
            view = memoryview(head)
            unsent[0] = view[room:]
            return view[:room]
        unsent.popleft()
        if size >= JOIN_BELOW or not unsent or size == room:
            return head
        parts = [head]
        while unsent and size < room:
            head = unsent[0]
            more = len(head)
            if size + more > room:
                view = memoryview(head)
                parts.append(view[: room - size])
                unsent[0] = view[room - size :]
                break
            parts.append(unsent.popleft())
            size += more
        return b"".join(parts)

    def _copy(self, offset: int, size: int) -> Chunk:
        """`size` bytes in flight from `offset` behind SND.UNA on."""
        parts: list[Chunk] = []
        for chunk in self.sent:
            if offset >= len(chunk):
                offset -= len(chunk)
                continue
            part = memoryview(chunk)[offset : offset + size]
            parts.append(part)
            size -= len(part)
            offset = 0
            if not size:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)
