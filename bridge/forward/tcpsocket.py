"""Host sockets for TCP: opening them as the codespace's packet was sent, and what a router said when connect failed.

While a connect is under way, `IP_RECVERR` makes Linux keep the ICMP error that ended it: its code and who sent it. Both
go back to the codespace, which is all that `traceroute -T` needs. Once connected the option is turned off: a
connection that stands must not end because of an ICMP message, which anybody can forge (RFC 5927, section 5.2).
"""

from __future__ import annotations

import socket
from socket import IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET

from netbridge.stack.icmp.wire import Problem

from .hostsocket import (
    IP_RECVERR,
    IP_RECVTTL,
    IP_TTL,
    IPV6_RECVERR,
    IPV6_RECVHOPLIMIT,
    IPV6_UNICAST_HOPS,
    LINUX,
    local_address,
    read_error,
    set_option,
)

KEEPALIVE_IDLE = socket.TCP_KEEPIDLE if LINUX else 0x10
"""macOS calls it TCP_KEEPALIVE."""
USUAL_HOPS = 63
"""Hops left behind this one of a packet that Linux sent without having been asked for another number."""

FOR_EVER = 1 << 30
"""More seconds than any keepalive."""
LONGEST_INTERVAL = 75
"""Seconds between unanswered keepalives at most: Linux's own default."""
SHORTEST_KEEPALIVE = 10
"""Seconds of idle time, and between unanswered keepalives, at least. How often the codespace's kernel would ask again
is not seen, so nine unanswered ones must outlast a short outage of the VPN; and sixteen thousand flows must not ask a
host each second."""


def open_tcp(version: int, hops: int) -> socket.socket:
    """A non-blocking TCP socket whose packets may make `hops` hops. Raises OSError and leaves no socket."""
    sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if version == 6:
            # A mapped address fails, as for UDP, instead of becoming IPv4 after the policy judged it as IPv6.
            sock.setsockopt(IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(SOL_SOCKET, socket.SO_OOBINLINE, 1)
        keep_icmp_errors(sock, version, keep=True)
        if hops != USUAL_HOPS:
            level, name = (IPPROTO_IP, IP_TTL) if version == 4 else (IPPROTO_IPV6, IPV6_UNICAST_HOPS)
            set_option(sock, level, name, hops)
            # Somebody traces the path, and wants to know the way back of the errors as well.
            level, name = (IPPROTO_IP, IP_RECVTTL) if version == 4 else (IPPROTO_IPV6, IPV6_RECVHOPLIMIT)
            set_option(sock, level, name, 1)
    except OSError:
        sock.close()
        raise
    return sock


def keep_icmp_errors(sock: socket.socket, version: int, *, keep: bool) -> None:
    """Whether ICMP errors are kept in the socket's error queue; not to keep them empties it as well."""
    if LINUX:
        level, name = (IPPROTO_IP, IP_RECVERR) if version == 4 else (IPPROTO_IPV6, IPV6_RECVERR)
        set_option(sock, level, name, int(keep))


def is_connected(sock: socket.socket) -> bool:
    """Whether the connection is made; SO_ERROR alone does not tell while ICMP errors are kept."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def keep_alive(sock: socket.socket, seconds: int) -> None:
    """Let the kernel ask the host after that many seconds of silence whether it still lives."""
    set_option(sock, IPPROTO_TCP, KEEPALIVE_IDLE, seconds)
    set_option(sock, IPPROTO_TCP, socket.TCP_KEEPINTVL, min(seconds, LONGEST_INTERVAL))


def told_by_network(sock: socket.socket, version: int) -> tuple[Problem, bytes | None, int] | None:
    """What the network said about a connect that failed: the problem, who said it, and the hops left to its message.

    None when nobody did. The address is packed, and None when it is this host's own: to the codespace the gateway.
    """
    error = read_error(sock)
    problem = error.problem if error is not None else None
    if error is None or problem is None:
        return None
    offender = error.offender
    return problem, None if offender == local_address(sock, version) else offender, error.hops_on
