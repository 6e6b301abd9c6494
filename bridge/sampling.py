"""The flow table as people look at it: each flow with its rates, sorted and filtered.

A look asks of every flow only when it was last used, and sees to those where that is news; the usual order needs no
look at the others. So 5,000 flows cost half a millisecond, 100 of them sorted out included. A sampler lives while
somebody watches; it hears of flows that end, because most live shorter than the time between two looks.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any

from netbridge.stack.packet import TCP

from .dns import Questions
from .forward.flows import NAMES, Flow, FlowTable, endpoint

SMOOTH = 0.5
"""Weight of the newest interval in a rate; the rest is what the rate was."""
LINGER = 10.0
"""Seconds for which a flow that ended is still shown."""
GONE = 256
"""So many of them at most."""
NEVER = 1e12
"""More than any clock shows: subtracted, the idle ones rank behind all others, the latest first; twice, those that
are over."""


class Seen:
    """What is remembered of a flow between two looks."""

    __slots__ = (
        "down", "flow", "gone", "number", "rank", "rate_down", "rate_up", "searched", "shown", "shown_of", "up",
    )  # fmt: skip

    def __init__(self, flow: Flow, number: int) -> None:
        self.flow = flow
        self.number = number
        """What the flow is called, as long as the bridge lives."""
        self.up = self.down = 0
        self.rate_up = self.rate_down = 0.0
        """Payload bytes a second."""
        self.rank = flow.last_used - NEVER
        """By which they are sorted: the rate, where there is one."""
        self.searched = ""
        """What a filter looks into; made when there is one."""
        self.gone = 0.0
        """When the flow ended; 0 while it lives."""
        self.shown: dict[str, Any] = {}
        self.shown_of: tuple[object, ...] = ()

    def moved(self, seconds: float) -> bool:
        """Take what the `seconds` since the last look brought; whether there is a rate."""
        flow = self.flow
        up, down = flow.bytes_up, flow.bytes_down
        self.rate_up += ((up - self.up) / seconds - self.rate_up) * SMOOTH
        self.rate_down += ((down - self.down) / seconds - self.rate_down) * SMOOTH
        self.up, self.down = up, down
        self.rank = self.rate_up + self.rate_down
        if self.rank >= 1:
            return True
        self.rate_up = self.rate_down = 0.0
        self.rank = flow.last_used - NEVER
        return False

    @property
    def state(self) -> str:
        return "closed" if self.gone else self.flow.state


SORTS: dict[str, Callable[[Seen], Any]] = {
    "rate": attrgetter("rank"),
    "bytes": lambda seen: seen.up + seen.down,
    "newest": attrgetter("flow.opened"),
    "age": lambda seen: -seen.flow.opened,
    "idle": lambda seen: -seen.flow.last_used,
    "destination": lambda seen: (seen.flow.destination, seen.flow.destination_port),
    "state": lambda seen: seen.state,
}
"""By which flows can be sorted."""
UPWARDS = {"destination", "state"}
"""What is read from A to Z; everything else from the largest down."""


class Sampler:
    """Looks at one bridge's flows. Close it."""

    def __init__(
        self, table: FlowTable, questions: Questions, numbers: Iterator[int], clock: Callable[[], float],
    ) -> None:
        """`numbers` are given to flows; `clock` is that of the flows."""
        self._table = table
        self._questions = questions
        self._numbers = numbers
        self._clock = clock
        self._seen: dict[Flow, Seen] = {}
        """Those used last stand last."""
        self._moving: set[Seen] = set()
        """Those with a rate, which sinks even when nothing moves."""
        self._gone: deque[Seen] = deque(maxlen=GONE)
        self._looked = 0.0
        self.others = [0, 0]
        """Payload bytes of UDP and ICMP flows up and down, since the first look."""
        table.on_removed = self._ended

    def close(self) -> None:
        self._table.on_removed = None

    @property
    def counts(self) -> dict[str, int]:
        """Flows by protocol."""
        return self._table.totals

    def look(self) -> None:
        """Look at every flow."""
        now = self._clock()
        before, self._looked = self._looked, now
        seconds = max(now - before, 0.001)
        known = self._seen
        moving, self._moving = self._moving, set()
        used = [flow for flow in self._table if flow.last_used >= before]
        used.sort(key=attrgetter("last_used"))
        for flow in used:
            seen = known.pop(flow, None)
            if seen is None:
                seen = Seen(flow, next(self._numbers))
                if not before:  # what it carried before anybody looked is no rate
                    seen.up, seen.down = flow.bytes_up, flow.bytes_down
            known[flow] = seen  # at the end
            moving.add(seen)
        for seen in moving:
            flow = seen.flow
            if flow.protocol != TCP:
                self._count(seen)
            if seen.moved(seconds):
                self._moving.add(seen)
        while self._gone and now - self._gone[0].gone > LINGER:
            self._gone.popleft()

    def _count(self, seen: Seen) -> None:
        self.others[0] += seen.flow.bytes_up - seen.up
        self.others[1] += seen.flow.bytes_down - seen.down

    def _ended(self, flow: Flow) -> None:
        seen = self._seen.pop(flow, None) or Seen(flow, next(self._numbers))
        if flow.protocol != TCP:
            self._count(seen)
        self._moving.discard(seen)
        seen.gone = self._clock()
        seen.up, seen.down = flow.bytes_up, flow.bytes_down
        seen.rate_up = seen.rate_down = 0.0
        seen.rank = seen.gone - 2 * NEVER
        self._gone.append(seen)

    def top(self, rows: int, sort: str, *, reverse: bool, words: Iterable[str]) -> tuple[list[Seen], int]:
        """The first `rows` flows in an order of SORTS that contain all of `words`, and how many do."""
        if sort == "rate" and not reverse and not words:
            return self._busiest(rows), len(self._seen) + len(self._gone)
        # The newest first: in their usual order each would beat all before it.
        found: Iterable[Seen] = itertools.chain(reversed(self._gone), reversed(self._seen.values()))
        count = len(self._seen) + len(self._gone)
        if words:
            found = [seen for seen in found if self._matches(seen, words)]
            count = len(found)
        pick = heapq.nsmallest if (sort in UPWARDS) != reverse else heapq.nlargest
        return pick(rows, found, key=SORTS[sort]), count

    def _busiest(self, rows: int) -> list[Seen]:
        """The usual order, without a look at all flows, which are no longer in the processor's cache."""
        found = sorted(self._moving, key=SORTS["rate"], reverse=True)[:rows]
        idle = (seen for seen in reversed(self._seen.values()) if seen not in self._moving)
        found += itertools.islice(itertools.chain(idle, reversed(self._gone)), rows - len(found))
        return found

    def _matches(self, seen: Seen, words: Iterable[str]) -> bool:
        flow = seen.flow
        if not seen.searched:
            seen.searched = " ".join((
                NAMES.get(flow.protocol, ""), endpoint(flow.source, flow.source_port),
                endpoint(flow.destination, flow.destination_port), self._questions.name(flow.destination),
            )).lower()
        return all(word in seen.searched or word in seen.state for word in words)

    def find(self, number: int) -> Seen | None:
        """The flow of this number."""
        every = itertools.chain(self._seen.values(), self._gone)
        return next((seen for seen in every if seen.number == number), None)

    def row(self, seen: Seen) -> dict[str, Any]:
        """One flow as JSON, the very same object until something changed; times by the flows' clock."""
        flow = seen.flow
        name = self._questions.name(flow.destination)
        of = (flow.bytes_up, flow.bytes_down, seen.rate_up, seen.rate_down, seen.state, flow.last_used, name)
        if of != seen.shown_of:
            seen.shown_of = of
            seen.shown = {
                "number": seen.number,
                "protocol": NAMES.get(flow.protocol, str(flow.protocol)),
                "source": endpoint(flow.source, flow.source_port),
                "destination": endpoint(flow.destination, flow.destination_port),
                **({"final": endpoint(flow.final, flow.destination_port)} if flow.final != flow.destination else {}),
                "name": name, "state": seen.state,
                "bytes_up": flow.bytes_up, "bytes_down": flow.bytes_down,
                "rate_up": round(seen.rate_up), "rate_down": round(seen.rate_down),
                "opened": round(flow.opened, 2), "last_used": round(flow.last_used, 2),
            }
        return seen.shown
