"""TARGET strings: what `netbridge up` is asked to bridge.

A target comes from a command line, a file or another program, and parts of it end in argument lists of other
programs. So a part that begins with a dash (an option to `ssh`) and any control character are refused here, once,
for all transports.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from urllib.parse import unquote

from ..errors import UsageError
from .container_target import (
    DevpodTarget,
    DockerTarget,
    KubernetesTarget,
    devpod_target,
    docker_target,
    kubernetes_target,
)

LONGEST = 4096
"""Characters of a TARGET: far more than any real one, little enough to quote in an error."""

FORMS = (
    "A target is the name of a codespace, ssh://[user@]host[:port], docker://CONTAINER,"
    " k8s://[CONTEXT/]NAMESPACE/POD[/CONTAINER], devpod://WORKSPACE, exec:COMMAND or sandbox."
)

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.\-]*)\Z")
"""Names and aliases of ~/.ssh/config; nothing a shell, an option parser or a %-token of ssh_config could read
otherwise.
"""
_ADDRESS6 = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.\-]+)?\Z")
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+\\\-]*\$?\Z")
"""Includes DOMAIN\\user and user@realm; the last @ separates the host."""


@dataclass(frozen=True, slots=True)
class SshTarget:
    """An SSH host, as `ssh` would be told it."""

    host: str
    """A host name, an alias of ~/.ssh/config, or an address; IPv6 without brackets."""
    user: str | None = None
    """None: what ~/.ssh/config or the local user's name says."""
    port: int | None = None
    """None: what ~/.ssh/config says, else 22."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user + '@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"


@dataclass(frozen=True, slots=True)
class CodespaceTarget:
    """A codespace, as a person calls it: only compared with what there is, never given to a program."""

    name: str
    """Its name or display name, or the beginning of either."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class ExecTarget:
    """A command whose stdin and stdout reach a shell."""

    argv: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True)
class SandboxTarget:
    """A private network namespace of this machine."""

    def __str__(self) -> str:
        return "sandbox"


Target = SshTarget | CodespaceTarget | DockerTarget | KubernetesTarget | DevpodTarget | ExecTarget | SandboxTarget


def parse_target(text: str) -> Target:
    """Understand a TARGET. Raises UsageError for what is malformed or hostile."""
    if not text:
        raise UsageError("No target was named.", "A list to choose from is shown on a terminal only.", FORMS)
    if len(text) > LONGEST:
        raise UsageError("The target is refused.", f"It is longer than {LONGEST} characters.", FORMS)
    if not text.isprintable():
        raise UsageError(f"The target {text!a} is refused.", "It holds control or invisible characters.", FORMS)
    if text.startswith("-"):
        raise UsageError(f"The target {text!r} is refused.", "A target cannot begin with a dash.", FORMS)
    if text == "sandbox":
        return SandboxTarget()
    if text.startswith("ssh://"):
        return _ssh(text)
    if text.startswith("exec:"):
        return _exec(text)
    if text.startswith("docker://"):
        return docker_target(text)
    if text.startswith("k8s://"):
        return kubernetes_target(text)
    if text.startswith("devpod://"):
        return devpod_target(text)
    if "://" in text or ":" in text or "/" in text or "@" in text:
        raise UsageError(f"The target {text!r} is not understood.", "It has none of the forms of a target.", FORMS)
    return CodespaceTarget(text)


def _ssh(text: str) -> SshTarget:
    def refuse(why: str) -> UsageError:
        return UsageError(f"The target {text!r} is not understood.", why, "An SSH target is ssh://[user@]host[:port].")

    rest = text.removeprefix("ssh://").removesuffix("/")
    user_part, at, place = rest.rpartition("@")
    user = unquote(user_part) if at else None
    if user is not None and not _USER.match(user):
        raise refuse("The user name is empty or holds characters that user names do not have.")
    if place.startswith("["):
        host, bracket, tail = place[1:].partition("]")
        if not bracket or ":" not in host or not _ADDRESS6.match(host):
            raise refuse("Brackets enclose an IPv6 address.")
        if tail and not tail.startswith(":"):
            raise refuse("After the bracket comes a colon and the port, or nothing.")
        port_text = tail[1:] if tail else None
    else:
        host, colon, tail = place.partition(":")
        port_text = tail if colon else None
        if port_text is not None and ":" in port_text:
            raise refuse("An IPv6 address is written in brackets, as in ssh://[fd00::1]:22.")
        if not _HOST.match(host):
            raise refuse("The host name is empty or holds characters that host names do not have.")
    port = None
    if port_text is not None:
        if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and 1 <= int(port_text) <= 65535):
            raise refuse("The port is a number from 1 to 65535.")
        port = int(port_text)
    return SshTarget(host, user, port)


def _exec(text: str) -> ExecTarget:
    try:
        argv = shlex.split(text.removeprefix("exec:"))
    except ValueError as error:
        raise UsageError(
            f"The target {text!r} is not understood.", f"Its quoting is broken: {error}.", "Quote it as for a shell."
        ) from None
    if not argv or not argv[0]:
        raise UsageError(
            "The target exec: names no command.",
            "Nothing stands after the colon.",
            "Name one that reaches a shell, as in: exec:docker exec -i CONTAINER sh",
        )
    if argv[0].startswith("-"):
        raise UsageError(f"The target {text!r} is refused.", "A command cannot begin with a dash.", FORMS)
    return ExecTarget(tuple(argv))
