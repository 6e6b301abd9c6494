"""Both SSHes over a tunnel: a program whose stdin and stdout carry the raw bytes of an SSH server, as ProxyCommand.

`gh codespace ssh --stdio` and `devpod ssh --stdio` are such programs. No configuration file is read: what ~/.ssh/config
says of other hosts has no meaning for a name that we make up. Host keys are not checked, as those programs do not
either: the servers get new ones with each rebuild, and what leads there is their own tunnel, logged in and encrypted.
Compression, which gh's plain `ssh` mode forces, stays off.
"""

from __future__ import annotations

import abc
import shlex
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import asyncssh

from ..errors import BridgeError, NotPermittedError
from ..user import User, in_person
from .asyncssh_channel import AsyncsshChannel
from .asyncssh_transport import AsyncsshTransport
from .base import Transport
from .ciphers import preferred
from .known_hosts import KnownHosts, Strictness
from .openssh import OpenSshTransport
from .ssh_errors import SSH_FAILED
from .ssh_settings import ALWAYS, SshSettings, _Keys
from .target import SshTarget

TUNNEL_PATIENCE = 120
"""Seconds until the server must have spoken: the program asks its service for the way first."""
REMEMBERED = 20
"""Lines kept to explain a failure."""

Log = Callable[[str], None]


class Tunnel(abc.ABC):
    """An SSH server and the way to it, and how its failures are told. What it gives has been checked."""

    @property
    @abc.abstractmethod
    def host(self) -> SshTarget:
        """A name that we make up, and who logs in there."""

    @property
    @abc.abstractmethod
    def words(self) -> Sequence[str]:
        """The program and its arguments."""

    @property
    def key(self) -> Path | None:
        """The private key; None: what the user has, if the server asks for any."""
        return None

    @abc.abstractmethod
    def explain(self, text: str) -> BridgeError:
        """Why there is no login. `text`: what the program and ssh said, untrusted."""

    @abc.abstractmethod
    def not_let_in(self, why: str) -> BridgeError:
        """The server wants another key."""

    @abc.abstractmethod
    def lost(self, lines: Sequence[str]) -> BridgeError:
        """The tunnel ended under a running bridge. `lines`: the last ones, untrusted."""

    def is_news(self, _line: str) -> bool:
        """False for what the program says at every end."""
        return True

    @property
    def command(self) -> str:
        """The ProxyCommand, for /bin/sh."""
        return shlex.join(self.words)


def tunnelled(tunnel: Tunnel, ssh: str, *, user: User, log: Log, interactive: bool) -> Transport:
    """The transport over a tunnel; `ssh`: openssh or asyncssh."""

    def news(line: str) -> None:
        if tunnel.is_news(line):
            log(line)

    kind = _OpenSsh if ssh == "openssh" else _Asyncssh
    return kind(tunnel, user=user, log=news, interactive=interactive)


class _OpenSsh(OpenSshTransport):
    """By the `ssh` program."""

    def __init__(self, tunnel: Tunnel, *, user: User, log: Log, interactive: bool) -> None:
        super().__init__(tunnel.host, user=user, log=log, interactive=interactive)
        self._tunnel = tunnel

    def _place(self) -> list[str]:
        tunnel = self._tunnel
        options = [
            f"ProxyCommand={_no_tokens(tunnel.command)}",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            f"ConnectTimeout={TUNNEL_PATIENCE}",
        ]
        if tunnel.key is not None:
            options += [
                f'IdentityFile="{_no_tokens(str(tunnel.key))}"', "IdentitiesOnly=yes", "IdentityAgent=none",
            ]  # fmt: skip
        place = ["-F", "none"]
        for option in options:
            place += ["-o", option]
        return [*place, "-l", tunnel.host.user or self._user.name, "--", tunnel.host.host]

    def _explain(self, status: int | None, text: str) -> BridgeError | None:
        return self._tunnel.explain(text) if status == SSH_FAILED else None

    def _explain_loss(self, status: int | None, text: str) -> BridgeError | None:
        return self._tunnel.lost(text.splitlines()) if status == SSH_FAILED else None


class _Asyncssh(AsyncsshTransport):
    """By asyncssh."""

    def __init__(self, tunnel: Tunnel, *, user: User, log: Log, interactive: bool) -> None:
        self._heard: deque[str] = deque(maxlen=REMEMBERED)

        def hear(line: str) -> None:
            self._heard.append(line)
            log(line)

        super().__init__(tunnel.host, user=user, log=hear, interactive=interactive)
        self._tunnel = tunnel

    async def connect(self) -> None:
        try:
            await super().connect()
        except NotPermittedError as error:
            raise self._tunnel.not_let_in(error.why) from error
        except BridgeError as error:
            raise self._tunnel.explain("\n".join([error.why, *self._heard])) from error

    async def _session(
        self, channel: AsyncsshChannel, command: str | None, terminal: tuple[int, int] | None = None
    ) -> AsyncsshChannel:
        await super()._session(channel, command, terminal)
        channel.explain = lambda error: self._tunnel.lost([f"{error}", *self._heard])
        return channel

    def _settings(self, target: SshTarget) -> SshSettings:
        given: dict[str, Any] = {"host": target.host, "username": target.user or self._user.name}
        if self._tunnel.key is not None:
            given.update(client_keys=[str(self._tunnel.key)], agent_path=None)
        with in_person(self._user):
            options = asyncssh.SSHClientConnectionOptions(config=None, known_hosts=None, **given)
        arguments: dict[str, Any] = {
            "client_keys": _Keys(options.client_keys or []),
            "agent_path": options.agent_path or None,
            "known_hosts": lambda _host, _address, _port: ([], [], [], [], [], [], []),
            "encryption_algs": preferred([name.decode() for name in options.encryption_algs]),
            **ALWAYS,
        }
        return SshSettings(
            target.host, 22, target.host, self._tunnel.command, [], KnownHosts(self._user, [], []), Strictness.NO,
            options, arguments,
        )


def _no_tokens(text: str) -> str:
    """The text as ssh_config wants it, where % begins a token (ssh_config(5), TOKENS)."""
    return text.replace("%", "%%")
