"""The flow table: every flow the bridge carries, whatever its protocol, for the eyes of people and for the budget.

A forwarder keeps its own index for the packets' way; this table holds the same :class:`Flow` objects for what concerns
all of them: how many descriptors are in use, who can give one back, what the status shows. A flow counts itself by
plain integer increments on its fields; nothing here is called per packet.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Protocol

from netbridge.stack.packet import ICMP, ICMPV6, TCP, UDP, text

from .counters import ForwardCounters

Key = tuple[bytes, int, bytes, int]
"""(source, source port, destination, destination port), addresses packed, as the codespace sees the flow."""

NAMES = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "icmp"}


class Flow:
    """One flow. Forwarders subclass it to add what they need; the fields here are what everyone may read."""

    __slots__ = (
        "bytes_down", "bytes_up", "destination", "destination_port", "final", "last_used", "opened",
        "packets_down", "packets_up", "protocol", "source", "source_port", "state",
    )  # fmt: skip

    def __init__(self, protocol: int, key: Key, state: str, now: float, final: bytes | None = None) -> None:
        self.protocol = protocol
        """IP protocol number."""
        self.source, self.source_port, self.destination, self.destination_port = key
        self.final = final or self.destination
        """Where the host socket leads: another address than `destination` when that is an alias (`Policy.final`)."""
        self.state = state
        """One or two words for people, set when it changes."""
        self.bytes_up = 0
        """Payload bytes from the codespace that the host took."""
        self.bytes_down = 0
        """Payload bytes towards the codespace."""
        self.packets_up = 0
        self.packets_down = 0
        self.opened = now
        """Seconds of the event loop's clock."""
        self.last_used = now
        """Seconds of the same clock when something last moved."""

    @property
    def key(self) -> Key:
        """What the flow is found by."""
        return self.source, self.source_port, self.destination, self.destination_port

    def describe(self, now: float) -> dict[str, str | int | float]:
        """The flow as one JSON object; ages in seconds. `final` is there when the destination is an alias."""
        return {
            "protocol": NAMES.get(self.protocol, str(self.protocol)),
            "source": endpoint(self.source, self.source_port),
            "destination": endpoint(self.destination, self.destination_port),
            **({"final": endpoint(self.final, self.destination_port)} if self.final != self.destination else {}),
            "state": self.state,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "packets_up": self.packets_up,
            "packets_down": self.packets_down,
            "age": round(now - self.opened, 3),
            "idle": round(now - self.last_used, 3),
        }

    def details(self) -> dict[str, Any]:
        """What the flow's machinery knows of it, as JSON, besides `describe`; looked up when somebody asks."""
        return {}

    def __repr__(self) -> str:
        source, destination = endpoint(self.source, self.source_port), endpoint(self.destination, self.destination_port)
        return f"<{type(self).__name__} {NAMES.get(self.protocol)} {source} > {destination} {self.state}>"


class Recycler(Protocol):
    """A forwarder that can close flows which their owners can open again."""

    @property
    def oldest_use(self) -> float | None:
        """When the flow was last used that `recycle` would close; None without any."""

    def recycle(self) -> None:
        """Close the flow that was used longest ago."""


class FlowTable:
    """All flows of one bridge, the descriptors they may use, and the forwarders' counters."""

    def __init__(self, budget: int) -> None:
        """`budget`: how many flows fit (a flow is a descriptor); see :func:`.limits.descriptor_budget`."""
        self.budget = budget
        self.counters = ForwardCounters()
        self._flows: dict[Flow, None] = {}
        self._totals: dict[int, int] = {}
        self.on_removed: Callable[[Flow], None] | None = None
        """Is told of each flow that ends, while somebody watches."""
        self._recyclers: list[Recycler] = []
        self.waiting: dict[str, Callable[[], int]] = {}
        """How many packets of a protocol wait for their turn, by its name, where a forwarder is open."""

    def __len__(self) -> int:
        return len(self._flows)

    def __iter__(self) -> Iterator[Flow]:
        return iter(self._flows)

    @property
    def full(self) -> bool:
        """No descriptor of the budget is left; call :meth:`make_room` before opening another."""
        return len(self._flows) >= self.budget

    def add(self, flow: Flow) -> None:
        """Show `flow` from now on and count its descriptor."""
        self._flows[flow] = None
        self._totals[flow.protocol] = self._totals.get(flow.protocol, 0) + 1

    def remove(self, flow: Flow) -> None:
        """Count `flow` no more; does nothing when it is not there."""
        if flow in self._flows:
            del self._flows[flow]
            self._totals[flow.protocol] -= 1
            if self.on_removed is not None:
                self.on_removed(flow)

    def add_recycler(self, recycler: Recycler) -> None:
        """Register who has flows that can be missed."""
        self._recyclers.append(recycler)

    def remove_recycler(self, recycler: Recycler) -> None:
        """Undo :meth:`add_recycler`."""
        self._recyclers.remove(recycler)

    def make_room(self) -> bool:
        """Close the flow that was used longest ago among those that can be missed, for EMFILE or a full table.

        False when there is none; TCP flows are never taken, as nothing could bring them back.
        """
        oldest: Recycler | None = None
        when = 0.0
        for recycler in self._recyclers:
            use = recycler.oldest_use
            if use is not None and (oldest is None or use < when):
                oldest, when = recycler, use
        if oldest is None:
            return False
        oldest.recycle()
        return True

    @property
    def totals(self) -> dict[str, int]:
        """Flows by the name of their protocol."""
        totals: dict[str, int] = {}
        for protocol, count in self._totals.items():
            if count:
                name = NAMES.get(protocol, str(protocol))
                totals[name] = totals.get(name, 0) + count
        return totals

    def snapshot(self, now: float, *, most: int = 1000) -> dict[str, Any]:
        """The table as JSON: totals, counters and the `most` flows used last, those first.

        `now` is the event loop's time, of which the flows keep theirs.
        """
        latest = heapq.nlargest(most, self._flows, key=lambda flow: flow.last_used)
        return {
            "totals": self.totals,
            "budget": self.budget,
            "counters": asdict(self.counters),
            "flows": [flow.describe(now) for flow in latest],
        }


def endpoint(address: bytes, port: int) -> str:
    """``10.0.0.1:80`` or ``[fd00::1]:80``."""
    return f"{text(address)}:{port}" if len(address) == 4 else f"[{text(address)}]:{port}"
