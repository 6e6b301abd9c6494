"""What to change where a target lacks something: the same lack is mended otherwise in each kind of target."""

from __future__ import annotations

from dataclasses import dataclass

RUN_ARGS = '"runArgs": ["--cap-add=NET_ADMIN", "--cap-add=NET_RAW", "--device=/dev/net/tun"]'


@dataclass(frozen=True, slots=True)
class Mend:
    """Whole sentences for people."""

    tun: str
    """How the target gets a TUN, or at least a socket that captures packets; whether that needs a rebuild."""
    root: str
    """How the agent becomes root there. `{user}` stands for who it is now."""
    device: str = ""
    """What may help besides where /dev/net/tun is missing or has no driver behind it."""

    def root_for(self, user: str) -> str:
        """`root` for a user as the target named it (printable, untrusted)."""
        return self.root.replace("{user}", user)


IN_GENERAL = Mend(
    tun=f'Add {RUN_ARGS} (or "privileged": true) to devcontainer.json and rebuild the container'
    " (with Docker Compose: cap_add and devices in its own file, since runArgs is ignored there).",
    root="Log in as root, or have sudo there and allow it with `{user} ALL=(ALL) NOPASSWD: ALL` in a file of"
    ' /etc/sudoers.d; in a dev container "remoteUser": "root" in devcontainer.json does it, which needs a rebuild.',
    device="Where it is no container, run `sudo modprobe tun` there.",
)
"""For what may be a codespace, another dev container, or no container at all."""
