"""The clock of a stack: monotonic seconds, which stand still while the link is interrupted.

A link that is interrupted and goes on loses nothing, but takes longer than any timer allows for. With a clock that
stands still meanwhile no timer can tell: nothing is retransmitted, probed or given up because of the pause, and round
trips are measured without it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class Clock:
    """`now` is a plain function, exchanged when the clock stops or goes on: it is called for every packet."""

    __slots__ = ("_behind", "_stopped_at", "now")

    def __init__(self) -> None:
        self.now: Callable[[], float] = monotonic
        """Seconds since some moment of the past."""
        self._behind = 0.0
        self._stopped_at: float | None = None

    @property
    def stopped(self) -> bool:
        """Whether time stands still."""
        return self._stopped_at is not None

    def stop(self) -> None:
        """Stand still. Idempotent."""
        if self._stopped_at is None:
            at = self._stopped_at = self.now()
            self.now = lambda: at

    def go_on(self) -> None:
        """Go on where it stopped. Idempotent."""
        if self._stopped_at is not None:
            behind = self._behind = monotonic() - self._stopped_at
            self._stopped_at = None
            self.now = lambda: monotonic() - behind
