"""What a stack counted, and how its connections stand, at one moment: a snapshot that does not change any more.

The counters themselves are each room's own (`IpCounters`, `TcpCounters`, …), with a sentence for each; here are copies.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .fragments import FragmentCounters
from .icmp.endpoint import IcmpCounters
from .ip_counters import IpCounters
from .ip_output import OutputCounters
from .packet import text
from .tcp.counters import TcpCounters
from .udp.endpoint import UdpCounters

if TYPE_CHECKING:
    from .stack import Stack
    from .tcp.flow import Flow


@dataclass(frozen=True, slots=True)
class LinkState:
    """What the stack stands on."""

    mtu: int
    """Bytes of the largest IP packet that the stack sends, super-segments apart."""
    offload: bool
    """Whether super-segments and unfinished checksums go over it."""
    ready: bool
    """Whether it has room for bulk data."""
    dropped: int
    """Packets it did not take; 0 where it does not count them."""


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """One TCP connection; sizes in bytes, times in seconds."""

    local: str
    """Address and port here: "10.0.0.1:80", "[fd00::1]:80"."""
    remote: str
    """Address and port of the peer."""
    state: str
    """Its state by RFC 9293, section 3.3.2."""
    queued: int
    """Written and not sent yet."""
    in_flight: int
    """Sent and not acknowledged."""
    unread: int
    """Received and not taken by the reader."""
    send_window: int
    """What the peer lets be under way (SND.WND)."""
    receive_window: int
    """What the peer may still send (RCV.WND)."""
    congestion_window: int
    """What the network is trusted with (RFC 5681)."""
    round_trip: float
    """Smoothed round trip (RFC 6298); 0 before one was measured."""
    timeout: float
    """How long an acknowledgement is waited for before data is sent again."""
    retransmitted: int
    """Segments sent again."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a stack has begun, and what is neither over nor dropped: where the sums of its counters must agree."""

    requests: int
    """Connection requests that are still being decided."""
    handshakes: int
    """Handshakes with listeners under way."""
    connections: int
    """TCP connections, TIME-WAIT included."""
    datagrams: int
    """Datagrams of which fragments are missing."""
    fragments: int
    """Fragments that wait for those."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """A snapshot of one stack. `as_json` is the same as a tree of objects, numbers and texts."""

    time: float
    """When: seconds of the stack's clock."""
    addresses: tuple[str, ...]
    """Its own, with prefix lengths."""
    routes: tuple[str, ...] | None
    """Networks it reaches by the link besides those of its addresses; None: all."""
    link: LinkState
    """What it stands on."""
    ip: IpCounters
    """What came in, and why some of it went no further."""
    fragments: FragmentCounters
    """What became of datagrams in pieces."""
    output: OutputCounters
    """What the IP layer sent for UDP and ICMP."""
    icmp: IcmpCounters
    """ICMP of both versions."""
    udp: UdpCounters
    """UDP."""
    tcp: TcpCounters
    """TCP, all connections together."""
    unread: int
    """Bytes held for the readers of all TCP connections."""
    listeners: tuple[str, ...]
    """TCP ports that are listened on: "10.0.0.1:80", "*:80" for any address."""
    half_open: int
    """Handshakes with listeners under way."""
    held: Held
    """What was begun, and is neither over nor dropped."""
    connections: tuple[ConnectionState, ...]
    """Every TCP connection, TIME-WAIT included."""

    def as_json(self) -> dict[str, Any]:
        """What `json.dumps` takes."""
        return asdict(self)


def held(stack: Stack) -> Held:
    """What a stack holds now."""
    tcp, fragments = stack.tcp, stack.fragments
    return Held(
        requests=len(tcp.requests), handshakes=sum(listener.half_open for listener in tcp.listeners.values()),
        connections=len(tcp.flows), datagrams=fragments.unfinished, fragments=fragments.pieces,
    )  # fmt: skip


def snapshot(stack: Stack) -> Statistics:
    """How a stack stands now."""
    tcp, link, routes = stack.tcp, stack.link, stack.addressing.routes
    return Statistics(
        time=stack.now(),
        addresses=tuple(map(str, stack.interfaces)),
        routes=None if routes is None else tuple(map(str, routes)),
        link=LinkState(stack.mtu, link.offload, link.ready, getattr(link, "dropped", 0)),
        ip=copy.copy(stack.counters), fragments=copy.copy(stack.fragments.counters),
        output=copy.copy(stack.output.counters), icmp=copy.copy(stack.icmp.counters),
        udp=copy.copy(stack.udp.counters), tcp=copy.copy(tcp.counters),
        unread=tcp.budget.used,
        listeners=tuple(f"*:{port}" if host is None else _end((host, port)) for host, port in tcp.listeners),
        half_open=sum(listener.half_open for listener in tcp.listeners.values()),
        held=held(stack),
        connections=tuple(_connection(flow) for flow in tcp.flows.values()),
    )  # fmt: skip


def _connection(flow: Flow) -> ConnectionState:
    connection = flow.connection
    sender, receiver = connection.sender, connection.receiver
    return ConnectionState(
        local=_end(flow.local), remote=_end(flow.remote), state=connection.state.name,
        queued=sender.queued, in_flight=sender.flight, unread=receiver.backlog_bytes, send_window=sender.wnd,
        receive_window=receiver.window, congestion_window=sender.cc.cwnd, round_trip=sender.rtt.srtt,
        timeout=sender.rtt.rto, retransmitted=sender.retransmitted,
    )  # fmt: skip


def _end(address: tuple[bytes, int]) -> str:
    host, port = address
    return f"{text(host)}:{port}" if len(host) == 4 else f"[{text(host)}]:{port}"
