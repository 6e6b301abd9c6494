"""Local listeners whose clients leave at the exit: the entrance stays the same while the link is made anew."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

from netbridge.stack.names import by_name

from ..back.door import BackError
from ..back.ends import End, join
from ..entrance import Entrance
from ..errors import BridgeError

_MENDS = {
    "ECONNREFUSED": "See that something listens there.",
    "EAI_NONAME": "Names are resolved by the exit's host: see its hosts file and resolver.",
    "EAI_AGAIN": "The resolver of the exit's host does not answer; try again.",
    "EACCES": "The exit denies it: see --route, --allow and --deny there.",
    "ENOLINK": "Wait until the link is there again.",
}
_GAI = {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}


class BeyondError(BackError):
    """A place beyond the exit was not reached; `code` is the error's name."""

    def __init__(self, host: str, port: int, why: str, code: str) -> None:
        BridgeError.__init__(
            self, f"{host} port {port} was not reached through the link.", f"{why.rstrip('.')}.",
            _MENDS.get(code, "Try to reach it from the exit's host."),
        )
        self.code = code


class EntranceDoor:
    """Leads clients through whatever entrance there is at the moment."""

    def __init__(self) -> None:
        self.entrance: Entrance | None = None

    async def enter(self, visitor: End, host: str, port: int, reached: Callable[[], None] = lambda: None) -> None:
        """Join a transport to a place beyond the exit; `reached` is called before its bytes. Raises BeyondError."""
        entrance = self.entrance
        if entrance is None:
            raise BeyondError(host, port, "There is no link", "ENOLINK")
        try:
            _, there = await by_name(entrance, host, lambda address: entrance.create_connection(End, address, port))
        except (OSError, ValueError) as error:
            raise BeyondError(host, port, _why(error), _name(error)) from error
        if visitor.lost:
            there.fail("")
            return
        reached()
        join(visitor, there)


def _why(error: Exception) -> str:
    """As a program of the exit's host would be told."""
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].upper() + text[1:]


def _name(error: Exception) -> str:
    number = getattr(error, "errno", None) or 0
    return _GAI.get(number, "") if isinstance(error, socket.gaierror) else errno.errorcode.get(number, "")
