"""`netbridge ssh-config install|uninstall`: `ssh NAME.netbridge` through a running bridge."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from netbridge.bridge.errors import UsageError

from .itself import program

app = cyclopts.App(name="ssh-config", help="Make `ssh NAME.netbridge` work through a running bridge.",
                   help_format="plaintext", version_flags=[])


@app.command
def install(
    target: str, /, *,
    name: Annotated[str | None, Parameter(
        name="--name", metavar="NAME", help="NAME of `ssh NAME.netbridge` (default: from TARGET).")] = None,
    port: Annotated[int | None, Parameter(
        name="--port", metavar="PORT",
        help="Where sshd listens there (default: 2222 in a codespace, else TARGET's, or 22).")] = None,
    user: Annotated[str | None, Parameter(
        name="--user", metavar="USER",
        help="Who logs in (default: from TARGET, else who did for a running bridge).")] = None,
) -> int:
    """Add a block to ~/.ssh that reaches TARGET's sshd through the bridge to it.

    Parameters
    ----------
    target
        TARGET as it is given to `netbridge up`.
    """
    from netbridge.bridge import sshconfig
    from netbridge.bridge.user import helper_user

    if port is not None and not 0 < port < 65536:
        raise UsageError(f"{port} is no port.", "A port is a number from 1 to 65535.", "Name one by --port.")
    block = sshconfig.block(target, name=name, port=port, user=user)
    if block.user is None and (found := _user_over_there(target)):
        with contextlib.suppress(UsageError):  # what the target calls its user is no name
            block = sshconfig.block(target, name=name, port=port, user=found)
    folder = sshconfig.SshFolder(helper_user())
    changed = folder.install(block, list(program()))
    host = block.name + sshconfig.SUFFIX
    done = "installed" if changed else "was installed already"
    print(f"{host} {done} in {folder.path}: ssh {host}, while a bridge to {target} runs.", file=sys.stderr)
    return 0


@app.command
def uninstall(target: str | None = None, /) -> int:
    """Remove what install added for TARGET (or NAME); without, all of it.

    Parameters
    ----------
    target
        TARGET or NAME.
    """
    from netbridge.bridge import sshconfig
    from netbridge.bridge.user import helper_user

    folder = sshconfig.SshFolder(helper_user())
    gone = folder.uninstall(target)
    if target is not None and not gone:
        try:
            gone = folder.uninstall(sshconfig.block(target).name)
        except UsageError:
            gone = []
    names = ", ".join(name + sshconfig.SUFFIX for name in gone)
    print(f"Removed {names} from {folder.path}." if gone else "Nothing of it was installed.", file=sys.stderr)
    return 0


def _user_over_there(target: str) -> str:
    """Who logged in over there, if a bridge to it is running: that it can be done is known then."""
    from netbridge.bridge import control, runtime

    for folder in runtime.folders():
        with folder:
            for bridge in control.statuses(folder):
                if bridge.get("target") == target:
                    return str(bridge.get("agent", {}).get("user", ""))
    return ""
