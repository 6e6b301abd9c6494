"""Ending a TCP socket of this network namespace from outside, whoever has it (sock_diag(7), SOCK_DESTROY; `ss -K`)."""

from __future__ import annotations

import socket
import struct

from .sockets import Socket

NETLINK_SOCK_DIAG, SOCK_DESTROY, NLM_F_REQUEST, NLM_F_ACK = 4, 21, 1, 4
ANY, NO_COOKIE = 0xFFFFFFFF, 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI")
_ID = struct.Struct("!HH16s16s")
_REST = struct.Struct("=III")


def destroy(each: Socket) -> None:
    """The socket's program gets ECONNABORTED. OSError where the kernel cannot do that or may not be asked to."""
    family = socket.AF_INET if each.local.version == 4 else socket.AF_INET6
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, ANY)
    body += _ID.pack(each.local_port, each.remote_port, each.local.packed, each.remote.packed)
    body += _REST.pack(0, NO_COOKIE, NO_COOKIE)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(1)
        kernel.bind((0, 0))
        kernel.sendall(_HEADER.pack(_HEADER.size + len(body), SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, 1, 0) + body)
        code = -struct.unpack_from("=i", kernel.recv(4096), _HEADER.size)[0]
    if code:
        raise OSError(code, "SOCK_DESTROY")
