"""Ways to reach the agent. Each is imported only when a target asks for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from ..errors import UsageError
from ..user import User, helper_user
from .base import Buffer, Channel, ChannelUser, Transport
from .container_target import DevpodTarget, DockerTarget, KubernetesTarget
from .target import CodespaceTarget, ExecTarget, SandboxTarget, SshTarget, Target, parse_target

__all__ = [
    "Buffer",
    "Channel",
    "ChannelUser",
    "CodespaceTarget",
    "DevpodTarget",
    "DockerTarget",
    "ExecTarget",
    "KubernetesTarget",
    "SandboxTarget",
    "SshTarget",
    "Target",
    "Transport",
    "make_transport",
    "parse_target",
]

SSH_CHOICES = ("openssh", "asyncssh")


def make_transport(
    target: str,
    *,
    ssh: str | None,
    log: Callable[[str], None],
    interactive: bool,
    progress: Callable[[str], None] = lambda _stage: None,
) -> Transport:
    """The transport for a TARGET string.

    `ssh` chooses which SSH carries the link; None: the `ssh` program where there is one (measured, it carries
    4 Gbit/s where asyncssh carries 2.5), else asyncssh. `log` gets what helper programs and the target say on standard
    error, line by line, printable but untrusted. `interactive`: there is a terminal on which questions (passphrase,
    host key) may be asked. `progress` is told what a long connect is doing, as a present participle and untrusted.
    Raises UsageError.
    """
    parsed = parse_target(target)
    if ssh is not None and ssh not in SSH_CHOICES:
        known = ", ".join(SSH_CHOICES)
        raise UsageError(f"There is no SSH called {ssh!r}.", f"Known are {known}.", "Choose one by --ssh.")
    user = helper_user()
    match parsed:
        case SshTarget():
            return _ssh_transport(parsed, ssh, user, log, interactive=interactive)
        case CodespaceTarget():
            from .gh_transport import CodespaceTransport

            return CodespaceTransport(
                parsed, ssh=ssh or _ssh_here(user), user=user, log=log, interactive=interactive, progress=progress
            )
        case DockerTarget():
            from .docker import DockerTransport

            return DockerTransport(parsed, user=user, log=log, interactive=interactive)
        case KubernetesTarget():
            from .kubectl import KubectlTransport

            return KubectlTransport(parsed, user=user, log=log, interactive=interactive)
        case DevpodTarget():
            from .devpod import DevpodTransport

            return DevpodTransport(
                parsed, ssh=ssh or _ssh_here(user), user=user, log=log, interactive=interactive
            )
        case ExecTarget():
            from .exec import ExecTransport

            return ExecTransport(parsed, user=user, log=log, interactive=interactive)
        case SandboxTarget():
            from .sandbox import SandboxTransport

            return SandboxTransport(user=user, log=log)


def _ssh_transport(
    target: SshTarget, ssh: str | None, user: User, log: Callable[[str], None], *, interactive: bool
) -> Transport:
    if (ssh or _ssh_here(user)) == "openssh":
        from .openssh import OpenSshTransport

        return OpenSshTransport(target, user=user, log=log, interactive=interactive)
    from .asyncssh_transport import AsyncsshTransport

    return AsyncsshTransport(target, user=user, log=log, interactive=interactive)


def _ssh_here(user: User) -> str:
    return "openssh" if shutil.which("ssh", path=user.environment.get("PATH")) else "asyncssh"
