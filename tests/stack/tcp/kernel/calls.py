"""What a program does with its connection, by chance, and how much it has sent by that."""

from __future__ import annotations

import random
from collections.abc import Sequence

MOST_WRITES = 3
"""Linux counts its congestion window in packets and we in bytes: neither is to be full."""


class Calls:
    """One after another, by `weights`."""

    def __init__(self, draw: random.Random, calls: Sequence[str], weights: Sequence[int]) -> None:
        self.host_next = 1
        """One past what the host may have sent."""
        self._draw = draw
        self._calls = calls
        self._weights = weights[: len(calls)]
        self._ended = False
        self._writes = 0

    def one(self) -> str:
        """The next."""
        (call,) = self._draw.choices(self._calls, self._weights)
        if not self._ended:
            if call.startswith("write"):
                self._writes += 1
                if self._writes > MOST_WRITES:
                    return "read"
                self.host_next += int(call.split()[1])
            elif call in {"shutdown", "close"}:
                self.host_next += 1
                self._ended = True
        return call
