"""Every limit of the forwarders, with its reason beside it; docs/limits.md is this file as a table.

A limit is here because something without it hurt somebody: a black-holed subnet that stopped all connects, a port scan
that ate every descriptor, a stalled reader that ate the memory. The rule when one is reached is the same everywhere:
drop, count, say nothing to the codespace that a full router would not say. Nothing here is a tuning knob for speed.

Each can be set (:mod:`.limitsettings`) within a range: outside of it a bridge would stand still or fall over.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple

KIB = 1 << 10
MIB = 1 << 20


def _limit(default: float, unit: str, least: float, most: float, reason: str) -> Any:
    """A field that knows what may be set; a number without a fraction stays one."""
    about = {"default": default, "unit": unit, "least": least, "most": most, "reason": reason}
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the forwarders and the DNS service may use; times are seconds, sizes are bytes."""

    tcp_flows: int = _limit(
        16384, "flows", 8, 65536,
        "Open TCP flows. Each costs a descriptor and memory; beyond it a SYN is dropped, and its sender tries again.")

    tcp_half_open: int = _limit(
        8192, "connects", 8, 65536,
        "Connects under way in all. Beyond it the oldest gives way: a scan of a dead network would otherwise stop every"
        " honest connect for `tcp-connect-timeout`, and an honest one needs its place for milliseconds.")

    tcp_half_open_per_destination: int = _limit(
        128, "connects", 1, 65536,
        "Connects to one address that have been under way for a second; of more than these the oldest are given up."
        " High enough for a browser or a pool, low enough that no destination takes all of `tcp-half-open`. A cap of 10"
        " or 16 over all destinations, as others had, lets ten black holes stop everything.")

    tcp_waiting: int = _limit(
        4096, "requests", 16, 65536,
        "Requests that wait for their turn, as new connects get only a slice of the time: a flood must delay neither"
        " the flows that stand nor an honest connect by more than a few seconds.")

    tcp_waiting_per_service: int = _limit(
        512, "requests", 16, 65536,
        "Of these, what may wait for one address and port: some tenths of a second's work, and more than a browser or a"
        " pool asks.")

    tcp_connect_timeout: float = _limit(
        30.0, "seconds", 1, 600,
        "A host connect() that has not ended by then is given up: the kernel's own limit (over 2 minutes) would pin a"
        " descriptor and a half-open place long after most clients have left.")

    tcp_keepalive: float = _limit(
        60.0, "seconds", 5, 86400,
        "Idle time after which the codespace is asked whether a flow still lives; one whose application died"
        " half-closed would otherwise hold its descriptor for ever. Linux forgets such a socket after tcp_fin_timeout,"
        " 60 s. A flow that answers may be idle for as long as it likes.")

    tcp_orphan_timeout: float = _limit(
        60.0, "seconds", 1, 3600,
        "A flow whose ends have both closed, with bytes or a FIN still unacknowledged (RFC 9293 3.9.1 allows giving up;"
        " the value is Linux's tcp_fin_timeout).")

    udp_flows: int = _limit(
        16384, "flows", 8, 65536,
        "UDP flows; the least recently used one gives way to a new one, so 50,000 one-shot queries pass.")

    udp_idle_single: float = _limit(
        30.0, "seconds", 1, 3600,
        "After one datagram, answered by at most one. RFC 4787 REQ-5 asks for 120 s; a one-shot query is over long"
        " before, and Linux's conntrack uses the same 30 s for the same reason.")

    udp_idle_stream: float = _limit(
        300.0, "seconds", 1, 86400, "After more than that. RFC 4787 REQ-5 recommends 300 s.")

    udp_idle_dns: float = _limit(
        10.0, "seconds", 1, 3600,
        "Port 53 with every query answered: the resolver is done. It bounds the flows of a busy resolver, which uses a"
        " new source port for each query.")

    udp_overdraft: int = _limit(
        256 * KIB, "bytes", 0, 64 * MIB,
        "Replies sent each time that the link asks bulk data to wait. Enough for the small replies (DNS, NTP, a call)"
        " that must not wait behind a download; what comes beyond it is dropped as a full router would.")

    udp_overdraft_per_turn: int = _limit(
        16 * KIB, "bytes", 0, 64 * MIB,
        "Of that, what one flow may take at one time, so that a video stream does not use up what DNS needs.")

    icmp_flows: int = _limit(
        1024, "flows", 1, 16384,
        "Echo flows (one for each source, destination and identifier), least recently used first out. Enough for a ping"
        " sweep of a /22; a raw socket a flow gets a copy of every reply, so this is also a bound on time.")

    icmp_idle: float = _limit(
        60.0, "seconds", 1, 3600, "RFC 5508 REQ-2: an ICMP query session lives at least 60 seconds.")

    bytes_per_flow: int = _limit(
        8 * MIB, "bytes", 64 * KIB, 1024 * MIB,
        "Most that one flow may hold unacknowledged for the codespace, whatever window it shows (up to 1 GiB): a"
        " hostile one would have us hold all of that. A path of 100 ms needs more than 4 MiB under way to fill"
        " 400 Mbit/s.")

    bytes_in_all: int = _limit(
        64 * MIB, "bytes", 64 * KIB, 16384 * MIB,
        "What all flows together may hold: each up to a fourth of what is left, 256 KiB at first and then twice what"
        " was acknowledged, so that who takes nothing keeps little from the others.")

    bytes_per_flow_at_least: int = _limit(
        16 * KIB, "bytes", 1500, 1 * MIB, "What a flow may hold however much the others do.")

    unread_per_flow: int = _limit(
        6 * MIB, "bytes", 64 * KIB, 16 * MIB - 256,
        "Most that one flow may hold for a host that does not read it; the codespace's window grows to this as long as"
        " the host keeps up. It fills 480 Mbit/s at 100 ms and is Linux's own default limit.")

    unread_in_all: int = _limit(
        48 * MIB, "bytes", 64 * KIB, 16384 * MIB,
        "What all flows together may hold so; beyond it no window is opened further, and senders over there wait.")

    dns_questions: int = _limit(
        256, "questions", 1, 4096,
        "Questions on their way to the local machine's resolver; the next one is answered SERVFAIL at once, as a client"
        " that hears nothing hangs for five seconds.")

    dns_sockets: int = _limit(
        512, "descriptors", 1, 8192,
        "Host sockets of those questions. A nameserver that is silent costs three of each question before it is given"
        " up, so a dead resolver must not eat the descriptors of flows, nor flows those of names.")

    back_connections: int = _limit(
        256, "connections", 1, 4096,
        "Connections from here into the codespace (connect, forward, socks, ssh) and to the ssh-agent, those asked for"
        " included. Each is a descriptor here and two over there.")

    descriptor_reserve: int = _limit(
        64, "descriptors", 16, 4096,
        "Descriptors never given to flows or names: the SSH connection, the look at this machine's routes, a control"
        " client, a log file, the session after a broken link must still open when all else is taken.")

    @property
    def descriptors(self) -> int:
        """How many descriptors full use of these limits needs."""
        flows = self.tcp_flows + self.udp_flows + self.icmp_flows
        return flows + self.dns_sockets + self.back_connections + self.descriptor_reserve


class Descriptors(NamedTuple):
    """Who may have how many of this process's descriptors."""

    flows: int
    """Flows of all protocols together."""
    dns: int
    """Sockets of questions to the local machine's resolver."""
    back: int
    """Connections into the codespace."""


def descriptor_budget(limits: Limits) -> Descriptors:
    """Raise this process's soft limit of open files as far as `limits` may need; share out what there is.

    The reserve comes first, but never takes more than a quarter; names get a quarter of what it leaves, at most
    `dns_sockets`, and the way back an eighth, at most `back_connections`; flows the rest. The hard limit is never
    touched. Called once at start. Where there is no such limit (Windows) everything fits.
    """
    wanted = limits.descriptors
    have = wanted if sys.platform == "win32" else _raised(wanted)
    left = min(have, wanted) - min(limits.descriptor_reserve, have // 4)
    dns = max(1, min(limits.dns_sockets, left // 4))
    back = max(1, min(limits.back_connections, left // 8))
    return Descriptors(max(1, left - dns - back), dns, back)


def _raised(wanted: int) -> int:
    """The soft limit of open files after raising it towards `wanted`."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < wanted:
        # macOS states an infinite hard limit and refuses more than kern.maxfilesperproc, often 10,240.
        ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        for attempt in (ceiling, min(ceiling, 10240)):
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (attempt, hard))
            except (ValueError, OSError):
                continue
            return attempt
    return soft
