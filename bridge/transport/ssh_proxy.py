"""ProxyCommand: a program whose stdin and stdout stand for the connection, run as the user and by the user's shell, as
ssh does.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from ..user import User
from .child import Child
from .diagnostics import Diagnostics
from .process import SOCKET_BUFFER

END_AFTER = 1.0
"""Seconds a proxy may take to end after the connection did."""


class Proxy:
    """A running ProxyCommand. Raises OSError when it cannot be started."""

    def __init__(self, command: str, user: User, log: Callable[[str], None], *, interactive: bool) -> None:
        self.stream, theirs = socket.socketpair()
        self._diagnostics = Diagnostics(log)
        self.stream.setblocking(False)
        read_end, write_end = os.pipe()
        try:
            for end in (self.stream, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
            self._child = Child(
                [user.shell, "-c", f"exec {command}"],
                user=user,
                interactive=interactive,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=write_end,
            )
        except BaseException:
            os.close(read_end)
            self.stream.close()
            raise
        finally:
            theirs.close()
            os.close(write_end)
        self._diagnostics.drain(read_end)

    async def close(self) -> None:
        """End it; the stream belongs to the connection that took it."""
        self._child.end_soon(END_AFTER)
        await self._child.wait()
        self._diagnostics.close()
