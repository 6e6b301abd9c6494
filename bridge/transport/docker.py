"""`docker://[user@]CONTAINER`: a container of whatever engine the user's `docker` speaks to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import BridgeError
from ..user import User
from . import docker_errors
from .container import ContainerTransport
from .container_target import DockerTarget


class DockerTransport(ContainerTransport):
    """A running container, as `docker exec` reaches it."""

    program = "docker"

    def __init__(self, target: DockerTarget, *, user: User, log: Callable[[str], None], interactive: bool) -> None:
        super().__init__(user=user, log=log, interactive=interactive)
        self._target = target
        self.mend = docker_errors.mend(target)

    def __repr__(self) -> str:
        return f"<DockerTransport {self._target}>"

    def _exec(self, options: Sequence[str], argv: Sequence[str]) -> list[str]:
        user = ("-u", self._target.user) if self._target.user else ()
        return [self._program, "exec", *options, *user, self._target.container, *argv]

    def _missing(self) -> BridgeError:
        return docker_errors.missing(self._user)

    def _explain(self, status: int | None, text: str) -> BridgeError | None:
        return docker_errors.explain(self._target, self._user, text) if status else None

    def _explain_loss(self, status: int | None, text: str) -> BridgeError | None:
        return docker_errors.lost(self._target, status, text) if status else None
