"""Connects that must fail, and the errno with which they do.

A connect with a timeout of Python's asks for SO_ERROR as soon as the socket is ready; Linux wakes it up a moment before
the error of an ICMP message is there, and then a refused connect looks like a success. A blocking one waits in the
kernel.
"""

from __future__ import annotations

import socket
import struct

from tests.world import Machine

PATIENCE = struct.pack("ll", 5, 0)
"""Seconds, microseconds: SO_SNDTIMEO bounds a blocking connect too (socket(7)); it is EINPROGRESS then."""


def connect_errno(machine: Machine, host: str, port: int, enter: int | None = None) -> int:
    """What connect() says, 0 for success; from a network namespace as in `Machine.connect`."""

    def dial() -> int:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as client:
            return blocking_connect(client, host, port)

    return machine.inside(dial, enter)


def blocking_connect(client: socket.socket, host: str, port: int) -> int:
    """The same with a socket that is there already."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, PATIENCE)
    return client.connect_ex((host, port))
