"""A link over a session of an asyncssh connection: to a program over there that speaks on its standard streams.

The program is whatever makes a link of its standard input and output (`stdio_link`), or a subsystem of the server's.
Where the other end is asyncssh's server, its process handler calls `stream_link(process.stdin, process.stdout)`, with
encoding=None.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from .base import LinkError
from .greeting import TIMEOUT, Role
from .stream import StreamLink, stream_link

if TYPE_CHECKING:
    from asyncssh import SSHClientConnection

SAID = 200
"""Characters of the program's complaint that an error quotes."""


async def ssh_link(
    connection: SSHClientConnection, command: str | None = None, *, subsystem: str | None = None, mtu: int = 1500,
    offload: bool = True, role: Role = Role.STACK, timeout: float = TIMEOUT,
) -> StreamLink:  # fmt: skip
    """A link to `command`, run over there, or to a subsystem of the server's; the connection itself stays the caller's.

    `mtu`, `offload`, `role` and `timeout` as in `stream_link`. Raises LinkError, with what the program complained of on
    its standard error.
    """
    if (command is None) == (subsystem is None):
        raise ValueError("give a command or a subsystem")
    process: Any
    try:
        process = await connection.create_process(
            command, subsystem=subsystem, encoding=None, stderr=asyncio.subprocess.PIPE, term_type=None,
        )  # fmt: skip
    except OSError as error:
        raise LinkError(f"the SSH connection broke: {error}") from error
    except Exception as error:  # asyncssh's own: the server refuses the session or the program
        raise LinkError(f"the SSH server refuses it: {error}") from error
    try:
        link = await stream_link(process.stdout, process.stdin, mtu=mtu, offload=offload, role=role, timeout=timeout)
    except LinkError as error:
        said = b""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1.0):
                said = await process.stderr.read()
        if text := said.decode("utf-8", "replace").strip():
            raise LinkError(f"{error}; {text.splitlines()[-1][:SAID]}") from error
        raise
    link._spawn(_swallow(process.stderr))
    return link


async def _swallow(stderr: Any) -> None:
    """What the program prints later is nobody's, but unread it would fill the channel's window."""
    with contextlib.suppress(Exception):
        while await stderr.read(4096):
            pass
