"""From the host's errno to what the codespace is told, in one place for all forwarders (FORWARDING rule TCP 2).

What an application in the codespace sees must be the errno it would have seen on this machine: the ICMP error chosen
here is turned back into that errno by the codespace's kernel. Errnos that are nobody's fault out there (no descriptor,
no memory, no port) map to silence: the packet is dropped and counted, and its sender tries again.
"""

from __future__ import annotations

from errno import (
    EACCES,
    EADDRNOTAVAIL,
    EAFNOSUPPORT,
    EAGAIN,
    EBADF,
    ECONNREFUSED,
    EHOSTDOWN,
    EHOSTUNREACH,
    EINVAL,
    EMFILE,
    EMSGSIZE,
    ENETDOWN,
    ENETUNREACH,
    ENFILE,
    ENOBUFS,
    ENODEV,
    ENOMEM,
    ENOPROTOOPT,
    EPERM,
)

from netbridge.stack.icmp.wire import Problem

PROBLEMS = {
    ECONNREFUSED: Problem.PORT_UNREACHABLE,
    EHOSTUNREACH: Problem.HOST_UNREACHABLE,
    EHOSTDOWN: Problem.HOST_UNREACHABLE,
    ENETUNREACH: Problem.NET_UNREACHABLE,
    ENETDOWN: Problem.NET_UNREACHABLE,
    EAFNOSUPPORT: Problem.NET_UNREACHABLE,  # this machine has no IPv6 at all
    EINVAL: Problem.NET_UNREACHABLE,  # a link-local address without its link
    EACCES: Problem.PROHIBITED,
    EPERM: Problem.PROHIBITED,
    EMSGSIZE: Problem.TOO_BIG,
    ENOPROTOOPT: Problem.PROTOCOL_UNREACHABLE,
}
"""Absent: say nothing."""

HARD = {EHOSTUNREACH: Problem.HOST_PROHIBITED, ENETUNREACH: Problem.NET_UNKNOWN}
"""Codes of the same errno that Linux also tells a connected UDP socket without IP_RECVERR; it keeps 3/0 and 3/1 from
one. For what this machine itself refuses to send: its own applications hear of that in any case, from connect().
ICMPv6 has no such codes (icmpv6_err_convert)."""

NO_DESCRIPTOR = frozenset((EMFILE, ENFILE))
"""Another flow has to give way first."""

SILENT_FULL = frozenset((EAGAIN, ENOBUFS, ENOMEM))
"""The host has no room right now; the datagram is lost, as in a full router."""

USELESS = frozenset((EADDRNOTAVAIL, EBADF, EINVAL, ENETUNREACH, ENETDOWN, ENODEV))
"""After these a connected socket stays broken (its own address or route is gone: a VPN went up or down); the next
datagram should open a new one, which takes the new routes."""
