"""`exec:COMMAND`: any command whose stdin and stdout reach a shell (see shell.py)."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Sequence

from ..errors import BridgeError, TargetLacksError, TargetUnreachableError, UsageError
from ..user import User
from .relay import relay
from .shell import HAS_TERMINAL, ShellTransport
from .target import ExecTarget
from .terminal import has_terminal

NOT_FOUND = 127

REMOTE_TERMINAL = (
    "import os, pty, signal, sys; [signal.signal(n, signal.SIG_DFL) for n in (signal.SIGINT, signal.SIGHUP)]; "
    "os.environ.setdefault('TERM', sys.argv[1]); "
    "sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[2:] or [os.environ.get('SHELL', 'sh')])) & 255)"
)
"""Run by python3 over there, which the bridge needs anyway: a terminal around an interactive command. Where "there" is
a child of ours, it inherits that our children ignore SIGINT and SIGHUP; the command shall not."""


class ExecTransport(ShellTransport):
    """A place behind a command."""

    def __init__(self, target: ExecTarget, *, user: User, log: Callable[[str], None], interactive: bool) -> None:
        super().__init__(user=user, log=log, interactive=interactive)
        self._target = target

    def __repr__(self) -> str:
        return f"<ExecTransport {self._target}>"

    @property
    def _argv(self) -> Sequence[str]:
        return self._target.argv

    async def connect(self) -> None:
        program = self._target.argv[0]
        if shutil.which(program, path=self._user.environment.get("PATH")) is None:
            raise TargetLacksError(
                f"There is no program {program} on this machine.",
                "It is not on the PATH.",
                "Install it or correct the target.",
            )

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
