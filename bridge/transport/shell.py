"""Reaching a shell by a command whose stdin and stdout are that shell's, such as `docker exec -i box sh`.

The command line for over there is written to the shell's stdin as one script line, the first thing it reads.
(Appending it as an argument instead would work for `ssh` but not for `docker exec … sh`.) The line replaces the
shell by a fresh `sh -c`, so a csh that reads the line is fine; it then prints a word that only we know and
goes on to the command, whose stdin is what we write from then on (see greeting.py for why nothing may be written
before).

A terminal in between (`docker exec -it`, `ssh -tt`) would change bytes on the way: the line asks for one and says
so.
"""

from __future__ import annotations

import abc
import shlex
from collections.abc import Callable, Sequence

from ..errors import BridgeError, TargetUnreachableError
from ..user import User
from .base import Channel, Transport
from .greeting import Greeting
from .process import ProcessChannel, start_process

HAS_TERMINAL = 93
"""Exit status of our line when a terminal stands in between."""


class ShellTransport(Transport):
    """A place where a command reaches a shell."""

    question: bytes = b""
    """What the command prints when it wants an answer that nobody can give; empty: it never does."""

    def __init__(self, *, user: User, log: Callable[[str], None], interactive: bool) -> None:
        self._user = user
        self._log = log
        self._interactive = interactive

    @property
    @abc.abstractmethod
    def _argv(self) -> Sequence[str]:
        """The command that reaches the shell; asked for after `connect`."""

    @abc.abstractmethod
    def _explain(self, status: int | None, text: str) -> BridgeError | None:
        """Why it ended before the shell answered. `text`: what it said, standard error last. Untrusted."""

    def _explain_loss(self, _status: int | None, _text: str) -> BridgeError | None:
        """Why it ended afterwards; None where the exit status is the command's own."""
        return None

    async def open(self, command: str) -> Channel:
        return await self._open(command)

    async def close(self) -> None:
        """Nothing is held between channels."""

    async def _open(self, command: str, *, inherit_stderr: bool = False) -> ProcessChannel:
        greeting = Greeting(question=self.question)
        try:
            channel = start_process(
                self._argv,
                user=self._user,
                log=self._log,
                interactive=self._interactive,
                explain=lambda status, text: self._explain(status, f"{greeting.noise}\n{text}".strip()),
                inherit_stderr=inherit_stderr,
            )
        except OSError as error:
            raise TargetUnreachableError(
                f"{self._argv[0]} could not be started.", f"{error}.", "Check that it runs by hand.",
            ) from error
        script = f"if [ -t 0 ]; then exit {HAS_TERMINAL}; fi; {greeting.shell()}; {command}"
        channel.write([f"exec sh -c {shlex.quote(script)}\n".encode()])
        await greeting.wait(channel, self._log)
        channel.explain = self._explain_loss
        return channel
