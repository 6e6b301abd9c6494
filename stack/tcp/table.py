"""The connections of one stack, and what they share."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .budget import Budget
from .challenge import ChallengeLimit
from .config import TcpConfig
from .counters import TcpCounters
from .isn import IsnGenerator
from .pathmtu import PathMtus

if TYPE_CHECKING:
    from ..stack import Stack
    from .flow import Flow

NO_BUDGET = 1 << 62


class Table:
    """Flows by key: the slice of a packet with both addresses and both ports, as the peer's packets have it."""

    def __init__(self, stack: Stack, config: TcpConfig) -> None:
        self.stack = stack
        self.config = config
        self.counters = TcpCounters()
        self.budget = Budget(config.receive_budget)
        self.counts = config.send_budget > 0
        self.send_budget = config.send_budget or NO_BUDGET
        self.sending = 0
        """Bytes that all connections hold, written and not acknowledged, if `counts`."""
        self.challenges = ChallengeLimit(config.challenge_limit)
        self.isn = IsnGenerator()
        self.paths = PathMtus()
        self.flows: dict[bytes, Flow] = {}
        self.waiting: deque[Flow] = deque()
        """Those with data for a link that has no room, in turn."""
        self.dirty: list[Flow] = []
        """Those that the burst being received has changed."""
        self.aside: set[Flow] = set()
        """Those that are over and gave their ports to others, and hold data that their users have still to take."""
        self.time_waits: dict[Flow, None] = {}
        """Those in TIME-WAIT, the oldest first."""
        self._closed = False

    def add(self, flow: Flow) -> None:
        """A connection begins."""
        self.flows[flow.key] = flow
        self.counters.opened += 1

    def remove(self, flow: Flow, error: OSError | None) -> None:
        """The connection is over."""
        self.aside.discard(flow)
        if self.flows.get(flow.key) is flow:
            del self.flows[flow.key]
            self.time_waits.pop(flow, None)
            self.sending -= flow.held
            flow.held = 0
            self.counters.closed += 1
            self.counters.retransmitted += flow.connection.sender.retransmitted
            if error is not None:
                self.counters.failed += 1

    def set_aside(self, flow: Flow) -> None:
        """The connection is over, and its ports are free for another; what its user has not taken stays for it."""
        self.remove(flow, None)
        if flow.connection.receiver.backlog_bytes:
            self.aside.add(flow)

    def wait_out(self, flow: Flow) -> None:
        """The connection is in TIME-WAIT; beyond the bound the one that came there first is over."""
        waiting = self.time_waits
        if flow not in waiting and self.flows.get(flow.key) is flow:
            waiting[flow] = None
            if len(waiting) > self.config.most_time_wait:
                oldest = next(iter(waiting))
                self.counters.time_waits_cut += 1
                oldest.connection.give_way()
                self.set_aside(oldest)  # unless its user has still to read: then it is not told yet

    @property
    def crowded(self) -> bool:
        """Whether more is held to be sent than should be."""
        return self.sending > self.send_budget

    def broke(self, flow: Flow, error: Exception) -> None:
        """A callback of the flow's user raised: that flow is reset, and no other suffers."""
        self.counters.broken += 1
        self.stack.report(f"a callback of {flow!r} failed", error)
        self.cut(flow, ConnectionAbortedError("its user failed"))

    def cut(self, flow: Flow, error: OSError) -> None:
        """Reset the flow and tell its user; what that raises is reported."""
        try:
            flow.cut(error)
        except Exception as another:
            self.stack.report(f"ending {flow!r} failed", another)

    def close(self) -> None:
        """Reset every connection, take no more."""
        self._closed = True
        for flow in [*self.flows.values(), *self.aside]:
            flow.dirty = False  # the reset leaves now: the burst's end may not come
            self.cut(flow, ConnectionAbortedError("the stack was closed"))
        self.waiting.clear()
        self.dirty.clear()
