"""From what `docker exec` says to what the user should do.

It exits with 1 for all that the engine refuses, told on standard error. What fails inside the container is told on
standard output, with 126 or 127 by version. The words are those of docker 20.10 to 29 and of podman's `docker`.
"""

from __future__ import annotations

import functools

from ..errors import BridgeError, NotPermittedError, TargetLacksError, TargetStoppedError, TargetUnreachableError
from ..user import User
from .container_target import DockerTarget
from .mend import Mend
from .words import any_of, path_of, said

_said = functools.partial(said, "docker")

NO_SHELL = any_of('exec: "sh"', "executable file `sh` not found")
"""As runc and crun tell it."""
NO_SHELL_TODO = (
    "The agent needs sh and python3 in the container: use an image that has them. Distroless images have neither,"
    " but mostly a variant for debugging that has a shell."
)
_REFUSED = any_of("permission denied while trying to connect")
_NO_ENGINE = any_of(
    "cannot connect to the docker daemon", "error during connect", "failed to connect to the docker api",
    "unable to resolve docker endpoint", "cannot connect to podman",
)  # fmt: skip
_NOT_FOUND = any_of("no such container")
_NOT_RUNNING = any_of("is not running", "is stopped", "on running containers", "container state improper")
_PAUSED = any_of("is paused")
_RESTARTING = any_of("is restarting")
_NO_USER = any_of("unable to find user", "no matching entries in passwd", "no users found")
_INSIDE = any_of("OCI runtime")


def mend(target: DockerTarget) -> Mend:
    """A container keeps the rights that it was made with."""
    return Mend(
        tun="Make the container anew with `docker run --cap-add=NET_ADMIN --cap-add=NET_RAW --device=/dev/net/tun`"
        " before its other options (with Docker Compose: cap_add and devices in its file, then `docker compose up -d`;"
        ' in devcontainer.json: "runArgs", and a rebuild). A container that exists cannot be given them.',
        root=f"Name root in the target, which needs no change over there: docker://root@{target.container}",
    )


def missing(user: User) -> BridgeError:
    return TargetLacksError(
        "There is no docker program on this machine.",
        f"It is not on {path_of(user)}.",
        "Install Docker's command line (Debian: docker.io or docker-cli), or name another way: exec:COMMAND.",
    )


def explain(target: DockerTarget, user: User, text: str) -> BridgeError:
    """Why no shell answered. `text`: what docker said on both its outputs, untrusted."""
    name = target.container
    label, start = f"the container {name}", f"The container {name}"
    if _REFUSED.search(text):
        why = f" docker runs as {user.name}, also under sudo."
        return NotPermittedError(
            "Docker's socket may not be opened.", _said(text, _REFUSED) + why,
            f"Run `sudo usermod -aG docker {user.name}` and log in anew, or name"
            f" 'exec:sudo docker exec -i {name} sh' as the target.",
        )
    if _NO_ENGINE.search(text):
        return TargetUnreachableError(
            "The Docker engine is not reachable.", _said(text, _NO_ENGINE),
            "Start it (`sudo systemctl start docker`, or Docker Desktop), or say where it is: DOCKER_HOST,"
            " `docker context use`.",
        )
    if _NOT_FOUND.search(text):
        return TargetStoppedError(
            f"There is no container {name}.", _said(text, _NOT_FOUND), "See `docker ps --all`."
        )
    if _PAUSED.search(text):
        return TargetUnreachableError(f"{start} is paused.", "Nothing runs in it.", f"Run `docker unpause {name}`.")
    if _RESTARTING.search(text):
        return TargetUnreachableError(
            f"{start} is restarting.", _said(text, _RESTARTING),
            f"Wait, or see with `docker logs {name}` why its program ends.",
        )
    if _NOT_RUNNING.search(text):
        return TargetStoppedError(
            f"{start} is not running.", _said(text, _NOT_RUNNING), f"Run `docker start {name}`."
        )
    if _NO_USER.search(text):
        what = f"{start} knows no user {target.user}." if target.user else f"{start} does not know its own user."
        return TargetLacksError(
            what, _said(text, _NO_USER),
            f"Name one that it knows, as in docker://root@{name}.",
        )
    if NO_SHELL.search(text):
        return TargetLacksError(f"{start} has no shell.", _said(text, NO_SHELL), NO_SHELL_TODO)
    if _INSIDE.search(text):
        return TargetLacksError(
            f"In {label} no shell could be started.", _said(text, _INSIDE), f"See what `docker exec -i {name} sh` says."
        )
    return TargetUnreachableError(
        f"{start} could not be reached through docker.", _said(text),
        f"See what `docker exec -i {name} sh` says.",
    )


def lost(target: DockerTarget, status: int | None, text: str) -> BridgeError:
    """`docker exec` ended under a running bridge."""
    # 137: killed, as everything in a container is when it is stopped
    why = _said(text) if text else f"docker exec ended with status {status}: the container may have been stopped."
    return TargetUnreachableError(
        f"The container {target.container} is not reached any more.", why, "See `docker ps --all`."
    )
