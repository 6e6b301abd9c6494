"""Who is at the other end of a unix socket, as the kernel knows it. Both ends of a bridge use it."""

from __future__ import annotations

import socket
import struct
from typing import Any, Optional

CREDENTIALS = struct.Struct("=iII")
"""struct ucred of unix(7): process, user and group when the other end connected, or began to listen."""


def peer_uid(connection: Any) -> Optional[int]:
    """The user at the other end of a socket (or of what asyncio gives for one); None where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    data = connection.getsockopt(socket.SOL_SOCKET, option, CREDENTIALS.size)
    uid: int = CREDENTIALS.unpack(data)[1]
    return uid
