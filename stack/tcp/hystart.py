"""HyStart++: leave slow start when round trips grow, before packets are lost (RFC 9406).

Each round trip's shortest sample is compared with that of the one before. When it grew, the window grows on at a
quarter of the pace (conservative slow start, CSS) for five rounds; if round trips shrink again meanwhile, the growth
was jitter, and slow start goes on.
"""

from __future__ import annotations

from math import inf

MIN_THRESH, MAX_THRESH, DIVISOR = 0.004, 0.016, 8
"""Seconds a round's shortest round trip has to grow by: an eighth, within these (section 4.3)."""
ENOUGH_SAMPLES = 8
CSS_DIVISOR = 4
CSS_ROUNDS = 5


class HyStart:
    """The rounds of the first slow start."""

    __slots__ = ("_baseline", "_current", "_end", "_last", "_rounds", "_samples", "slow")

    def __init__(self) -> None:
        self._current = self._last = self._baseline = inf
        self._samples = 0
        self._end = 0
        """The position at whose acknowledgement this round ends."""
        self._rounds = 0
        self.slow = False
        """In CSS: the window grows at a quarter of the pace."""

    def round_trip(self, rtt: float, acked: int, sent: int) -> bool:
        """A sample; the positions up to which data is acknowledged and sent. True: slow start is over."""
        if acked >= self._end:
            self._end = sent
            self._last, self._current = self._current, inf
            self._samples = 0
            if self.slow:
                self._rounds += 1
                if self._rounds >= CSS_ROUNDS:
                    return True
        self._current = min(self._current, rtt)
        self._samples += 1
        if self._samples < ENOUGH_SAMPLES:
            return False
        if self.slow:
            if self._current < self._baseline:
                self.slow = False
        elif self._last < inf and self._current >= self._last + min(max(self._last / DIVISOR, MIN_THRESH), MAX_THRESH):
            self.slow = True
            self._baseline = self._current
            self._rounds = 0
        return False
