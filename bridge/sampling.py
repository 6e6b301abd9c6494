"""The flow table as people look at it: each flow with its rates, sorted and filtered.

A look at all flows goes in slices, between which packets take their turn, and remembers of each flow its bytes at the
last look. With 5,000 flows that is three milliseconds, in slices of a third of one.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

from .dns import Questions
from .forward.flows import NAMES, Flow, FlowTable, endpoint

SLICE = 500
"""Flows looked at in one go."""
SMOOTH = 0.5
"""Weight of the newest interval in a rate; the rest is what the rate was."""
LINGER = 10.0
"""Seconds for which a flow that ended is still shown."""


class Seen:
    """What is remembered of a flow between two looks."""

    __slots__ = ("down", "flow", "gone", "number", "rate", "rate_down", "rate_up", "searched", "up")

    def __init__(self, flow: Flow, number: int) -> None:
        self.flow = flow
        self.number = number
        """What the flow is called, as long as the bridge lives."""
        self.up = self.down = 0
        self.rate = self.rate_up = self.rate_down = 0.0
        """Payload bytes a second."""
        self.searched = ""
        """What a filter looks into; made when there is one."""
        self.gone = False
        """The flow is over."""

    def moved(self, seconds: float) -> None:
        """Bytes or rates changed in the `seconds` since the last look."""
        flow = self.flow
        up, down = flow.bytes_up, flow.bytes_down
        self.rate_up += ((up - self.up) / seconds - self.rate_up) * SMOOTH
        self.rate_down += ((down - self.down) / seconds - self.rate_down) * SMOOTH
        self.rate = self.rate_up + self.rate_down
        if self.rate < 1:
            self.rate = self.rate_up = self.rate_down = 0.0
        self.up, self.down = up, down


SORTS: dict[str, Callable[[Seen], Any]] = {
    "rate": lambda seen: (seen.rate, seen.flow.last_used),
    "bytes": lambda seen: seen.up + seen.down,
    "age": lambda seen: -seen.flow.opened,
    "newest": lambda seen: seen.flow.opened,
    "idle": lambda seen: -seen.flow.last_used,
    "destination": lambda seen: (seen.flow.destination, seen.flow.destination_port),
    "state": lambda seen: seen.flow.state,
}
"""By which flows can be sorted. `age` and `idle`: the longest first when reversed."""
UPWARDS = {"destination", "state"}
"""What is read from A to Z; everything else from the largest down."""


class Sampler:
    """Looks at one bridge's flows."""

    def __init__(self, table: FlowTable, questions: Questions) -> None:
        self._table = table
        self._questions = questions
        self._seen: dict[Flow, Seen] = {}
        self._gone: dict[Flow, Seen] = {}
        self._numbers = itertools.count(1)
        self._looked = 0.0
        self.spent = 0.0
        """Seconds that all looks took until now."""
        self.counts: dict[str, int] = {}
        """Flows by protocol."""
        self.others = [0, 0]
        """Payload bytes of UDP and ICMP flows up and down, since the first look."""

    async def look(self, clock: Callable[[], float]) -> None:
        """Look at every flow."""
        now = clock()
        seconds = max(now - self._looked, 0.001)
        first, self._looked = not self._looked, now
        before, self._seen = self._seen, {}
        counts: dict[int, int] = {}
        flows = list(self._table)
        for start in range(0, len(flows), SLICE):
            if start:
                await asyncio.sleep(0)
            began = time.perf_counter()
            for flow in flows[start : start + SLICE]:
                seen = before.get(flow)
                counts[flow.protocol] = counts.get(flow.protocol, 0) + 1
                if seen is None:
                    seen = Seen(flow, next(self._numbers))
                    if first:
                        seen.up, seen.down = flow.bytes_up, flow.bytes_down
                if seen.rate or seen.up != flow.bytes_up or seen.down != flow.bytes_down:
                    if flow.protocol != 6:
                        self.others[0] += flow.bytes_up - seen.up
                        self.others[1] += flow.bytes_down - seen.down
                    seen.moved(seconds)
                self._seen[flow] = seen
            self.spent += time.perf_counter() - began
        self.counts = {NAMES.get(protocol, str(protocol)): count for protocol, count in counts.items()}
        self._look_back(before, now)

    def _look_back(self, before: dict[Flow, Seen], now: float) -> None:
        """Those that are over, but were there a moment ago."""
        gone: dict[Flow, Seen] = {}
        for flow in reversed(self._table.gone):
            if now - flow.last_used > LINGER:
                continue  # it may have been idle for long before it ended
            seen = self._gone.get(flow) or before.get(flow) or Seen(flow, next(self._numbers))
            seen.up, seen.down, seen.gone = flow.bytes_up, flow.bytes_down, True
            seen.rate = seen.rate_up = seen.rate_down = 0.0
            self._seen.pop(flow, None)
            gone[flow] = seen
        self._gone = gone

    def top(self, rows: int, sort: str, *, reverse: bool, words: list[str]) -> tuple[list[Seen], int]:
        """The first `rows` flows in an order of SORTS that contain all of `words`, and how many do."""
        found: Iterable[Seen] = itertools.chain(self._seen.values(), self._gone.values())
        if words:
            found = [seen for seen in found if self._matches(seen, words)]
            count = len(found)
        else:
            count = len(self._seen) + len(self._gone)
        pick = heapq.nsmallest if (sort in UPWARDS) != reverse else heapq.nlargest
        return pick(rows, found, key=SORTS[sort]), count

    def _matches(self, seen: Seen, words: list[str]) -> bool:
        flow = seen.flow
        if not seen.searched:
            seen.searched = " ".join((
                NAMES.get(flow.protocol, ""), endpoint(flow.source, flow.source_port),
                endpoint(flow.destination, flow.destination_port), self._questions.name(flow.destination),
            )).lower()
        return all(word in seen.searched or word in ("closed" if seen.gone else flow.state) for word in words)

    def find(self, number: int) -> Seen | None:
        """The flow of this number."""
        every = itertools.chain(self._seen.values(), self._gone.values())
        return next((seen for seen in every if seen.number == number), None)

    def row(self, seen: Seen) -> dict[str, Any]:
        """One flow as JSON, the same until something changed; times by the event loop's clock."""
        flow = seen.flow
        return {
            "number": seen.number,
            "protocol": NAMES.get(flow.protocol, str(flow.protocol)),
            "source": endpoint(flow.source, flow.source_port),
            "destination": endpoint(flow.destination, flow.destination_port),
            **({"final": endpoint(flow.final, flow.destination_port)} if flow.final != flow.destination else {}),
            "name": self._questions.name(flow.destination),
            "state": "closed" if seen.gone else flow.state,
            "bytes_up": flow.bytes_up, "bytes_down": flow.bytes_down,
            "rate_up": round(seen.rate_up), "rate_down": round(seen.rate_down),
            "opened": round(flow.opened, 2), "last_used": round(flow.last_used, 2),
        }
