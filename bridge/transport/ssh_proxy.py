"""ProxyCommand: a program whose stdin and stdout stand for the connection, run as the user and by the user's shell, as
ssh does.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from ..user import User
from .child import Child
from .diagnostics import Diagnostics
from .process import SOCKET_BUFFER

FIRST_BYTE = 5.0
"""Seconds to wait for the server's first byte before trusting that it will come."""
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

    async def speaks(self) -> bool:
        """Wait for the server's first byte, which stays where it is; False when the end comes instead.

        uvloop never closes a socket that was broken before a transport took it, so that must be found out before. A
        server that waits for us to speak first is given up on after a while, and True.
        """
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[None] = loop.create_future()

        def readable() -> None:
            if not heard.done():
                heard.set_result(None)

        loop.add_reader(self.stream.fileno(), readable)
        try:
            async with asyncio.timeout(FIRST_BYTE):
                await heard
            return bool(self.stream.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            return True
        except OSError:
            return False
        finally:
            loop.remove_reader(self.stream.fileno())

    def last_words(self) -> str:
        """The last line of its standard error."""
        return self._diagnostics.text().rpartition("\n")[2].rstrip(".")

    async def close(self) -> None:
        """End it; the stream belongs to the connection that took it."""
        self._child.end_soon(END_AFTER)
        await self._child.wait()
        self._diagnostics.close()
