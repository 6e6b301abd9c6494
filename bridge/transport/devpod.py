"""`devpod://WORKSPACE`: a DevPod workspace, by SSH through the tunnel that `devpod ssh --stdio` is.

At the tunnel's other end DevPod runs an SSH server of its own for this one connection, as the user it is told; it asks
for no key, since only the tunnel leads there. For another user than its own it would call `su`, which asks for a
password. So both are told the same one: the target's, or whom DevPod wrote into its block of ~/.ssh/config when it made
the workspace, or root, as `devpod ssh` itself decides.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import BridgeError
from ..user import User, in_person
from . import devpod_errors
from .behind import BehindTunnel
from .container_target import DevpodTarget
from .target import SshTarget
from .tunnel import Tunnel, tunnelled

_USER_LINE = re.compile(r'\s*user[\s=]+"?([A-Za-z_][A-Za-z0-9_.\-]{0,63})"?\s*\Z', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class DevpodTunnel(Tunnel):
    """A workspace's SSH server and the way to it."""

    program: str
    """devpod's path."""
    target: DevpodTarget
    user: str
    """Who logs in there."""

    @property
    def host(self) -> SshTarget:
        return SshTarget(f"{self.target.workspace}.devpod", self.user)

    @property
    def words(self) -> Sequence[str]:
        return [self.program, "ssh", "--stdio", "--user", self.user, self.target.workspace]

    def explain(self, text: str) -> BridgeError:
        return devpod_errors.explain(self.target, text)

    def not_let_in(self, why: str) -> BridgeError:
        return devpod_errors.not_let_in(self.target, why)

    def lost(self, lines: Sequence[str]) -> BridgeError:
        return devpod_errors.lost(self.target, lines)


class DevpodTransport(BehindTunnel):
    """A workspace, as `devpod` reaches it."""

    def __init__(
        self, target: DevpodTarget, *, ssh: str, user: User, log: Callable[[str], None], interactive: bool
    ) -> None:
        """`ssh`: openssh or asyncssh."""
        self._target = target
        self._ssh = ssh
        self._user = user
        self._log = log
        self._interactive = interactive
        self.mend = devpod_errors.mend(target)

    def __repr__(self) -> str:
        return f"<DevpodTransport {self._target}>"

    async def connect(self) -> None:
        found = shutil.which("devpod", path=self._user.environment.get("PATH"))
        if found is None:
            raise devpod_errors.missing(self._user)
        user = self._target.user or configured_user(self._target.workspace, self._user)
        tunnel = DevpodTunnel(os.path.abspath(found), self._target, user)
        self._inner = tunnelled(tunnel, self._ssh, user=self._user, log=self._log, interactive=self._interactive)
        await self._inner.connect()

    def _not_connected(self) -> BridgeError:
        return devpod_errors.lost(self._target, ["It is not connected."])


def configured_user(workspace: str, user: User) -> str:
    """Whom DevPod wrote into its block of `user`'s ~/.ssh/config for the workspace; root where there is none."""
    with in_person(user):
        try:
            text = (user.home / ".ssh" / "config").read_text(errors="replace")
        except OSError:
            return "root"
    inside = False
    for line in text.splitlines():
        if line.startswith("# DevPod "):
            inside = line.split()[2:] == ["Start", f"{workspace}.devpod"]
        elif inside and (found := _USER_LINE.match(line)):
            return found[1]
    return "root"
