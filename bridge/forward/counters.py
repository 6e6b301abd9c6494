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
    flows_closed: int = 0
    """Flows closed because every flow was."""
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
    """Packets up of new flows whose host socket could not be opened, connected or watched."""
    dropped_send_full: int = 0
    """Packets up that found the host socket's send buffer or the interface's queue full."""
    dropped_send_error: int = 0
    """Packets up that the kernel refused for another reason, or whose flow ended by the refusal."""
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
    """Of `dropped_open`, because the kernel gives this user no ICMP socket (see net.ipv4.ping_group_range)."""
    dropped_foreign: int = 0
    """Messages on a host socket that are no reply to the flow: another sender or identifier, or no echo reply."""
    dropped_oversize: int = 0
    """Replies longer than any request of their flow: not an echo, and a way to leak what a buffer held."""


@dataclass(slots=True)
class TcpForwardCounters:
    """What the TCP forwarder did."""

    connects: int = 0
    """Host connects started."""
    connected: int = 0
    """Host connects that succeeded."""
    refused: int = 0
    """Connects the host answered with RST; passed on as RST."""
    unreachable: int = 0
    """Connects that ended in another error the codespace is told by ICMP."""
    timed_out: int = 0
    """Connects that got no answer; the codespace gets none either."""
    cancelled: int = 0
    """Requests the codespace took back while the host connect ran."""
    dropped_policy: int = 0
    """Requests the policy denied; answered administratively prohibited."""
    dropped_waiting: int = 0
    """SYNs dropped because too many of that service, or in all, wait for their turn."""
    cancelled_waiting: int = 0
    """Requests the codespace took back before their turn came."""
    dropped_late: int = 0
    """SYNs dropped because their sender had gone when their turn came."""
    dropped_half_open: int = 0
    """Connects given up because too many to that destination had been under way for long."""
    given_up: int = 0
    """Connects and unanswered handshakes given up, oldest first, because a newer flow needed their place."""
    dropped_flows: int = 0
    """SYNs dropped because the flow table or the descriptors are full."""
    dropped_error: int = 0
    """SYNs dropped for a local shortage (no port, no memory): neither side's fault."""
    dropped_closing: int = 0
    """Requests that nobody answered because every flow was reset."""
    closed: int = 0
    """Flows that were connected, and are over."""
    resets_up: int = 0
    """Flows the codespace reset; the host got a reset."""
    resets_down: int = 0
    """Flows the host reset; the codespace got a reset."""


@dataclass(slots=True)
class FlowsNow:
    """What the forwarders and the DNS service have begun, and what is not over."""

    waiting: int
    """Connection requests that wait for their turn."""
    connecting: int
    """Host connects under way."""
    tcp: int
    """Open TCP flows, those being connected included."""
    udp: int
    """Open UDP flows."""
    udp_waiting: int
    """Datagrams that wait for their turn."""
    icmp: int
    """Open ICMP flows."""
    icmp_waiting: int
    """Pings that wait for their turn."""
    questions: int
    """Questions of which the local machine's resolver is being asked."""


@dataclass(slots=True)
class ForwardCounters:
    """All forwarders; the TCP forwarder counts for itself."""

    udp: UdpCounters = field(default_factory=UdpCounters)
    """UDP."""
    icmp: IcmpCounters = field(default_factory=IcmpCounters)
    """ICMP echo."""
