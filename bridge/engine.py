"""Everything that stands on the link of one bridge: stack, forwarders and DNS service, and what they count.

A packet from the target enters the stack; what is meant for the stack's own addresses is ping or DNS, everything else
goes to the forwarders, which ask the policy and open host sockets. Nothing here waits or runs by itself: packets and
sockets drive it by callbacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, is_dataclass
from typing import Any

from netbridge.stack.link.base import Link
from netbridge.stack.stack import Stack
from netbridge.stack.statistics import held

from . import events
from .addresses import Addresses
from .audit import Audit
from .captures import Captures
from .dns import DnsService, OwnNames, Questions, Upstream
from .dns.service import Ways
from .forward.counters import FlowsNow
from .forward.flows import FlowTable
from .forward.icmp import IcmpForwarder
from .forward.limits import Limits, descriptor_budget
from .forward.limitsettings import FIELDS
from .forward.memory import keep_freed_memory
from .forward.policy import Policy
from .forward.poller import Poller
from .forward.tcp import TcpForwarder, link_tcp
from .forward.udp import UdpForwarder
from .limitwatch import LimitWatch


class Engine:
    """What stands on one link, which it takes over. `open` it, `reset_flows`, `close` it."""

    def __init__(
        self, link: Link, addresses: Addresses, policy: Policy, upstream: Upstream, *, limits: Limits, own: OwnNames,
        mtu: int, dns: bool, tell: events.EventSink, on_lost: Callable[[Exception | None], None],
        sources: Sequence[str] = (), ways: Ways | None = None, captures: Captures | None = None,
    ) -> None:
        """`mtu` is the TUN's; `dns` says whether names are answered, and `own` which of them without asking anybody;
        `on_lost` is told when the link ends; `sources`: networks packets may come from besides the bridge's own;
        `ways`: see DnsService; `captures`: who looks at the packets.
        """
        self._link = link
        self._addresses = addresses
        self.policy = policy
        self._limits = limits
        self._own = own
        self._upstream = upstream
        self._mtu = mtu
        self._with_dns = dns
        self._tell = tell
        self._on_lost = on_lost
        self._sources = sources
        self._ways = ways
        self._captures = captures
        self._forwarders = ExitStack()
        self._rest = AsyncExitStack()
        self.stack: Stack | None = None
        self.table: FlowTable | None = None
        self.back_share = limits.back_connections
        """Connections that the way back may have, known once it is open."""
        self.tcp: TcpForwarder | None = None
        self.dns: DnsService | None = None
        self.questions = Questions()
        """What was asked last, and the names of addresses."""
        self._audit: Audit | None = None

    async def open(self) -> None:
        """Take packets from now on."""
        loop = asyncio.get_running_loop()
        keep_freed_memory()
        limits = self._limits
        descriptors = descriptor_budget(limits)
        table = self.table = FlowTable(descriptors.flows)
        self._upstream.sockets.most = descriptors.dns
        self.back_share = descriptors.back
        async with AsyncExitStack() as exits:
            audit = self._audit = Audit(self._tell, loop)
            exits.callback(audit.close)
            self.policy.on_denied = audit.denied
            sources = [*self._addresses.networks, *self._sources]
            stack = Stack(self._link, self._addresses.stack, mtu=self._mtu, tcp=link_tcp(limits), sources=sources)
            self.stack = await exits.enter_async_context(stack)
            stack.on_lost = self._on_lost
            if self._captures is not None:
                exits.callback(self._captures.close)
                self._captures.open(stack)
            poller = Poller(loop)
            exits.callback(poller.close)
            self._upstream.sockets.poller = poller
            with ExitStack() as forwarders:
                self.tcp = TcpForwarder(stack, poller, self.policy, limits, table, loop)
                forwarders.callback(self.tcp.close)
                forwarders.callback(UdpForwarder(stack, poller, self.policy, limits, table, loop).close)
                hint = lambda text: self._tell(events.Hint(text))
                forwarders.callback(IcmpForwarder(stack, poller, self.policy, limits, table, loop, hint).close)
                self._forwarders = forwarders.pop_all()
            exits.callback(self.reset_flows)
            tcp, counts = self.tcp.counters, table.counters
            exits.callback(LimitWatch(self._tell, loop, {
                "tcp-flows": lambda: tcp.dropped_flows,
                "tcp-half-open": lambda: tcp.given_up,
                "tcp-half-open-per-destination": lambda: tcp.dropped_half_open,
                "tcp-waiting": lambda: tcp.dropped_waiting,
                "descriptors": lambda: counts.udp.dropped_descriptors + counts.icmp.dropped_descriptors,
            }).close)
            if self._with_dns:
                self.dns = await exits.enter_async_context(
                    DnsService(
                        stack, self._addresses.gateways, self._upstream,
                        max_questions=limits.dns_questions, own=self._own, ways=self._ways,
                        on_answer=self.questions.told,
                    ),
                )
            self._rest = exits.pop_all()

    def pause(self) -> None:
        """The connection broke: time stands still for every flow, so none retransmits or gives up."""
        if self.stack is not None:
            self.stack.clock.stop()

    def go_on(self) -> None:
        """The connection is there again."""
        if self.stack is not None:
            self.stack.clock.go_on()
            self.stack.timers.look()

    def reset_flows(self) -> None:
        """Reset every flow, over there too as long as the link lives, and take no more. Idempotent."""
        self._forwarders.close()

    async def close(self) -> None:
        """Close everything; the link too."""
        await self._rest.aclose()

    def totals(self) -> tuple[int, int, int]:
        """Flows carried so far, TCP payload bytes from there, TCP payload bytes to there."""
        if self.stack is None or self.table is None:
            return 0, 0, 0
        tcp, others = self.stack.tcp.counters, self.table.counters
        return tcp.opened + others.udp.flows_opened + others.icmp.flows_opened, tcp.bytes_in, tcp.bytes_out

    def accept_sources(self, sources: Sequence[str]) -> None:
        """Packets may come from these networks besides the bridge's own; flows go on."""
        if self.stack is not None and tuple(sources) != tuple(self._sources):
            self._sources = sources
            self.stack.accept_sources([*self._addresses.networks, *sources])

    def destinations(self) -> set[bytes]:
        """The addresses that flows go to, packed."""
        return {flow.destination for flow in self.table} if self.table else set()

    def flows(self, most: int) -> dict[str, Any]:
        """The flow table as JSON, with so many flows."""
        return self.table.snapshot(asyncio.get_running_loop().time(), most=most) if self.table else {}

    def limits(self) -> dict[str, dict[str, Any]]:
        """Every limit as it is in effect, its unit and, where that can be counted, how much of it is in use, as JSON.

        `descriptors` is what flows of all protocols together may open.
        """
        values = asdict(self._limits)
        found = {
            name: {"limit": values[field.name], "unit": field.metadata["unit"]} for name, field in FIELDS.items()
        }
        if self.table is None or self.tcp is None or self.stack is None:
            return found
        sockets, totals = self._upstream.sockets, self.table.totals
        found["descriptors"] = {"limit": self.table.budget, "unit": "descriptors", "used": len(self.table)}
        found["dns-sockets"] |= {"limit": sockets.most, "used": sockets.open}
        half_open, half_open_most = self.tcp.half_open
        for name, used in {
            "tcp-flows": len(self.tcp), "tcp-waiting": self.tcp.waiting,
            "tcp-half-open": half_open, "tcp-half-open-per-destination": half_open_most,
            "udp-flows": totals.get("udp", 0), "icmp-flows": totals.get("icmp", 0),
            "bytes-in-all": self.tcp.held, "unread-in-all": self.stack.tcp.budget.used,
            "dns-questions": self.dns.under_way if self.dns else 0,
        }.items():
            found[name]["used"] = used
        return found

    def counters(self) -> dict[str, Any]:
        """Every counter, room by room, as JSON."""
        return {name: asdict(room) for name, room in self.rooms().items()}

    def rooms(self) -> dict[str, Any]:
        """The counters themselves: dataclasses whose fields each have their sentence in the source."""
        rooms: dict[str, object] = {"link": getattr(self._link, "counters", None), "resolver": self._upstream.counters}
        if self.stack is not None:
            stack = self.stack
            rooms |= {
                "ip": stack.counters, "fragments": stack.fragments.counters, "output": stack.output.counters,
                "icmp": stack.icmp.counters, "udp": stack.udp.counters, "tcp": stack.tcp.counters,
                "held": held(stack),
            }
        if self._audit is not None:
            rooms["policy"] = self._audit.counters
        if self.dns is not None:
            rooms["dns"] = self.dns.counters
        if self.table is not None and self.tcp is not None:
            forward = self.table.counters
            rooms |= {
                "forward_tcp": self.tcp.counters, "forward_udp": forward.udp, "forward_icmp": forward.icmp,
                "flows": flows_now(self.table, self.tcp, self.dns),
            }
        return {name: room for name, room in rooms.items() if is_dataclass(room)}


def flows_now(table: FlowTable, tcp: TcpForwarder, dns: DnsService | None) -> FlowsNow:
    """What is not over."""
    totals = table.totals
    return FlowsNow(
        waiting=tcp.waiting, connecting=tcp.half_open[0], tcp=len(tcp),
        udp=totals.get("udp", 0), udp_waiting=table.waiting.get("udp", int)(),
        icmp=totals.get("icmp", 0), icmp_waiting=table.waiting.get("icmp", int)(),
        questions=dns.under_way if dns is not None else 0,
    )
