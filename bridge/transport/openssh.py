"""SSH by the `ssh` program: the fastest way there is (4 Gbit/s a core), with all that the user set up for it.

`ssh -G` tells what ~/.ssh/config says of the target, so that the link asks only for what the user left open. The
link is an own connection, never a shared one (ControlMaster): bulk data would stand before the keystrokes of the
user's other sessions, and an existing master has its own cipher. Who wants the shared one says `exec:ssh HOST`.

Host keys, passphrases and passwords are ssh's own business: it asks on the terminal, and where there is none
(BatchMode) it fails, and we say how to go on. The command line begins with a word to print (greeting.py), so `open`
returns when the login is done and the login's noise has passed.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence

from ..errors import BridgeError, TargetUnreachableError
from ..plain import clean
from ..user import User
from . import ssh_errors
from .base import Channel, Transport
from .ciphers import preferred
from .greeting import Greeting
from .process import start_process
from .remote_command import supervised
from .target import SshTarget
from .terminal import has_terminal, run_on_terminal

CONNECT_TIMEOUT = 30
"""Seconds, where ~/.ssh/config says nothing; the kernel alone would try for two minutes."""
CONFIGURATION_PATIENCE = 20.0
"""Seconds for `ssh -G`, which may run the user's own `Match exec` commands."""

FIXED = (
    "Compression=no",  # packets are mostly compressed or encrypted already, and it costs more than it saves
    "ClearAllForwardings=yes",  # they belong to the user's own ssh; a second one could not bind them
    "ControlMaster=no",
    "ControlPath=none",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "Tunnel=no",
    "ServerAliveInterval=0",  # the link asks by itself (heart.py), and not at all where a codespace shall fall asleep
)


class OpenSshTransport(Transport):
    """An SSH host, reached by the `ssh` program."""

    def __init__(self, target: SshTarget, *, user: User, log: Callable[[str], None], interactive: bool) -> None:
        self._target = target
        self._user = user
        self._log = log
        self._interactive = interactive
        self._program = ""
        self._options: list[str] = []

    def __repr__(self) -> str:
        return f"<OpenSshTransport {self._target}>"

    async def connect(self) -> None:
        program = shutil.which("ssh", path=self._user.environment.get("PATH"))
        if program is None:
            raise ssh_errors.no_ssh_program()
        self._program = program
        configuration = await self._configuration()
        self._options = list(FIXED)
        if not self._interactive:
            self._options.append("BatchMode=yes")
        if ciphers := configuration.get("ciphers"):
            self._options.append(f"Ciphers={','.join(preferred(ciphers.split(',')))}")
        if configuration.get("connecttimeout", "none") in ("none", "0"):
            self._options.append(f"ConnectTimeout={CONNECT_TIMEOUT}")
        if configuration.get("loglevel", "").upper() in ("QUIET", "FATAL"):
            self._options.append("LogLevel=ERROR")
        if not {"proxycommand", "proxyjump"} & configuration.keys():
            port = configuration.get("port", "22")
            self.peer_address = await _address(configuration.get("hostname", self._target.host), port)
            self.peer_port = int(port)

    async def open(self, command: str) -> Channel:
        greeting = Greeting()
        argv = [self._program, "-T"]
        for option in self._options:
            argv += ["-o", option]
        argv += [*self._place(), f"{greeting.shell()}; {command}"]
        try:
            channel = start_process(
                argv, user=self._user, log=self._log, interactive=self._interactive, explain=self._explain
            )
        except OSError as error:
            raise TargetUnreachableError(
                "ssh could not be started.", f"{error}.", "Check that `ssh -V` runs.",
            ) from error
        await greeting.wait(channel, self._log)
        channel.explain = self._explain_loss
        return channel

    async def run(self, argv: Sequence[str]) -> int:
        terminal = has_terminal()
        line = [self._program, "-t" if terminal else "-T"]
        command = []
        if argv:
            line += ["-o", "RemoteCommand=none"]
            command = [shlex.join(argv) if terminal else supervised(argv)]
        return await run_on_terminal([*line, *self._place(), *command], user=self._user)

    async def close(self) -> None:
        """Nothing is held between channels."""

    def _place(self) -> list[str]:
        target = self._target
        place = ["-p", str(target.port)] if target.port is not None else []
        if target.user is not None:
            place += ["-l", target.user]
        return [*place, "--", target.host]

    def _explain(self, status: int | None, text: str) -> BridgeError | None:
        return ssh_errors.from_stderr(self._target, text) if status == ssh_errors.SSH_FAILED else None

    def _explain_loss(self, status: int | None, text: str) -> BridgeError | None:
        last = text.splitlines()[-1] if text else ""
        return ssh_errors.lost(self._target, last) if status == ssh_errors.SSH_FAILED else None

    async def _configuration(self) -> dict[str, str]:
        """What ~/.ssh/config says of the target: option name in lower case to value."""

        def ask() -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                [self._program, "-G", *self._place()],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=CONFIGURATION_PATIENCE,
                **self._user.process_arguments(),
            )

        try:
            answer = await asyncio.get_running_loop().run_in_executor(None, ask)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TargetUnreachableError(
                "ssh could not be asked for its configuration.", f"{error}.", "Check that `ssh -G HOST` works.",
            ) from error
        if answer.returncode:
            raise ssh_errors.from_stderr(
                self._target, "\n".join(map(clean, answer.stderr.decode(errors="replace").splitlines()))
            )
        pairs = (line.partition(" ") for line in answer.stdout.decode(errors="replace").splitlines())
        return {name: value for name, _, value in pairs if value != "none"}


async def _address(host: str, port: str) -> str | None:
    """The address the host's name stands for first; None where it does not resolve, which ssh then tells better."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, int(port), proto=6)
    except (OSError, ValueError):
        return None
    return str(found[0][4][0]) if found else None
