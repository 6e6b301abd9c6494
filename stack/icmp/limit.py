"""How often errors may be sent (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f)): a token bucket with noise.

An exact bucket is an oracle: by exhausting it and counting what comes back, an outsider learns which of our ports are
open (SAD DNS, CVE-2020-25705). So each error costs nothing, one token or two, at random, one on average.
"""

from __future__ import annotations

import random

RATE = 1000.0
"""Errors a second: enough for traceroute and scans in good faith, far below what would crowd a link."""
BURST = 250


class TokenBucket:
    """Whether one more error may go out."""

    __slots__ = ("_at", "_burst", "_random", "_rate", "_tokens")

    def __init__(self, *, rate: float = RATE, burst: int = BURST, seed: int | None = None) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = float("-inf")
        self._random = random.Random(seed)  # noqa: S311  (a rate, not a secret)

    def take(self, now: float) -> bool:
        """Spend tokens for one error; False when there are none left."""
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= self._random.randrange(3)  # one token of debt keeps the average at one
        return True
