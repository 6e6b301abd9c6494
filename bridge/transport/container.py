"""A container behind a program that runs commands in it: `docker exec`, `kubectl exec`.

The link is such a command that reaches `sh` (see shell.py). COMMAND runs by another one, with a terminal of the
container's where there is one here (`-it`), and nothing of ours in between.

These programs do not end what they started: when `docker exec` is killed, or its connection breaks, its command in the
container runs on, and nothing tells it. (The agent notices by the end of its stdin.) So COMMAND bears a mark in its
environment, which what it starts inherits, and when the bridge ends before it does, all that bears the mark is ended
over there.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Sequence

from ..errors import BridgeError
from ..user import User
from .asked import ask_program
from .shell import ShellTransport
from .terminal import has_terminal, run_on_terminal

MARK = "NETBRIDGE_COMMAND"
MARKED = f'{MARK}=$0; export {MARK}; exec "$@"'
"""A script for the container's `sh`: $0 is the mark. 127 and 126 are its exit statuses for what cannot be run."""
SHELL = ("sh", "-c", 'exec "${SHELL:-sh}"')
"""What runs where no COMMAND was given."""
END = """
import os, signal, sys, time
mark = sys.argv[1].encode()
def tell(*numbers):
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/environ" % name, "rb") as file:
                if mark in file.read().split(b"\\0"):
                    for number in numbers:
                        os.kill(int(name), number)
                    found.append(name)
        except OSError:
            pass
    return found
tell(signal.SIGHUP, signal.SIGTERM, signal.SIGCONT)
deadline = time.monotonic() + 1.5
while tell() and time.monotonic() < deadline:
    time.sleep(0.05)
tell(signal.SIGKILL)
"""
"""Run by python3 over there, which the bridge needs anyway."""
END_PATIENCE = 3.0
"""Seconds for that, its start included; the session waits little longer for a COMMAND that it cancelled."""


class ContainerTransport(ShellTransport):
    """A container, reached by `program`."""

    program: str
    """The client program's name; its path after `connect`."""

    def __init__(self, *, user: User, log: Callable[[str], None], interactive: bool) -> None:
        super().__init__(user=user, log=log, interactive=interactive)
        self._program = self.program

    @abc.abstractmethod
    def _exec(self, options: Sequence[str], argv: Sequence[str]) -> list[str]:
        """The words that run `argv` in the container; `options` are -i, -it or nothing."""

    @abc.abstractmethod
    def _missing(self) -> BridgeError:
        """The client program is not there."""

    async def connect(self) -> None:
        found = shutil.which(self.program, path=self._user.environment.get("PATH"))
        if found is None:
            raise self._missing()
        self._program = os.path.abspath(found)

    @property
    def _argv(self) -> Sequence[str]:
        return self._exec(("-i",), ("sh",))

    async def run(self, argv: Sequence[str]) -> int:
        value = secrets.token_hex(8)
        marked = ["sh", "-c", MARKED, value, *(argv or SHELL)]
        words = self._exec(("-it",) if has_terminal() else ("-i",), marked)
        running = asyncio.get_running_loop().create_task(run_on_terminal(words, user=self._user))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            # The command's end ends its client, too.
            with contextlib.suppress(BridgeError, TimeoutError):
                words = self._exec((), ("python3", "-c", END, f"{MARK}={value}"))
                await ask_program(words, self._user, patience=END_PATIENCE)
            running.cancel()
            await asyncio.wait([running])
            raise
