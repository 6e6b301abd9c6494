"""The exit: who joins this host by a link reaches what this host reaches, through this host's sockets.

It is a bridge without a target to set up: a stack on any link, the forwarders of a bridge, and its DNS service on the
stack's own address. The other end is an `Entrance`, or anything else that speaks IP: a kernel behind a TUN, a stack of
another make. Each link has an exit of its own, and exits share nothing.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Self

from netbridge.stack.link.base import Link, LinkError
from netbridge.stack.stack import Stack
from netbridge.stack.statistics import Statistics
from netbridge.stack.tcp.config import TcpConfig

from .addresses import Addresses
from .dns import DnsCounters, DnsService, Upstream
from .forward.counters import IcmpCounters, TcpForwardCounters, UdpCounters
from .forward.flows import FlowTable
from .forward.icmp import IcmpForwarder
from .forward.limits import Limits, descriptor_budget
from .forward.policy import Policy
from .forward.poller import Poller
from .forward.tcp import TcpForwarder
from .forward.udp import UdpForwarder

JOINT = Addresses(255)
"""The little network between an exit (address 1) and its entrance (address 2) unless they are given others: that of
the last bridge a machine may have. Every link is a world of its own, so each has the same."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExitStatistics:
    """A snapshot of one exit."""

    stack: Statistics
    """What its stack counted."""
    flows: dict[str, int]
    """Flows that are open, by protocol: "tcp", "udp", "icmp"."""
    tcp: TcpForwardCounters
    """The TCP forwarder."""
    udp: UdpCounters
    """The UDP forwarder."""
    icmp: IcmpCounters
    """The forwarder of pings."""
    dns: DnsCounters | None
    """The DNS service; None where there is none."""


class Exit:
    """Forwards what comes by `link` to this host's sockets. Use as an async context manager; it takes the link over.

    `routes` are the only networks that are reached ("192.168.1.0/24"); None: all that the policy allows. Unless another
    `policy` is given, this host's loopback, link-local addresses, cloud metadata and the networks of the exit's own
    addresses are denied, and all else is allowed; routes confine the one that is given, too. What it denies, or no
    route covers, is answered with "administratively prohibited" (PermissionError over there).
    `addresses` are the exit's own, with prefix lengths; it answers ping and, with `dns`, questions for names there,
    as this host would. Flows are within `limits`, and `tcp` says how TCP behaves on the link.

    ValueError for arguments that make no sense; the soft limit of open files is raised as far as `limits` may need.
    """

    def __init__(
        self, link: Link, routes: Sequence[str] | None = None, *, policy: Policy | None = None,
        addresses: Sequence[str] = JOINT.stack, dns: bool = True, limits: Limits | None = None,
        tcp: TcpConfig | None = None, mtu: int | None = None,
    ) -> None:  # fmt: skip
        self.limits = limits or Limits()
        self.policy = policy or Policy(own=networks(addresses))
        if routes is not None:
            self.policy.confine(routes)
        self.stack = Stack(link, addresses, mtu=mtu, tcp=tcp or exit_tcp(self.limits), sources=())
        self._with_dns = dns
        self._dns: DnsService | None = None
        self._table: FlowTable | None = None
        self._tcp: TcpForwarder | None = None
        self._rest = AsyncExitStack()
        self._ended: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Exit at {', '.join(str(one.ip) for one in self.stack.interfaces)} flows={len(self._table or ())}>"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        budget = descriptor_budget(self.limits)
        table = self._table = FlowTable(budget.flows)
        stack, policy, limits = self.stack, self.policy, self.limits
        async with AsyncExitStack() as exits:
            poller = Poller(loop)
            exits.callback(poller.close)
            with ExitStack() as forwarders:
                self._tcp = TcpForwarder(stack, poller, policy, limits, table, loop)
                forwarders.callback(self._tcp.close)
                forwarders.callback(UdpForwarder(stack, poller, policy, limits, table, loop).close)
                forwarders.callback(IcmpForwarder(stack, poller, policy, limits, table, loop, log.warning).close)
                flows = forwarders.pop_all()
            stack.on_lost = self._lost
            await exits.enter_async_context(stack)
            exits.callback(flows.close)
            if self._with_dns:
                own = [str(one.ip) for one in stack.interfaces]
                upstream = Upstream(own_addresses=own)
                upstream.sockets.most, upstream.sockets.poller = budget.dns, poller
                service = DnsService(stack, own, upstream, max_questions=limits.dns_questions)
                self._dns = await exits.enter_async_context(service)
            self._rest = exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._rest.aclose()

    async def wait_closed(self) -> None:
        """Until the link ends. Raises LinkError when it broke, or its other end closed it."""
        if self._ended is None:
            raise RuntimeError("the exit was not started")
        await asyncio.shield(self._ended)

    def statistics(self) -> ExitStatistics:
        """What was counted until now."""
        if self._table is None or self._tcp is None:
            raise RuntimeError("the exit was not started")
        counters = self._table.counters
        return ExitStatistics(
            self.stack.statistics(), self._table.totals, copy.copy(self._tcp.counters), copy.copy(counters.udp),
            copy.copy(counters.icmp), copy.copy(self._dns.counters) if self._dns else None,
        )

    def _lost(self, error: Exception | None) -> None:
        assert self._ended is not None
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error if isinstance(error, LinkError) else LinkError(str(error)))
            self._ended.exception()  # whoever does not wait need not be told


def networks(addresses: Sequence[str]) -> list[str]:
    """The networks that addresses with prefix lengths lie in, as CIDRs."""
    return [str(ip_interface(address).network) for address in addresses]


def exit_tcp(limits: Limits) -> TcpConfig:
    """How TCP behaves on the link of an exit: as on any network, as it may lose packets; keepalive and memory by
    `limits`.
    """
    return TcpConfig(
        keepalive=limits.tcp_keepalive, orphan=limits.tcp_orphan_timeout,
        max_receive_window=limits.unread_per_flow, receive_budget=limits.unread_in_all,
    )
