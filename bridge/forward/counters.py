"""What the forwarders count: every drop has its cause, every error its kind. `dataclasses.asdict` shows them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class UdpCounters:
    """UDP flows and datagrams; "up" is from the codespace to the host's sockets, "down" the way back."""

    flows_opened: int = 0
    """Host sockets opened for a new flow."""
    flows_expired: int = 0
    """Flows closed because nothing moved for their idle time."""
    flows_recycled: int = 0
    """Flows closed early, least recently used first, to make room for another flow."""
    flows_failed: int = 0
    """Flows closed because their host socket became useless (its address or route went away)."""
    datagrams_up: int = 0
    """Datagrams a host socket accepted."""
    datagrams_down: int = 0
    """Datagrams handed to the stack for the codespace."""
    errors_down: int = 0
    """Errors told to the codespace by ICMP, whether found by a router, the far host, the kernel here or the policy."""
    errors_ignored: int = 0
    """Errors the kernel reported that have no meaning for the codespace (no ICMP counterpart, or already told)."""
    dropped_policy: int = 0
    """Datagrams to a destination the policy denies."""
    dropped_descriptors: int = 0
    """Datagrams of new flows for which no descriptor was to be had, even after recycling."""
    dropped_open: int = 0
    """Datagrams of new flows whose host socket could not be opened or connected."""
    dropped_send_full: int = 0
    """Datagrams up that found the host socket's send buffer full."""
    dropped_send_error: int = 0
    """Datagrams up that the kernel refused for another reason."""
    dropped_link_busy: int = 0
    """Replies beyond the overdraft while the link asked bulk data to wait."""
    dropped_before_connect: int = 0
    """Datagrams from strangers that came in the moment between a host socket's bind and its connect."""


@dataclass(slots=True)
class IcmpCounters:
    """Echo flows and messages."""

    flows_opened: int = 0
    """Host sockets opened for a new source, destination and identifier."""
    flows_expired: int = 0
    """Flows closed after their idle time."""
    flows_recycled: int = 0
    """Flows closed early, least recently used first, to make room for another flow."""
    flows_failed: int = 0
    """Flows closed because their host socket became useless."""
    requests_up: int = 0
    """Echo requests a host socket accepted."""
    replies_down: int = 0
    """Echo replies handed to the stack for the codespace."""
    errors_down: int = 0
    """Errors told to the codespace by ICMP."""
    errors_ignored: int = 0
    """Errors the kernel reported that have no meaning for the codespace."""
    dropped_policy: int = 0
    """Requests to a destination the policy denies."""
    dropped_forbidden: int = 0
    """Requests refused because the kernel gives this user no ICMP socket (see net.ipv4.ping_group_range)."""
    dropped_descriptors: int = 0
    """Requests of new flows for which no descriptor was to be had."""
    dropped_open: int = 0
    """Requests of new flows whose host socket could not be opened or connected."""
    dropped_send_full: int = 0
    """Requests that found the host socket's send buffer full."""
    dropped_send_error: int = 0
    """Requests the kernel refused for another reason."""
    dropped_foreign: int = 0
    """Messages on a host socket that are no reply to the flow: another sender, another identifier, not an echo reply."""
    dropped_oversize: int = 0
    """Replies longer than any request of their flow: not an echo, and a way to leak what a buffer held."""
    dropped_link_busy: int = 0
    """Replies that came while the link asked bulk data to wait and were too large to go before it."""


@dataclass(slots=True)
class ForwardCounters:
    """All forwarders; the TCP forwarder counts for itself."""

    udp: UdpCounters = field(default_factory=UdpCounters)
    """UDP."""
    icmp: IcmpCounters = field(default_factory=IcmpCounters)
    """ICMP echo."""
