"""Every limit of the forwarders, with its reason beneath it.

A limit is here because something without it hurt somebody: a black-holed subnet that stopped all connects, a port scan
that ate every descriptor, a stalled reader that ate the memory. The rule when one is reached is the same everywhere:
drop, count, say nothing to the codespace that a full router would not say. Nothing here is a tuning knob for speed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What the forwarders may use; times are seconds, sizes are bytes."""

    tcp_flows: int = 16384
    """Open TCP flows. Each costs a descriptor and memory; beyond it a SYN is dropped, and its sender tries again."""

    tcp_half_open: int = 8192
    """Connects under way in all. Beyond it the oldest gives way: a scan of a dead network would otherwise stop every
    honest connect for `tcp_connect_timeout`, and an honest one needs its place for milliseconds."""

    tcp_half_open_per_destination: int = 128
    """Connects under way to one address. High enough for a browser or a pool, low enough that no destination takes all
    of `tcp_half_open`. A cap of 10 or 16 over all destinations, as others had, lets ten black holes stop everything."""

    tcp_connect_timeout: float = 30.0
    """A host connect() that has not ended by then is given up: the kernel's own limit (over 2 minutes) would pin a
    descriptor and a half-open place long after most clients have left."""

    tcp_keepalive: float = 60.0
    """Idle time after which the codespace is asked whether a flow still lives; one whose application died half-closed
    would otherwise hold its descriptor for ever. Linux forgets such a socket after tcp_fin_timeout, 60 s."""

    tcp_orphan_timeout: float = 60.0
    """A flow whose ends have both closed, with bytes or a FIN still unacknowledged (RFC 9293 3.9.1 allows giving up;
    the value is Linux's tcp_fin_timeout)."""

    udp_flows: int = 16384
    """UDP flows; the least recently used one gives way to a new one, so 50,000 one-shot queries pass."""

    udp_idle_single: float = 30.0
    """After one datagram, answered by at most one. RFC 4787 REQ-5 asks for 120 s; a one-shot query is over long before,
    and Linux's conntrack uses the same 30 s for the same reason."""

    udp_idle_stream: float = 300.0
    """After more than that. RFC 4787 REQ-5 recommends 300 s."""

    udp_idle_dns: float = 10.0
    """Port 53 with every query answered: the resolver is done. It bounds the flows of a busy resolver, which uses a
    new source port for each query."""

    udp_overdraft: int = MIB // 4
    """Bytes of replies sent in all while the link asks bulk data to wait. Enough for the small replies (DNS, NTP) that
    must not wait behind a download; what comes beyond it is dropped as a full router would."""

    udp_overdraft_per_turn: int = 16384
    """Of that, what one flow may take at one time, so that a video stream does not use up what DNS needs."""

    icmp_flows: int = 1024
    """Echo flows (one for each source, destination and identifier), least recently used first out. Enough for a ping
    sweep of a /22; a raw socket a flow gets a copy of every reply, so this is also a bound on time."""

    icmp_idle: float = 60.0
    """RFC 5508 REQ-2: an ICMP query session lives at least 60 seconds."""

    bytes_per_flow: int = 8 * MIB
    """Most that one flow may hold unacknowledged for the codespace, whatever window it shows (up to 1 GiB): a hostile
    one would have us hold all of that. A path of 100 ms needs more than 4 MiB under way to fill 400 Mbit/s."""

    bytes_in_all: int = 64 * MIB
    """What all flows together may hold; beyond it each gets only `bytes_per_flow_at_least`, so that none starves."""

    bytes_per_flow_at_least: int = 16 * 1024
    """What a flow may hold however much the others do."""

    descriptor_reserve: int = 64
    """Descriptors never given to flows: the SSH connection, resolver sockets, a control client, a log file, the
    session after a broken link must still open when the flows have taken all they may."""

    @property
    def descriptors(self) -> int:
        """How many descriptors full use of these limits needs."""
        return self.tcp_flows + self.udp_flows + self.icmp_flows + self.descriptor_reserve


def descriptor_budget(limits: Limits) -> int:
    """Raise this process's soft limit of open files as far as `limits` may need; return how many flows fit beneath it.

    The hard limit is never touched. Called once at start. Where there is no such limit (Windows) every flow fits.
    """
    if sys.platform == "win32":
        return limits.descriptors - limits.descriptor_reserve
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.descriptors
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # macOS states an infinite hard limit and refuses more than kern.maxfilesperproc, often 10,240.
        ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        for attempt in (ceiling, min(ceiling, 10240)):
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (attempt, hard))
            except (ValueError, OSError):
                continue
            soft = attempt
            break
    if soft == resource.RLIM_INFINITY:
        soft = wanted
    return max(1, min(soft, wanted) - min(limits.descriptor_reserve, soft // 4))
