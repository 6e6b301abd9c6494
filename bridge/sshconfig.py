"""`ssh NAME.netbridge`: a Host block for each target in a file of our own, which a line in ~/.ssh/config includes.

The line stands first, since an Include below a Host line belongs to that Host (ssh_config(5)). Files are written anew
beside the old one and renamed over it, links followed, mode kept; under sudo all of it happens as the user who called
sudo. What is there already is not written again.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import BridgeError, UsageError
from .transport.target import CodespaceTarget, ExecTarget, SandboxTarget, SshTarget, parse_target
from .user import User, in_person

FILE = "netbridge_config"
INCLUDE = f"Include {FILE}"
NOTE = "# added by netbridge ssh-config; `netbridge ssh-config uninstall` removes it"
HEAD = "# Written by netbridge ssh-config.\n"
SUFFIX = ".netbridge"
CODESPACE_PORT, SSH_PORT = 2222, 22
"""Where sshd listens: in GitHub's default image and by its feature, and everywhere else."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*\Z")
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+\\\-]*\$?\Z")


@dataclass(frozen=True, slots=True)
class Block:
    """One Host of ours."""

    name: str
    """Without `.netbridge`."""
    target: str
    """TARGET as it was given to `up`."""
    port: int
    user: str | None
    codespace: bool
    """Keys and host keys are as gh has them."""

    def text(self, program: Sequence[str]) -> str:
        """The block between its marker lines; `program`: the words that run netbridge."""
        words = [*program, "connect", "--target", self.target, "localhost", str(self.port)]
        lines = [
            f"Host {self.name}{SUFFIX}",
            # The words pass a shell, and before it ssh's own % expansion.
            f"    ProxyCommand {shlex.join(words).replace('%', '%%')}",
            f"    HostKeyAlias {self.name}{SUFFIX}",
        ]
        if self.user:
            lines.append(f"    User {self.user}")
        if self.codespace:
            # As `gh codespace ssh --config` has it: a rebuild makes new host keys, and the way there is authenticated.
            lines += [
                "    IdentityFile ~/.ssh/codespaces.auto", "    StrictHostKeyChecking no",
                "    UserKnownHostsFile /dev/null", "    LogLevel ERROR",
            ]
        else:  # the way there is the bridge's own SSH connection, so the first key seen is the right one
            lines.append("    StrictHostKeyChecking accept-new")
        return "\n".join([_begin(self.name), *lines, _end(self.name), ""])


def _begin(name: str) -> str:
    return f"# begin {name}{SUFFIX}"


def _end(name: str) -> str:
    return f"# end {name}{SUFFIX}"


def block(target: str, *, name: str | None = None, port: int | None = None, user: str | None = None) -> Block:
    """The block for a TARGET; what is not given is taken from it. Raises UsageError."""
    parsed = parse_target(target)
    codespace = isinstance(parsed, CodespaceTarget)
    if isinstance(parsed, SshTarget):
        name, port, user = name or parsed.host.replace(":", "-"), port or parsed.port or SSH_PORT, user or parsed.user
    elif isinstance(parsed, SandboxTarget):
        name = name or "sandbox"
    elif isinstance(parsed, ExecTarget) and name is None:
        raise UsageError(f"{target!r} gives no name for ssh.", "It is a command.", "Choose one by --name.")
    name = (name or target).removesuffix(SUFFIX)
    if not _NAME.match(name):
        raise UsageError(
            f"{name!r} cannot be a name for ssh.", "It holds other characters than letters, digits, dots and dashes.",
            "Choose one by --name.",
        )
    if user is not None and not _USER.match(user):
        raise UsageError(
            f"{user!r} is no user name.", "It holds characters that user names do not have.", "Name one by --user.",
        )
    return Block(name, target, port or (CODESPACE_PORT if codespace else SSH_PORT), user, codespace)


class SshFolder:
    """A user's ~/.ssh."""

    def __init__(self, user: User) -> None:
        self._user = user
        self.path = user.home / ".ssh"

    def install(self, new: Block, program: Sequence[str]) -> bool:
        """Add or renew a block; whether anything was changed. Raises BridgeError."""
        with self._as_user():
            self.path.mkdir(mode=0o700, exist_ok=True)
            ours, config = self.path / FILE, self.path / "config"
            before = _read(ours)
            text = _without(before or HEAD, new.name) + new.text(program)
            changed = _write(ours, text, before)
            config_before = _read(config)
            if not _includes(config_before or ""):
                rest = f"\n{config_before}" if config_before else ""
                changed = _write(config, f"{NOTE}\n{INCLUDE}\n{rest}", config_before) or changed
            return changed

    def uninstall(self, name: str | None) -> list[str]:
        """Remove one block, or all and every trace; the names of those that were there. Raises BridgeError."""
        with self._as_user():
            ours, config = self.path / FILE, self.path / "config"
            before = _read(ours)
            names = re.findall(rf"^# begin (.*){re.escape(SUFFIX)}$", before or "", re.MULTILINE)
            gone = [it for it in names if name is None or it == name.removesuffix(SUFFIX)]
            text = before or ""
            for it in gone:
                text = _without(text, it)
            if set(names) - set(gone):
                _write(ours, text, before)
                return gone
            with contextlib.suppress(FileNotFoundError):
                ours.unlink()
            config_before = _read(config)
            if config_before is not None:
                _write(config, _without_include(config_before), config_before)
            return gone

    @contextlib.contextmanager
    def _as_user(self) -> Iterator[None]:
        try:
            with in_person(self._user):
                yield
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise BridgeError(
                f"The SSH configuration in {self.path} cannot be changed.", f"{why}.", "Check its owner and mode.",
            ) from error


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None


def _write(path: Path, text: str, before: str | None) -> bool:
    """Put `text` in the file's place; whether it was other than `before`. Nobody ever sees half of it."""
    if text == before:
        return False
    path = path.resolve()
    mode = 0o600 if before is None else stat.S_IMODE(path.stat().st_mode)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return True


def _without(text: str, name: str) -> str:
    """The text without the block of that name; a beginning without an end takes nothing with it."""
    begin, end = re.escape(_begin(name)), re.escape(_end(name))
    return re.sub(rf"^{begin}\n(?:(?!{begin}$).)*?^{end}\n", "", text, flags=re.MULTILINE | re.DOTALL)


def _includes(config: str) -> bool:
    """Whether our file is included before any Host or Match."""
    for line in config.splitlines():
        if line.strip() == INCLUDE:
            return True
        if re.match(r"\s*(host|match)\b", line, re.IGNORECASE):
            return False
    return False


def _without_include(config: str) -> str:
    """As it was before: without our two lines, and the empty one behind them."""
    config = config.replace(f"{NOTE}\n{INCLUDE}\n\n", "").replace(f"{NOTE}\n{INCLUDE}\n", "")
    return "".join(line for line in config.splitlines(keepends=True) if line.strip() != INCLUDE)
