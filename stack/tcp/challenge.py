"""How many challenge ACKs all connections together may send (RFC 5961, section 7).

Each answers a segment that may be forged, so without a limit a flood of forgeries is answered in full. But a limit
that is shared and exact tells an attacker with a connection of his own how many of them others caused, and so whether
he guessed their numbers right (CVE-2016-5696). What a second allows is therefore drawn anew each second.
"""

from __future__ import annotations

from secrets import randbelow

INTERVAL = 1.0


class ChallengeLimit:
    """About `rate` a second: from half of it to one and a half."""

    __slots__ = ("_left", "_until", "rate")

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._until = 0.0
        self._left = 0

    def allows(self, now: float) -> bool:
        """Whether one more may be sent; if so it is counted."""
        if not 0.0 < self._until - now <= INTERVAL:
            self._until = now + INTERVAL
            self._left = self.rate // 2 + randbelow(self.rate + 1)
        if not self._left:
            return False
        self._left -= 1
        return True
