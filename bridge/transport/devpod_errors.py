"""From what `devpod` says to what the user should do. It exits with 1 for everything, so its words are read; some are
those of the engine or the provider behind it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from ..errors import BridgeError, NotPermittedError, TargetLacksError, TargetStoppedError, TargetUnreachableError
from ..user import User
from .container_target import DevpodTarget
from .mend import RUN_ARGS, Mend
from .words import any_of, path_of, said

_said = functools.partial(said, "devpod")
_TOO_OLD = any_of("unknown flag", "unknown shorthand flag", "unknown command")
_NOT_FOUND = any_of(
    "workspace [^ ]* ?(?:does ?n[o']t exist|not found|could ?n[o']t be found)", "could ?n[o']t find workspace",
    "no such workspace",
)
_STOPPED = any_of("workspace is stopped", "workspace is not running")
_GONE = any_of("(?:workspace|instance|container) was ?n[o']t found", "status: notfound")
_LOGIN = any_of("not logged in", "please (?:make sure to )?log ?in", "devpod pro login", "unauthorized", "HTTP 401")
_ENGINE_REFUSED = any_of("permission denied while trying to connect")
_ENGINE = any_of("cannot connect to the docker daemon", "failed to connect to the docker api")
_NO_PROVIDER = any_of("provider .*(?:does ?n[o']t exist|not found|not initialized)", "no default provider")
_NO_WAY = any_of("dial tcp", "no such host", "i/o timeout", "connection refused", "no route to host", "timed? ?out")
_PERMISSION = any_of(r"permission denied \(", "too many authentication failures")
_SSH_ENDED = any_of("^connection to .* closed", "^client_loop: ", "^connection lost")
_NO_USER = any_of("su: user .* does not exist", "unknown user", "no passwd entry")


def mend(target: DevpodTarget) -> Mend:
    """A workspace is made from its devcontainer.json."""
    return Mend(
        tun=f'Add {RUN_ARGS} (or "privileged": true) to devcontainer.json and make the container anew with `devpod up'
        f" {target.workspace} --recreate` (with Docker Compose: cap_add and devices in its own file).",
        root=f"Name root in the target, which needs no change over there: devpod://root@{target.workspace}",
    )


def missing(user: User) -> BridgeError:
    return TargetLacksError(
        "There is no devpod program on this machine.",
        f"It is not on {path_of(user)}.",
        "Install DevPod's command line (https://devpod.sh); the desktop application can do it.",
    )


def not_let_in(target: DevpodTarget, why: str) -> BridgeError:
    return NotPermittedError(
        f"The SSH server of the workspace {target.workspace} does not let you in.", why,
        f"See whether `ssh {target.workspace}.devpod` does.",
    )


def explain(target: DevpodTarget, text: str) -> BridgeError:
    """Why there is no login. `text`: what devpod and ssh said, untrusted."""
    name = target.workspace
    if _TOO_OLD.search(text):
        return TargetLacksError(
            "devpod is too old, or another program.", _said(text, _TOO_OLD), "Install a newer one (https://devpod.sh)."
        )
    if _NOT_FOUND.search(text):
        return TargetStoppedError(f"There is no workspace {name}.", _said(text, _NOT_FOUND), "See `devpod list`.")
    if _STOPPED.search(text):
        return TargetStoppedError(
            f"The workspace {name} is stopped.", _said(text, _STOPPED), f"Start it with `devpod up {name} --ide none`."
        )
    if _GONE.search(text):
        return TargetStoppedError(
            f"The workspace {name} has no container any more.", _said(text, _GONE),
            f"Make it anew with `devpod up {name} --ide none`.",
        )
    if _NO_PROVIDER.search(text):
        return TargetUnreachableError(
            f"devpod lacks the provider of the workspace {name}.", _said(text, _NO_PROVIDER),
            "See `devpod provider list`.",
        )
    if _LOGIN.search(text):
        return NotPermittedError(
            "devpod is not logged in.", _said(text, _LOGIN), "Log in with `devpod pro login`, or at the provider."
        )
    if _ENGINE_REFUSED.search(text):
        return NotPermittedError(
            "devpod may not open Docker's socket.", _said(text, _ENGINE_REFUSED),
            "Run `sudo usermod -aG docker $USER` and log in anew.",
        )
    if _ENGINE.search(text):
        return TargetUnreachableError(
            f"The Docker engine behind the workspace {name} is not reachable.", _said(text, _ENGINE),
            "Start it (`sudo systemctl start docker`, or Docker Desktop).",
        )
    if _NO_USER.search(text):
        return TargetLacksError(
            f"The workspace {name} knows no such user.", _said(text, _NO_USER),
            f"Name one that it knows, as in devpod://root@{name}.",
        )
    if _PERMISSION.search(text):
        return not_let_in(target, _said(text, _PERMISSION))
    if _NO_WAY.search(text):
        return TargetUnreachableError(
            f"The machine of the workspace {name} is not reachable.", _said(text, _NO_WAY),
            "Check the network, the VPN, and `devpod status`.",
        )
    return TargetUnreachableError(
        f"The workspace {name} could not be reached through devpod.", _said(text),
        f"See what `devpod status {name}` and `devpod ssh {name}` say.",
    )


def lost(target: DevpodTarget, lines: Sequence[str]) -> BridgeError:
    """The tunnel ended under a running bridge. `lines`: those of devpod and ssh; ssh only saw its stream end."""
    telling = [line for line in lines if not _SSH_ENDED.search(line)]
    return TargetUnreachableError(
        f"The tunnel to the workspace {target.workspace} ended.", _said("\n".join(telling or lines)),
        f"See with `devpod status {target.workspace}` whether it still runs.",
    )
