"""What the forwarders count: every drop has its cause, every error its kind. `dataclasses.asdict` shows them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class SocketCounters:
    """What UDP and ICMP have in common. "Up" is from the codespace to the host's sockets, "down" the way back."""

    flows_opened: int = 0
    """Host sockets opened for a new flow."""
    flows_expired: int = 0
    """Flows closed because nothing moved for their idle time."""
    flows_recycled: int = 0
    """Flows closed early, least recently used first, to make room for another flow."""
    flows_failed: int = 0
    """Flows closed because their host socket became useless (its address or route went away)."""
    packets_up: int = 0
    """Datagrams or echo requests a host socket accepted."""
    packets_down: int = 0
    """Datagrams or echo replies handed to the stack for the codespace."""
    errors_down: int = 0
    """Errors told to the codespace by ICMP, whether found by a router, the far host, the kernel here or the policy."""
    errors_ignored: int = 0
    """Errors the kernel reported that mean nothing to the codespace (no ICMP counterpart, or already told)."""
    dropped_policy: int = 0
    """Packets up to a destination the policy denies."""
    dropped_waiting: int = 0
    """Packets up dropped because too many of their service, or in all, wait for their turn."""
    dropped_descriptors: int = 0
    """Packets up of new flows for which no descriptor was to be had, even after recycling."""
    dropped_open: int = 0
    """Packets up of new flows whose host socket could not be opened or connected."""
    dropped_send_full: int = 0
    """Packets up that found the host socket's send buffer or the interface's queue full."""
    dropped_send_error: int = 0
    """Packets up that the kernel refused for another reason."""
    dropped_link_busy: int = 0
    """Replies that came while the link asked bulk data to wait, beyond what may go nevertheless."""
    dropped_before_connect: int = 0
    """Packets from strangers that came in the moment between a host socket's bind and its connect."""


@dataclass(slots=True)
class UdpCounters(SocketCounters):
    """The UDP forwarder."""

    ports_not_shared: int = 0
    """Flows of a source that has a host port already, which got another one: the kernel refused to share it."""
    flows_refused: int = 0
    """Flows closed because the codespace answered a reply with port unreachable: its application is gone."""


@dataclass(slots=True)
class IcmpCounters(SocketCounters):
    """The ICMP forwarder."""

    dropped_forbidden: int = 0
    """Requests refused because the kernel gives this user no ICMP socket (see net.ipv4.ping_group_range)."""
    dropped_foreign: int = 0
    """Messages on a host socket that are no reply to the flow: another sender or identifier, or no echo reply."""
    dropped_oversize: int = 0
    """Replies longer than any request of their flow: not an echo, and a way to leak what a buffer held."""


@dataclass(slots=True)
class ForwardCounters:
    """All forwarders; the TCP forwarder counts for itself."""

    udp: UdpCounters = field(default_factory=UdpCounters)
    """UDP."""
    icmp: IcmpCounters = field(default_factory=IcmpCounters)
    """ICMP echo."""
