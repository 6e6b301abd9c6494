"""What asyncssh is told for a host: ~/.ssh/config, keys, agent, trust and ciphers, all of the user who called us.

asyncssh looks for the user's things under $HOME and expands `~` there. Under sudo that is root's, so the
configuration is read and the keys are loaded in the user's person (bridge/user.py), once, and handed to asyncssh
ready-made.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
from asyncssh.config import SSHClientConfig, SSHConfig

from ..errors import NotPermittedError, UsageError
from ..user import User, in_person
from .ask import ask_now
from .ciphers import preferred
from .known_hosts import KnownHosts, Strictness
from .target import SshTarget

SYSTEM_CONFIGURATION = Path("/etc/ssh/ssh_config")
LOGIN_PATIENCE = 120
"""Seconds for key exchange and login, questions to the user included; OpenSSH's server gives as many."""


ALWAYS: dict[str, Any] = {
    "agent_forwarding": False,
    "compression_algs": ["none"],
    "x11_forwarding": False,
    "command": None,
    "proxy_command": None,
    "tunnel": None,
    "connect_timeout": None,
    "login_timeout": LOGIN_PATIENCE,
    "keepalive_interval": 0,
    "config": None,
}
"""What the link wants of asyncssh whatever the target, and whatever ~/.ssh/config says."""

CAN_UNLOCK = importlib.util.find_spec("bcrypt") is not None
"""Keys with a passphrase in OpenSSH's own format need bcrypt_pbkdf; without it nobody is asked in vain."""


class _Keys(list[Any]):
    """Key pairs for asyncssh, which would take an empty list for a wish to look under $HOME."""

    def __bool__(self) -> bool:
        return True


class _Strict(SSHClientConfig):
    """ssh_config with the one option that asyncssh leaves out."""

    _handlers = {  # noqa: RUF012 - asyncssh's own form
        **SSHClientConfig._handlers,
        "stricthostkeychecking": ("StrictHostKeyChecking", SSHConfig._set_string),
    }


@dataclass(frozen=True, slots=True)
class SshSettings:
    """A host as ~/.ssh/config describes it."""

    host: str
    """Name or address to connect to."""
    port: int
    key_name: str
    """The name its host key is known by (HostKeyAlias, or the host)."""
    proxy_command: str | None
    jumps: Sequence[str]
    """ProxyJump's hosts, the nearest first."""
    known_hosts: KnownHosts
    strictness: Strictness
    options: asyncssh.SSHClientConnectionOptions
    arguments: dict[str, Any]
    """Keyword arguments of `asyncssh.connect` beside `options`."""


def read_settings(target: SshTarget, user: User, *, interactive: bool) -> SshSettings:
    """Read the configuration and load the keys. Raises UsageError, NotPermittedError."""
    with in_person(user):
        try:
            return _read(target, user, interactive=interactive)
        except asyncssh.KeyImportError as error:
            raise NotPermittedError(
                "A key of ~/.ssh cannot be used.", f"{error}.", "Unlock it with ssh-add, or correct IdentityFile."
            ) from error
        except (ValueError, TypeError) as error:  # asyncssh.ConfigParseError is a ValueError
            raise UsageError(
                "The SSH configuration is not understood.", f"{error}.", "Correct ~/.ssh/config."
            ) from error
        except OSError as error:
            raise NotPermittedError("The SSH configuration cannot be read.", f"{error}.", "Check ~/.ssh.") from error


def _read(target: SshTarget, user: User, *, interactive: bool) -> SshSettings:
    own = user.home / ".ssh" / "config"
    files = [file for file in (own, SYSTEM_CONFIGURATION) if os.access(file, os.R_OK)]
    given: dict[str, Any] = {"host": target.host}
    if target.port is not None:
        given["port"] = target.port
    if target.user is not None:
        given["username"] = target.user
    if interactive and CAN_UNLOCK:
        given["passphrase"] = lambda file: ask_now(f"Passphrase for {file}: ", echo=False) or ""
    try:
        options = asyncssh.SSHClientConnectionOptions(config=files, **given)
    except ValueError:
        # The system's file may name algorithms that asyncssh does not have; the user's own file must be right.
        files = [file for file in files if file != SYSTEM_CONFIGURATION]
        options = asyncssh.SSHClientConnectionOptions(config=files, **given)
    if not 0 < options.port < 65536:  # asyncssh takes any number, and fails when it connects
        raise ValueError(f"{options.port} is no port")
    configuration: Any = options.config
    user_files = configuration.get("UserKnownHostsFile")
    known_hosts = KnownHosts(user, user_files, configuration.get("GlobalKnownHostsFile"))
    ciphers = [name.decode() for name in options.encryption_algs]
    arguments: dict[str, Any] = {
        "client_keys": None if options.client_keys is None else _Keys(options.client_keys),
        "agent_path": options.agent_path or None,
        "known_hosts": lambda host, _address, port: known_hosts.keys(host, port or 22),
        "encryption_algs": preferred(ciphers),
        **ALWAYS,
    }
    jumps = options.tunnel.split(",") if isinstance(options.tunnel, str) else []
    return SshSettings(
        options.host,
        options.port,
        options.host_key_alias or options.host,
        configuration.get("ProxyCommand"),
        jumps,
        known_hosts,
        _strictness(target, files, user),
        options,
        arguments,
    )


def _strictness(target: SshTarget, files: list[Path], user: User) -> Strictness:
    found = _Strict.load(None, files, False, False, False, user.name, target.user or (), target.host, target.port or ())
    text = str(found.get("StrictHostKeyChecking", "ask")).lower()
    return {
        "yes": Strictness.YES,
        "true": Strictness.YES,
        "accept-new": Strictness.ACCEPT_NEW,
        "no": Strictness.NO,
        "off": Strictness.NO,
        "false": Strictness.NO,
    }.get(text, Strictness.ASK)
