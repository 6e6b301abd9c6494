"""Whether the other end is still there: it is asked when it was silent, and given up when it does not answer.

A path that dies (Wi-Fi left behind, a laptop that slept, a frozen ssh) closes nothing; TCP would notice after many
minutes. So a link on which nothing was heard for `interval` is asked by a PING, and cut when for `patience` nothing at
all comes back: not only the PONG, since on a slow line that stands behind data. `suspect` asks at once and with little
patience: after sleep, or when this machine's network changed.

With `awake` False nothing is asked as long as nothing was sent that wants an answer: a codespace counts every byte as
activity and would never fall asleep.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

TICK = 0.5
"""Seconds between two looks; each costs a microsecond."""
LEAST_PATIENCE = 5.0
"""With an interval of 3 s a dead path is noticed within 9 s. Less would take a crowded mobile line for dead."""
SUSPICIOUS = 2.0
"""Patience where there is a reason to think that the path is gone: ten times a bad mobile line's round trip."""
LATE = 2.0
"""A look that comes so much too late means that this process stood still, and that its patience says nothing."""


class Asked(Protocol):
    """What is needed of a link."""

    carrying: bool
    heard_at: float
    said_at: float

    def ping(self) -> bool:
        """Ask the other end for a word."""

    def cut(self, error: Exception | None) -> None:
        """Nothing comes any more."""


def slept() -> float:
    """Seconds this machine has slept since it booted, where the system tells."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    except (AttributeError, OSError):
        return 0.0


class Heart:
    """The beat of one link. `beat` runs until cancelled; `look` is one look, with the time as an argument."""

    def __init__(
        self, link: Asked, *, interval: float, awake: bool, dead: Callable[[float], Exception],
        slept: Callable[[], float] = slept,
    ) -> None:
        """`dead(seconds)` makes the error with which the link is cut."""
        self._link = link
        self._interval = interval
        self._patience = max(LEAST_PATIENCE, interval)
        self._awake = awake
        self._dead = dead
        self._slept = slept
        self._slept_before = slept()
        self._asked_at = 0.0
        """When the link was asked and has not answered; 0: it was not."""
        self._patient_until = 0.0
        self._looked_at = 0.0

    async def beat(self) -> None:
        """Look again and again."""
        while True:
            self.look(time.monotonic())
            await asyncio.sleep(TICK)

    def suspect(self, now: float) -> None:
        """The path may be gone: ask at once. Who is asked already gets no more time by that."""
        if self._link.carrying and not (self._asked_at and self._patient_until <= now + SUSPICIOUS):
            self._ask(now, SUSPICIOUS)

    def look(self, now: float) -> None:
        """Ask, or give up, where it is time for it."""
        link, asleep = self._link, self._slept()
        woke_up = asleep - self._slept_before > LATE
        stood_still = bool(self._looked_at) and now - self._looked_at > TICK + LATE
        self._slept_before, self._looked_at = asleep, now
        if not link.carrying:
            self._asked_at = 0.0
        elif woke_up or stood_still:
            self._ask(now, SUSPICIOUS)
        elif self._asked_at:
            if link.heard_at >= self._asked_at:
                self._asked_at = 0.0
            elif now >= self._patient_until:
                self._asked_at = 0.0
                link.cut(self._dead(now - link.heard_at))
        elif now - link.heard_at >= self._interval and (self._awake or link.said_at > link.heard_at):
            self._ask(now, self._patience)

    def _ask(self, now: float, patience: float) -> None:
        self._link.ping()
        self._asked_at = now
        self._patient_until = now + patience
