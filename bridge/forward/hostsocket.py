"""Host sockets for datagrams: opening them, what an IP packet carried on to them, and their error queue.

Linux tells a connected socket with ``IP_RECVERR`` everything an ICMP error said: type, code, who sent it, the path's
MTU (ip(7), ``struct sock_extended_err``). Python's socket module lacks most of the constants; they are part of Linux's
stable interface and are given here by number. Elsewhere the options are skipped and an error arrives as a bare errno.
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from socket import AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, inet_ntop, inet_pton

from netbridge.stack.icmp.wire import Problem, problem_of
from netbridge.stack.packet import IpPacket

LINUX = sys.platform == "linux"
ANY = {4: "0.0.0.0", 16: "::"}  # noqa: S104  (of sockets that are then connected)
"""The address that stands for all own ones, by the length of a packed address."""

SO_REUSEPORT = 15
"""asm-generic/socket.h; Windows' socket module has no such name."""

# linux/in.h
IP_TOS = 1
IP_TTL = 2
IP_MTU_DISCOVER = 10
IP_RECVERR = 11
IP_RECVTTL = 12
IP_MTU = 14
IP_PMTUDISC_DONT = 0
"""Fragment here when needed, and let routers fragment: DF is clear."""
IP_PMTUDISC_DO = 2
"""Never fragment, set DF, refuse with EMSGSIZE what exceeds the path's known MTU."""
# linux/in6.h
IPV6_UNICAST_HOPS = 16
IPV6_MTU_DISCOVER = 23
IPV6_MTU = 24
IPV6_RECVERR = 25
IPV6_RECVHOPLIMIT = 51
IPV6_HOPLIMIT = 52
IPV6_TCLASS = 67
IPV6_PMTUDISC_WANT = 1
"""Fragment at this source to the path's known MTU; no router ever fragments IPv6."""
IPV6_PMTUDISC_DO = 2
"""Never fragment; refuse with EMSGSIZE what exceeds the path's known MTU."""
# linux/icmp.h, linux/icmpv6.h
SOL_RAW = 255
ICMP_FILTER = 1
ICMP6_FILTER = 1
# linux/socket.h
MSG_ERRQUEUE = 0x2000
# linux/errqueue.h
EXTENDED_ERROR = struct.Struct("=IBBBxII")
"""struct sock_extended_err: errno, origin, type, code, (padding), info (the MTU), data. The offender follows."""
ORIGIN_LOCAL = 1
ORIGIN_ICMP = 2
ORIGIN_ICMP6 = 3

RECEIVE_BUFFER = 1 << 20
"""Asked for; the kernel grants up to net.core.rmem_max. The default holds 90 datagrams, less than a turn of Python."""
SEND_BUFFER = 1 << 18
"""macOS' default of 9,216 bytes refuses larger datagrams."""
ERROR_DATA = 256
"""Bytes read of the datagram that an error is about; enough for an ICMP header."""
ANCILLARY = 512


class HostError:
    """One entry of a socket's error queue."""

    __slots__ = ("code", "data", "errno", "mtu", "offender", "origin", "towards", "ttl", "type")

    def __init__(
        self, errno: int, origin: int, kind: int, code: int, mtu: int, offender: bytes | None, data: bytes,
        ttl: int = 0,
    ) -> None:
        self.errno = errno
        self.origin = origin
        """ORIGIN_LOCAL when this kernel refused to send, else ORIGIN_ICMP or ORIGIN_ICMP6."""
        self.type = kind
        self.code = code
        self.mtu = mtu
        """Of the next hop, where the type is about that; else 0."""
        self.offender = offender
        """Packed address of the router or host that complained; None when unknown."""
        self.data = data
        """The start of the failed datagram's payload (on an ICMP socket: of its message), as far as it was quoted."""
        self.ttl = ttl
        """Of the ICMP error's own packet as it came here; 0 when unknown."""
        self.towards = ""
        """Where the failed datagram went by what was quoted of it; empty when unknown."""

    @property
    def hops_on(self) -> int:
        """The TTL with which a router, as this machine is one here, passes the ICMP error on."""
        return max(1, self.ttl - 1) if self.ttl else 64

    @property
    def problem(self) -> Problem | None:
        """What it means to whoever sent the datagram; None when ICMP has no word for it or it was found here."""
        if self.origin == ORIGIN_ICMP:
            return problem_of(4, self.type, self.code)
        if self.origin == ORIGIN_ICMP6:
            return problem_of(6, self.type, self.code)
        return None

    def __repr__(self) -> str:
        return f"<HostError errno {self.errno} origin {self.origin} type {self.type} code {self.code} mtu {self.mtu}>"


def open_udp(version: int) -> socket.socket:
    """A non-blocking UDP socket that reports errors. Raises OSError (EMFILE, EAFNOSUPPORT...)."""
    return _prepared(socket.socket(AF_INET if version == 4 else AF_INET6, socket.SOCK_DGRAM), version)


def open_ping(version: int) -> tuple[socket.socket, bool]:
    """A non-blocking socket for echo requests, and whether it is a raw one.

    A datagram ICMP socket needs no privilege (where the kernel allows it: net.ipv4.ping_group_range), chooses the
    identifier itself and sees only its own replies. A raw one needs CAP_NET_RAW and sees everybody's. Raises
    PermissionError when both are forbidden, OSError for other causes.
    """
    family, protocol = (AF_INET, socket.IPPROTO_ICMP) if version == 4 else (AF_INET6, socket.IPPROTO_ICMPV6)
    raw = False
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM, protocol)
    except PermissionError:
        sock, raw = socket.socket(family, socket.SOCK_RAW, protocol), True
    _prepared(sock, version)
    if version == 4:
        set_option(sock, IPPROTO_IP, IP_RECVTTL, 1)
    else:
        set_option(sock, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1)
    if raw and LINUX:
        if version == 4:
            set_option(sock, SOL_RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFE))  # a set bit blocks; reply is type 0
        else:
            blocked = (1 << 256) - 1 ^ 1 << 129  # RFC 3542 3.2, eight words of the host's order
            words = (blocked >> 32 * word & 0xFFFFFFFF for word in range(8))
            set_option(sock, socket.IPPROTO_ICMPV6, ICMP6_FILTER, struct.pack("=8I", *words))
    return sock, raw


def _prepared(sock: socket.socket, version: int) -> socket.socket:
    sock.setblocking(False)
    set_option(sock, socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    if version == 6:
        # A mapped address must fail here too, not become IPv4 behind the policy's back.
        set_option(sock, IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if LINUX:
        if version == 4:
            set_option(sock, IPPROTO_IP, IP_RECVERR, 1)
            set_option(sock, IPPROTO_IP, IP_RECVTTL, 1)
        else:
            set_option(sock, IPPROTO_IPV6, IPV6_RECVERR, 1)
            set_option(sock, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1)
            set_option(sock, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_WANT)
    else:
        set_option(sock, socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return sock


def connect(sock: socket.socket, version: int, address: bytes, port: int) -> int:
    """Connect to a packed address and throw away what strangers sent before; how many datagrams that was.

    connect() on a datagram socket binds it first, and in between anybody can send to it; later, only the peer can.
    """
    sock.connect((inet_ntop(AF_INET if version == 4 else AF_INET6, address), port))
    strangers = 0
    try:
        while strangers < 10000:
            sock.recv(1)
            strangers += 1
    except OSError:
        pass
    return strangers


def carry(sock: socket.socket, packet: IpPacket) -> None:
    """Make the next datagrams leave `sock` with the TTL, DSCP and DF of `packet`.

    ECN stays clear, since nobody here carries congestion marks back (RFC 8311 4.2 wants ECT only from who reacts).
    IPv6 that came in one piece must fit the path in one piece, or its source is told the MTU; what its source had
    fragmented may be fragmented again here.
    """
    if packet.version == 4:
        set_option(sock, IPPROTO_IP, IP_TTL, packet.ttl)
        set_option(sock, IPPROTO_IP, IP_TOS, packet.tos & 0xFC)
        if LINUX:
            set_option(sock, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO if packet.dont_fragment else IP_PMTUDISC_DONT)
    else:
        set_option(sock, IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, packet.ttl)
        if LINUX:
            set_option(sock, IPPROTO_IPV6, IPV6_TCLASS, packet.tos & 0xFC)
            mode = IPV6_PMTUDISC_DO if packet.dont_fragment else IPV6_PMTUDISC_WANT
            set_option(sock, IPPROTO_IPV6, IPV6_MTU_DISCOVER, mode)


def set_option(sock: socket.socket, level: int, name: int, value: int | bytes) -> None:
    """Set an option that is good to have; a kernel that does not know it (or does not want the value) goes without."""
    with suppress(OSError):
        sock.setsockopt(level, name, value)


def path_mtu(sock: socket.socket, version: int) -> int:
    """The path MTU this kernel knows for a connected socket, 0 when it does not tell."""
    if not LINUX:
        return 0
    try:
        return sock.getsockopt(IPPROTO_IP, IP_MTU) if version == 4 else sock.getsockopt(IPPROTO_IPV6, IPV6_MTU)
    except OSError:
        return 0


def local_address(sock: socket.socket, version: int) -> bytes:
    """The packed address `sock` sends from."""
    address = sock.getsockname()[0].partition("%")[0]
    return inet_pton(AF_INET if version == 4 else AF_INET6, address)


def read_error(sock: socket.socket) -> HostError | None:
    """Take one entry from the error queue; None when there is none (or no such queue on this platform).

    Also None for entries that are no extended errors; their kinds are never asked for here.
    """
    if not LINUX:
        return None
    try:
        data, ancillary, _, address = sock.recvmsg(ERROR_DATA, ANCILLARY, MSG_ERRQUEUE)
    except OSError:
        return None
    error, ttl = None, 0
    for level, kind, value in ancillary:
        if (level, kind) in ((IPPROTO_IP, IP_RECVERR), (IPPROTO_IPV6, IPV6_RECVERR)):
            error = parse_extended_error(value, data)
        elif (level, kind) in ((IPPROTO_IP, IP_TTL), (IPPROTO_IPV6, IPV6_HOPLIMIT)):
            ttl = int.from_bytes(value[:4], sys.byteorder)
    if error is not None:
        error.ttl = ttl
        error.towards = address[0].partition("%")[0] if address else ""
    return error


def parse_extended_error(value: bytes, data: bytes) -> HostError | None:
    """Read a ``sock_extended_err`` and the offender's ``sockaddr`` behind it; None when it is cut short."""
    if len(value) < EXTENDED_ERROR.size:
        return None
    errno, origin, kind, code, info, _ = EXTENDED_ERROR.unpack_from(value)
    offender = None
    behind = value[EXTENDED_ERROR.size :]
    if len(behind) >= 8:
        family = int.from_bytes(behind[:2], sys.byteorder)
        if family == AF_INET:
            offender = behind[4:8]
        elif family == AF_INET6 and len(behind) >= 24:
            offender = behind[8:24]
    if offender is not None and not any(offender):
        offender = None
    return HostError(errno, origin, kind, code, info, offender, data)
