"""The TCP forwarder: which connection requests are tried, how many at a time, and what gives way when too many are.

Requests come through :mod:`.admission`; those whose connect is under way are in :mod:`.connecting`; what happens to
one is in :mod:`.tcpflow`.
"""

from __future__ import annotations

import asyncio
import socket
from errno import EMFILE, ENFILE
from typing import TYPE_CHECKING

from netbridge.stack.icmp.wire import Problem
from netbridge.stack.packet import TCP
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import Unlimited

from .admission import Admission, Unserved
from .connecting import Connecting
from .counters import TcpForwardCounters
from .flows import FlowTable
from .poller import Poller
from .problems import PROBLEMS
from .tcpflow import TcpFlow
from .tcpsocket import open_tcp

if TYPE_CHECKING:
    from netbridge.stack import Stack
    from netbridge.stack.tcp.request import TcpRequest

    from .limits import Limits
    from .policy import Policy

SCAN_EVERY = 1.0
"""Seconds between looks for connects that took too long."""
SOON = 0.01
"""Seconds until the next look where not all could be given up."""
GIVEN_UP_A_TURN = 32
"""Connects given up at one time, some milliseconds' work: after a flood there are thousands."""


def link_tcp(limits: Limits) -> TcpConfig:
    """How the stack's TCP runs on a bridge's link.

    The link loses nothing and has a window of its own, so a late acknowledgement mostly means a stall, in which copies
    would only make things worse: one segment asks, and its answer tells what arrived. But a crowd may overflow the TUN
    over there, and acknowledgements and news of opened windows get lost: nobody waits long for these. A SYN-ACK without
    an answer after 30 s went to nobody. A question each idle minute finds the flows whose application over there is
    long dead: its kernel answers with a reset. Timestamps and ECN would tell nothing that one hop does not.
    """
    return TcpConfig(
        timestamps=False, ecn=False, quick_acks=0, send_budget=0,
        congestion=Unlimited, min_rto=0.5, longest_persist=5.0, persist_retries=180, time_wait=1.0,
        syn_retries=4, orphan=limits.tcp_orphan_timeout, keepalive=limits.tcp_keepalive,
        max_receive_window=limits.unread_per_flow, receive_budget=limits.unread_in_all,
    )


class TcpForwarder:
    """Takes the stack's connection requests to other addresses."""

    def __init__(
        self, stack: Stack, poller: Poller, policy: Policy, limits: Limits, table: FlowTable,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.poller = poller
        self.limits = limits
        self.loop = loop
        self.clock = loop.time
        self.counters = TcpForwardCounters()
        self._stack = stack
        self._policy = policy
        self._table = table
        self.held = 0
        """Bytes of all flows that the codespace has not acknowledged."""
        self._flows: set[TcpFlow] = set()
        self._connecting = Connecting(limits.tcp_half_open_per_destination)
        self._admission: Admission[TcpRequest] = Admission(
            loop, self._admit, self._unserved,
            in_all=limits.tcp_waiting, per_service=limits.tcp_waiting_per_service,
        )  # fmt: skip
        self.handshaking: dict[TcpFlow, None] = {}
        """Flows whose SYN-ACK the codespace has not answered yet, oldest first."""
        self._scan: asyncio.TimerHandle | None = None
        stack.tcp.forward = self.forward
        stack.tcp.turns_away = self._turned_away

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._admission)

    @property
    def half_open(self) -> tuple[int, int]:
        """Connects under way: in all, and to the destination that has most."""
        return len(self._connecting), self._connecting.most

    def close(self) -> None:
        """Reset every flow."""
        self._stack.tcp.forward = self._stack.tcp.turns_away = None
        self._admission.close()
        if self._scan is not None:
            self._scan.cancel()
            self._scan = None
        for flow in list(self._flows):
            flow.reset()

    def forward(self, request: TcpRequest) -> None:
        """Take one connection request."""
        if not self._admission.offer(request):
            self.counters.dropped_waiting += 1
            request.drop()

    def _turned_away(self, destination: bytes, port: int) -> bool:
        """Whether a request to there would find no place to wait; counted, as it is dropped then."""
        if self._admission.free or self._admission.has_place(destination, port):
            return False
        self.counters.dropped_waiting += 1
        return True

    def spend(self, seconds: float) -> None:
        """So much was used for the end of a host connect: that is part of what a request costs."""
        self._admission.spend(seconds)

    def _unserved(self, why: Unserved) -> None:
        counters = self.counters
        if why is Unserved.LATE:
            counters.dropped_late += 1
        elif why is Unserved.CANCELLED:
            counters.cancelled_waiting += 1
        elif why is Unserved.CLOSING:
            counters.dropped_closing += 1
        else:
            counters.dropped_error += 1

    def _admit(self, request: TcpRequest) -> None:
        """Decide one connection request whose turn it is."""
        counters = self.counters
        destination = request.destination
        key = (request.source, request.source_port, destination, request.destination_port)
        final = self._policy.admit(key, TCP)
        if final is None:
            counters.dropped_policy += 1
            request.unreachable(Problem.PROHIBITED)
            return
        if len(self._connecting) >= self.limits.tcp_half_open and (oldest := self._connecting.oldest) is not None:
            counters.given_up += 1
            oldest.connect_timed_out()
        if not self._make_room():
            counters.dropped_flows += 1
            request.drop()
            return
        sock = self._open_socket(request)
        if sock is None:
            return
        flow = TcpFlow(self, request, sock, self.clock(), final)
        self._flows.add(flow)
        self._table.add(flow)
        self._connecting.add(flow)
        counters.connects += 1
        flow.connect()
        if self._scan is None:
            self._scan_connecting()

    def _make_room(self) -> bool:
        """Whether another flow fits, if need be in the place of one that can be missed."""
        if len(self._flows) < self.limits.tcp_flows and (not self._table.full or self._table.make_room()):
            return True
        if not self.handshaking:
            return False
        # Nobody answered its SYN-ACK, which on this link takes one round trip: a flood, most likely.
        self.counters.given_up += 1
        next(iter(self.handshaking)).reset()
        return True

    def _open_socket(self, request: TcpRequest) -> socket.socket | None:
        version = 4 if len(request.destination) == 4 else 6
        for again in (True, False):
            try:
                sock = open_tcp(version, request.ttl)
            except OSError as error:
                if error.errno in (EMFILE, ENFILE) and again and self._table.make_room():
                    continue
                problem = PROBLEMS.get(error.errno or 0)
                if problem is not None:
                    self.counters.unreachable += 1
                    request.unreachable(problem)
                else:
                    self.counters.dropped_error += 1
                    request.drop()
                return None
            return sock
        return None

    def connect_done(self, flow: TcpFlow) -> None:
        """The host connect of `flow` ended, one way or the other."""
        self._connecting.remove(flow)

    def gone(self, flow: TcpFlow) -> None:
        """`flow` is over."""
        if flow in self._flows:
            self._flows.remove(flow)
            self._table.remove(flow)
            flow.let_go()
            self.handshaking.pop(flow, None)
            if flow.state == "connecting":
                self.connect_done(flow)
            else:
                self.counters.closed += 1
            flow.state = "closed"

    def _scan_connecting(self) -> None:
        """Give up connects that took too long, or are too many; look again while any is under way."""
        now = self.clock()
        connecting = self._connecting
        left = GIVEN_UP_A_TURN
        while left and (flow := connecting.oldest) is not None and flow.deadline <= now:
            left -= 1
            flow.connect_timed_out()
        for flow in connecting.surplus(now)[:left]:
            left -= 1
            self.counters.dropped_half_open += 1
            flow.connect_timed_out()
        self._scan = None
        if (flow := connecting.oldest) is not None:
            due = min(flow.deadline - now, SCAN_EVERY) if left else SOON
            self._scan = self.loop.call_later(due, self._scan_connecting)
