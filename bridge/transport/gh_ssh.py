"""Both SSHes over `gh codespace ssh --stdio`, which gives the raw bytes of the codespace's sshd.

No configuration file is read: what ~/.ssh/config says of other hosts has no meaning for a name that we make up. Host
keys are not checked, as gh does not either: a codespace gets new ones with each rebuild, and what leads there is
GitHub's own tunnel, logged in and encrypted. Compression, which gh's plain `ssh` mode forces, stays off.

The tunnel ends with exit status 1 and `tunnel closed` whatever the reason. When we end it that is no news, so the line
is kept from the log; when a bridge runs on it, it is the reason of the loss.
"""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from ..errors import BridgeError, NotPermittedError
from ..user import User, in_person
from . import gh_errors
from .asyncssh_channel import AsyncsshChannel
from .asyncssh_transport import AsyncsshTransport
from .ciphers import preferred
from .known_hosts import KnownHosts, Strictness
from .openssh import OpenSshTransport
from .ssh_errors import SSH_FAILED
from .ssh_settings import ALWAYS, SshSettings, _Keys
from .target import SshTarget

TUNNEL_PATIENCE = 120
"""Seconds until the codespace's sshd must have spoken: the codespace runs by then, but gh asks GitHub for the way."""
REMEMBERED = 20
"""Lines of gh kept to explain a failure."""


Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A codespace's sshd and the way to it. Everything in here has been checked."""

    program: str
    """gh's path."""
    name: str
    """The codespace's name."""
    user: str
    """Who logs in there."""
    key: Path
    """The private key."""

    @property
    def host(self) -> SshTarget:
        return SshTarget(f"cs.{self.name}", self.user)

    def command(self) -> str:
        """The ProxyCommand, for /bin/sh."""
        words = [self.program, "codespace", "ssh", "-c", self.name, "--stdio", "--", "-i", str(self.key)]
        return shlex.join(words)


class GhOpenSsh(OpenSshTransport):
    """A codespace, by the `ssh` program."""

    def __init__(self, tunnel: Tunnel, label: str, *, user: User, log: Log, interactive: bool) -> None:
        super().__init__(tunnel.host, user=user, log=_without_peaceful_end(log), interactive=interactive)
        self._tunnel = tunnel
        self._label = label

    def _place(self) -> list[str]:
        command = self._tunnel.command().replace("%", "%%")  # ssh_config(5), TOKENS
        options = (
            f"ProxyCommand={command}",
            f'IdentityFile="{str(self._tunnel.key).replace("%", "%%")}"',
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            f"ConnectTimeout={TUNNEL_PATIENCE}",
        )
        place = ["-F", "none"]
        for option in options:
            place += ["-o", option]
        return [*place, "-l", self._tunnel.user, "--", self._tunnel.host.host]

    def _explain(self, status: int | None, text: str) -> BridgeError | None:
        return gh_errors.explain(self._user, self._label, None, text) if status == SSH_FAILED else None

    def _explain_loss(self, status: int | None, text: str) -> BridgeError | None:
        return gh_errors.lost(self._label, _last_words(text.splitlines())) if status == SSH_FAILED else None


class GhAsyncssh(AsyncsshTransport):
    """A codespace, by asyncssh."""

    def __init__(self, tunnel: Tunnel, label: str, *, user: User, log: Log, interactive: bool) -> None:
        self._heard: deque[str] = deque(maxlen=REMEMBERED)
        shown = _without_peaceful_end(log)

        def hear(line: str) -> None:
            self._heard.append(line)
            shown(line)

        super().__init__(tunnel.host, user=user, log=hear, interactive=interactive)
        self._tunnel = tunnel
        self._label = label

    async def connect(self) -> None:
        try:
            await super().connect()
        except NotPermittedError as error:
            raise gh_errors.not_let_in(self._label, error.why) from error
        except BridgeError as error:
            text = "\n".join([error.why, *self._heard])
            raise gh_errors.explain(self._user, self._label, None, text) from error

    async def _session(
        self, channel: AsyncsshChannel, command: str | None, terminal: tuple[int, int] | None = None
    ) -> AsyncsshChannel:
        await super()._session(channel, command, terminal)
        channel.explain = lambda error: gh_errors.lost(self._label, _last_words([f"{error}", *self._heard]))
        return channel

    def _settings(self, target: SshTarget) -> SshSettings:
        with in_person(self._user):
            options = asyncssh.SSHClientConnectionOptions(
                config=None, host=target.host, username=target.user or "", client_keys=[str(self._tunnel.key)],
                agent_path=None, known_hosts=None,
            )
        arguments: dict[str, Any] = {
            "client_keys": _Keys(options.client_keys or []),
            "agent_path": None,
            "known_hosts": lambda _host, _address, _port: ([], [], [], [], [], [], []),
            "encryption_algs": preferred([name.decode() for name in options.encryption_algs]),
            **ALWAYS,
        }
        return SshSettings(
            target.host, 22, target.host, self._tunnel.command(), [], KnownHosts(self._user, [], []), Strictness.NO,
            options, arguments,
        )


def _without_peaceful_end(log: Log) -> Log:
    def shown(line: str) -> None:
        if gh_errors.TUNNEL_CLOSED not in line:
            log(line)

    return shown


def _last_words(lines: Sequence[str]) -> str:
    """Of the last lines of both programs the one that tells most: gh's, since ssh only saw its stream end."""
    for line in reversed(lines):
        if gh_errors.TUNNEL_CLOSED in line:
            return f"gh says: {line[:gh_errors.MAX_TEXT]}."
    return f"{lines[-1][:gh_errors.MAX_TEXT]}." if lines else ""
