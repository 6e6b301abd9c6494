"""Tells when a limit was reached: its drops are counted, but nobody looks at counters before something is slow.

The counters are looked at every few seconds, so nothing is done where packets pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from . import events

LOOK_EVERY = 5.0
"""Seconds."""
SAY_EVERY = 60.0
"""Seconds in which one limit is told once."""


class LimitWatch:
    """Compares counters with what they were."""

    def __init__(
        self, tell: events.EventSink, loop: asyncio.AbstractEventLoop, drops: Mapping[str, Callable[[], int]],
    ) -> None:
        """`drops`: how often each limit cost something, by the limit's name as a person writes it."""
        self._tell = tell
        self._loop = loop
        self._drops = drops
        self._seen = {name: count() for name, count in drops.items()}
        self._told: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = loop.call_later(LOOK_EVERY, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_EVERY, self._look)
        now = self._loop.time()
        for name, count in self._drops.items():
            more = count() - self._seen[name]
            if more and now - self._told.get(name, -SAY_EVERY) >= SAY_EVERY:
                self._seen[name] += more
                self._told[name] = now
                raising = "`ulimit -n`" if name == "descriptors" else f"--limit {name}=NUMBER (docs/limits.md)"
                self._tell(events.Hint(
                    f"the limit {name} is used up: {more} new flows were dropped or gave way to others;"
                    f" if that many are wanted, raise it by {raising}"
                ))
