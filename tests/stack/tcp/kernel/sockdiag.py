"""The state of one connection of the kernel's, by NETLINK_SOCK_DIAG: /proc/net/tcp walks all of its hash table.

Layouts are those of include/uapi/linux/inet_diag.h.
"""

from __future__ import annotations

import errno
import socket
import struct

from tests.world.namespace import STATES

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR = 2
NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_PORTS = struct.Struct("!HH")
_NO_COOKIE = struct.pack("=III", 0, 0xFFFF_FFFF, 0xFFFF_FFFF)


def open_diag() -> socket.socket:
    """A socket that asks about the network namespace of the calling thread."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG)


def state_of(diag: socket.socket, local: tuple[str, int], remote: tuple[str, int]) -> str:
    """The connection's state; CLOSED where there is none."""
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFF_FFFF) + _PORTS.pack(local[1], remote[1])
    for host, _ in (local, remote):
        request += socket.inet_pton(family, host).ljust(16, b"\0")
    request += _NO_COOKIE
    diag.send(_HEADER.pack(_HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0) + request)
    answer = diag.recv(8192)
    _, kind, *_ = _HEADER.unpack_from(answer)
    if kind == NLMSG_ERROR:
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        if code != -errno.ENOENT:
            raise OSError(-code, "sock_diag")
        return "CLOSED"
    name = STATES[answer[_HEADER.size + 1]]
    return "CLOSED" if name == "LISTEN" else name
