"""`exec:COMMAND`: any command whose stdin and stdout reach a shell, such as `docker exec -i box sh` or `sudo ip netns
exec codespace sh`.

The command line for over there is written to that shell's stdin as one script line, the first thing it reads.
(Appending it as an argument instead would work for `ssh` but not for `docker exec … sh`.) The line replaces the
shell by a fresh `sh -c`, so a csh that reads the line is fine; it then prints a word that only we know and
goes on to the command, whose stdin is what we write from then on (see greeting.py for why nothing may be written
before).

A terminal in between (`docker exec -it`, `ssh -tt`) would change bytes on the way: the line asks for one and says
so.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Sequence

from ..errors import BridgeError, TargetLacksError, TargetUnreachableError, UsageError
from ..user import User
from .base import Channel, Transport
from .greeting import Greeting
from .process import ProcessChannel, start_process
from .relay import relay
from .target import ExecTarget
from .terminal import has_terminal

NOT_FOUND = 127
HAS_TERMINAL = 93
"""Exit status of our line when a terminal stands in between."""

REMOTE_TERMINAL = (
    "import os, pty, signal, sys; [signal.signal(n, signal.SIG_DFL) for n in (signal.SIGINT, signal.SIGHUP)]; "
    "os.environ.setdefault('TERM', sys.argv[1]); "
    "sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[2:] or [os.environ.get('SHELL', 'sh')])) & 255)"
)
"""Run by python3 over there, which the bridge needs anyway: a terminal around an interactive command. Where "there" is
a child of ours, it inherits that our children ignore SIGINT and SIGHUP; the command shall not."""


class ExecTransport(Transport):
    """A place behind a command."""

    def __init__(self, target: ExecTarget, *, user: User, log: Callable[[str], None], interactive: bool) -> None:
        self._target = target
        self._user = user
        self._log = log
        self._interactive = interactive

    def __repr__(self) -> str:
        return f"<ExecTransport {self._target}>"

    async def connect(self) -> None:
        program = self._target.argv[0]
        if shutil.which(program, path=self._user.environment.get("PATH")) is None:
            raise TargetLacksError(
                f"There is no program {program} on this machine.",
                "It is not on the PATH.",
                "Install it or correct the target.",
            )

    async def open(self, command: str) -> Channel:
        return await self._open(command)

    async def run(self, argv: Sequence[str]) -> int:
        if has_terminal():
            words = ["python3", "-c", REMOTE_TERMINAL, os.environ.get("TERM", "dumb"), *argv]
            size = os.get_terminal_size(0)
            command = f"exec {shlex.join(words)}"
            # The new terminal over there has no size of its own; this one's is told to what runs in it.
            command = f"COLUMNS={size.columns} LINES={size.lines}; export COLUMNS LINES; {command}"
        else:
            command = f"exec {shlex.join(argv)}" if argv else 'exec "${SHELL:-sh}"'
        channel = await self._open(command, inherit_stderr=True)
        return await relay(channel, channel.end_input)

    async def close(self) -> None:
        """Nothing is held between channels."""

    async def _open(self, command: str, *, inherit_stderr: bool = False) -> ProcessChannel:
        greeting = Greeting()
        try:
            channel = start_process(
                self._target.argv,
                user=self._user,
                log=self._log,
                interactive=self._interactive,
                explain=self._explain,
                inherit_stderr=inherit_stderr,
            )
        except OSError as error:
            raise TargetUnreachableError(f"{self._target.argv[0]} could not be started.", f"{error}.", "") from error
        script = f"if [ -t 0 ]; then exit {HAS_TERMINAL}; fi; {greeting.shell()}; {command}"
        channel.write([f"exec sh -c {shlex.quote(script)}\n".encode()])
        await greeting.wait(channel, self._log)
        channel.explain = None  # from here on an exit status is the command's own
        return channel

    def _explain(self, status: int | None, text: str) -> BridgeError | None:
        if not status:
            return None
        last = text.splitlines()[-1] if text else ""
        if status == HAS_TERMINAL:
            return UsageError(
                "The command puts a terminal in between.",
                "A terminal changes bytes, so packets cannot pass it.",
                "Leave out its -t option, as in: exec:docker exec -i …",
            )
        if status == NOT_FOUND:
            return TargetLacksError(
                "The command did not find what it was to run.", last, f"Check `{self._target}` by hand."
            )
        return TargetUnreachableError(
            f"The command `{self._target}` ended with exit status {status}.",
            last,
            "Check that it reaches a shell by hand.",
        )
