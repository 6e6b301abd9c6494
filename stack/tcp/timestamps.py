"""The timestamps of one connection, both ways (RFC 7323, sections 3 to 5).

Ours are milliseconds of the stack's clock plus an offset that is secret and the connection's own: it tells nobody how
long this machine runs, and, being the same for the same addresses and ports, lets a connection that uses them again
go on where the last one ended (RFC 6191; a peer's PAWS). The peer's are only compared with each other and echoed.
"""

from __future__ import annotations

from .segment import STAMP_LAYOUT, STAMPED, Stamp
from .seq import HALF, MASK

TICKS_A_SECOND = 1000
"""RFC 7323, section 5.4: a tick of 1 ms to 1 s. The finest that is allowed measures best."""
VALID_FOR = 24 * 86400.0
"""Seconds: a peer that ticks each millisecond has gone half around in 24.8 days, and what is newer cannot be told
(section 5.5)."""


class Stamps:
    """What is sent as TSval and TSecr, and what the peer's timestamps say."""

    __slots__ = ("_began", "_offset", "acked", "recent", "recent_at")

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._began = 0
        """The clock's tick at our first segment."""
        self.recent = 0
        """TS.Recent: what is echoed."""
        self.recent_at: float | None = None
        """When it was taken; None: from the handshake."""
        self.acked = 0
        """Last.ACK.sent."""

    def begin(self, now: float) -> None:
        """The first segment leaves."""
        self._began = int(now * TICKS_A_SECOND)

    def option(self, now: float) -> bytes:
        """The option as every segment but a SYN carries it, in the layout that header prediction looks for."""
        return STAMPED.pack(STAMP_LAYOUT, (int(now * TICKS_A_SECOND) + self._offset) & MASK, self.recent)

    def pair(self, now: float) -> Stamp:
        """TSval and TSecr, for a SYN."""
        return (int(now * TICKS_A_SECOND) + self._offset) & MASK, self.recent

    def outdated(self, value: int, now: float) -> bool:
        """Whether a segment with this TSval is an old duplicate (PAWS, section 5.3, R1)."""
        if not (value - self.recent) & HALF:
            return False
        return self.recent_at is None or now - self.recent_at < VALID_FOR

    def take(self, value: int, seq: int, now: float) -> None:
        """Remember TSval of an acceptable segment that is not outdated, if it is the one to echo (section 4.3): of the
        segments that one acknowledgement answers the earliest, so that the peer's measure includes our delay.
        """
        if not (self.acked - seq) & HALF:
            self.recent = value
            self.recent_at = now

    def round_trip(self, echo: int, now: float) -> float | None:
        """Seconds since the segment left whose TSval came back; None when none of ours bore it.

        Up to a tick too long: when within its tick it left is not known.
        """
        ticks = now * TICKS_A_SECOND
        age = (int(ticks) + self._offset - echo) & MASK
        if age > int(ticks) - self._began:
            return None
        return (age + ticks % 1) / TICKS_A_SECOND
