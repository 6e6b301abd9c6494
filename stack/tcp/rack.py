"""RACK: what was sent well before something that arrived is lost (RFC 8985, section 6).

The evidence is the latest sending of which the peer has confirmed the arrival. How much earlier is well before, the
reordering window says: nothing while three segments beyond a hole have arrived and the path was never seen to reorder
(the rule of RFC 6675), else a quarter of the shortest round trip, more after each round trip in which the peer reported
that a copy of ours was needless (RFC 2883), less again after sixteen recoveries.
"""

from __future__ import annotations

DUPLICATE_THRESHOLD = 3
"""DupThresh of RFC 6675, section 2."""
PERSIST = 16
"""Recoveries for which a widened reordering window lasts (RFC 8985, section 6.2, step 4)."""

LEAST = 0.001
"""Seconds: the reordering window on the shortest paths, where a timer is no more exact."""

Sending = tuple[float, int]
"""When, and the position after the last byte: what left at the same time left in this order."""
NONE: Sending = (-1.0, 0)


class Rack:
    """The evidence and the reordering window of one connection."""

    __slots__ = (
        "_again", "_dsack_round", "_first", "_persist", "_timed", "by_copy", "highest", "latest", "multiple",
        "reordering", "rtt",
    )  # fmt: skip

    def __init__(self) -> None:
        self.latest: Sending = NONE
        """The latest sending that is known to have arrived (RACK.xmit_ts, RACK.end_seq)."""
        self.by_copy = False
        """It was sent again then."""
        self.rtt = 0.0
        """How long it took, seconds."""
        self.highest = 0
        """The position after the highest byte that is known to have arrived (RACK.fack)."""
        self.reordering = False
        """The path was seen to deliver out of order."""
        self.multiple = 1
        """Quarters of the shortest round trip in the reordering window."""
        self._persist = 0
        self._dsack_round = -1
        self._first = NONE
        self._again = NONE
        self._timed = -1.0

    def arrived(self, sent_at: float, end: int, *, again: bool, timed: bool = False) -> None:
        """What was sent then, for the first time or again, has been confirmed; `timed`: at once when it came."""
        if again:
            self._again = max(self._again, (sent_at, end))
        else:
            self._first = max(self._first, (sent_at, end))
            if timed:
                self._timed = max(self._timed, sent_at)
            if end < self.highest:
                self.reordering = True  # step 3: what came first had been sent later
        if end > self.highest:
            self.highest = end

    def weigh(self, now: float, min_rtt: float, *, copies: bool) -> float:
        """Judge what arrived since the last call (step 2); the round trip of what was timed, or a negative number.

        What was sent twice and is confirmed sooner than any round trip took was confirmed for its first sending.
        Without `copies` what was sent twice is no evidence at all.
        """
        first, again, timed = self._first, self._again, self._timed
        self._first = self._again = NONE
        self._timed = -1.0
        best = first
        if copies and again > best and now - again[0] >= min_rtt:
            best = again
        if best > self.latest:
            self.latest = best
            self.by_copy = best is again
            self.rtt = now - best[0]
        return now - timed if timed >= 0 else -1.0

    def window(self, min_rtt: float, srtt: float, *, sure: bool) -> float:
        """The reordering window in seconds (step 4); `sure`: by DupThresh, or in recovery."""
        if sure and not self.reordering:
            return 0.0
        return max(min(self.multiple * min_rtt / 4, srtt), LEAST)

    def needless(self, base: int, nxt: int) -> None:
        """A copy was reported as needless: widen, at most once a round trip."""
        if base >= self._dsack_round:
            self._dsack_round = nxt
            self.multiple += 1
        self._persist = PERSIST

    def recovered(self) -> None:
        """A recovery ended."""
        self._persist -= 1
        if self._persist <= 0:
            self.multiple = 1
