"""The audit: who was denied what, flow by flow, at a bounded rate.

The policy tells of every denied packet that would begin a flow; here that becomes one event a flow. A scan must fill
neither screen nor disk, so at most RATE events leave in a second (and as many at once); what comes beyond is told as a
number as soon as there is time, so nothing is lost in silence. The counters count everything.

What a person sees of it is decided where the screen is (`cli/calm.py`); for that each event says how often its
destination was denied before.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from netbridge.stack.packet import text

from . import events
from .forward.flows import NAMES, Key

RATE = 20.0
"""Denied flows told in a second: some 6 kB of log."""
SUM_UP = 2.0
"""Seconds after which those that were not told are told as a number."""
SAME_FLOW = 30.0
"""Seconds in which further packets with the same addresses and ports are the same flow (UDP, ping)."""
REMEMBERED = 4096
"""Flows and destinations remembered, the oldest forgotten first; a scan must not fill memory."""


@dataclass(slots=True)
class AuditCounters:
    """What the policy denied."""

    denied: int = 0
    """Denied flows."""
    repeated: int = 0
    """Further packets of flows that were denied a moment ago."""
    told: int = 0
    """Denied flows told one by one, in events and log."""
    summed_up: int = 0
    """Denied flows told as a number, because too many came at once."""


class Audit:
    """Hears of denials and tells of them."""

    def __init__(self, tell: events.EventSink, loop: asyncio.AbstractEventLoop) -> None:
        self.counters = AuditCounters()
        self._tell = tell
        self._loop = loop
        self._flows: OrderedDict[tuple[Key, int], float] = OrderedDict()
        self._destinations: OrderedDict[tuple[bytes, int, int], int] = OrderedDict()
        self._allowance = RATE
        self._allowed_at = loop.time()
        self._untold = 0
        self._untold_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def denied(self, key: Key, protocol: int, final: bytes, reason: str) -> None:
        """A packet that would have begun a flow was denied; see `Policy.on_denied`."""
        now = self._loop.time()
        before = self._flows.get((key, protocol))
        if before is not None and now - before < SAME_FLOW:
            self.counters.repeated += 1
            return
        self._flows.pop((key, protocol), None)
        self._flows[key, protocol] = now
        self.counters.denied += 1
        source, source_port, destination, port = key
        target = (destination, port, protocol)
        times = self._destinations[target] = self._destinations.pop(target, 0) + 1
        for memory in (self._flows, self._destinations):
            if len(memory) > REMEMBERED:
                memory.popitem(last=False)
        self._allowance = min(RATE, self._allowance + (now - self._allowed_at) * RATE)
        self._allowed_at = now
        if self._allowance < 1:
            self._count(now)
            return
        self._allowance -= 1
        self.counters.told += 1
        ported = protocol in (6, 17)
        self._tell(events.FlowDenied(
            protocol=NAMES.get(protocol, str(protocol)), destination=text(destination), port=port, reason=reason,
            source=text(source), source_port=source_port if ported else 0, final=text(final), times=times,
        ))

    def close(self) -> None:
        """Tell what is still untold."""
        if self._timer is not None:
            self._timer.cancel()
            self._sum_up()

    def _count(self, now: float) -> None:
        if not self._untold:
            self._untold_since = now
            self._timer = self._loop.call_later(SUM_UP, self._sum_up)
        self._untold += 1

    def _sum_up(self) -> None:
        self._timer = None
        count, self._untold = self._untold, 0
        self.counters.summed_up += count
        seconds = round(self._loop.time() - self._untold_since, 1)
        self._tell(events.FlowsDenied(count=count, seconds=seconds, total=self.counters.denied))
