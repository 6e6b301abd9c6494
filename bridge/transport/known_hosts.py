"""Host keys as OpenSSH trusts them: the same files, the same rules, so that both SSHes agree on who is known.

~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts unless ~/.ssh/config names others. A host on another port than 22
stands there as [host]:port; a key that is known for the host without a port counts too (ssh's check_host_key does
the same). Only names are looked up, not addresses (CheckHostIP is off since OpenSSH 8.5).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import asyncssh

from ..user import User

SSH_PORT = 22


class Strictness(Enum):
    """What ~/.ssh/config says of unknown host keys (StrictHostKeyChecking)."""

    ASK = "ask"
    YES = "yes"
    ACCEPT_NEW = "accept-new"
    NO = "no"


class KnownHosts:
    """What is known of host keys."""

    def __init__(self, user: User, user_files: Sequence[str] | None, system_files: Sequence[str] | None) -> None:
        """None: where OpenSSH looks by default. Read the files in the user's person."""
        folder = user.home / ".ssh"
        if user_files is None:
            self.files = [folder / "known_hosts", folder / "known_hosts2"]
        else:
            self.files = [_path(name, user) for name in user_files]
        if system_files is None:
            system_files = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"]
        self._known = asyncssh.import_known_hosts("")
        for file in [*self.files, *(_path(name, user) for name in system_files)]:
            try:
                text = file.read_text(errors="replace")
            except OSError:
                continue
            self._known.load("\n".join(line for line in text.splitlines() if _readable(line)))

    def keys(self, host: str, port: int) -> Any:
        """What asyncssh wants to know of a host: trusted keys, CA keys, revoked keys and so on."""
        return self._known.match(host, "", port if port != SSH_PORT else None)

    def knows_other_key(self, host: str, port: int) -> bool:
        """Whether some key is known for exactly this host and port: then another one is a changed one."""
        name = host if port == SSH_PORT else f"[{host}]:{port}"
        return bool(self._known.match(name, "", None)[0])

    def add(self, user: User, host: str, port: int, key: asyncssh.SSHKey) -> None:
        """Remember a key as the user's ssh would. Call it in the user's person. Raises OSError."""
        if not self.files:
            return
        file = self.files[0]
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = host if port == SSH_PORT else f"[{host}]:{port}"
        line = f"{name} {key.export_public_key('openssh').decode().strip()}\n"
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b") as stream:
            end = stream.seek(0, os.SEEK_END)
            if end:
                stream.seek(end - 1)
                if stream.read(1) != b"\n":
                    line = "\n" + line
            stream.write(line.encode())


def _path(name: str, user: User) -> Path:
    """A file name of ssh_config: `~` and `%d` are the home folder (ssh_config(5), TOKENS)."""
    name = name.replace("%d", str(user.home)).replace("%%", "%")
    return user.home / name[2:] if name.startswith("~/") else Path(name)


def _readable(line: str) -> bool:
    """Whether asyncssh reads the line; one that it cannot must not make the others unknown."""
    try:
        asyncssh.import_known_hosts(line)
    except ValueError:
        return False
    return True
