"""TARGETs that are containers: a container of Docker, a container of a Kubernetes pod, a DevPod workspace.

Names are held to their makers' own rules, so none can be taken for an option, a second word or a piece of a shell's
line. Only the name of a Kubernetes context may be anything (`arn:aws:eks:eu-west-1:1234:cluster/dev`), slashes
included; it becomes one word of an argument list and cannot begin with a dash.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from ..errors import BridgeError, TargetUnreachableError, UsageError

DOCKER_FORM = "A Docker target is docker://[user@]CONTAINER."
POD_FORM = (
    "A Kubernetes target is k8s://[CONTEXT/]NAMESPACE/POD[/CONTAINER]. It begins with CONTEXT when kubectl knows a"
    " context of that name; otherwise, and always after a third slash (k8s:///NAMESPACE/POD/CONTAINER), it is read"
    " without one."
)
DEVPOD_FORM = "A DevPod target is devpod://[user@]WORKSPACE."

_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,254}\Z")
"""Docker's own rule for names; ids, and their beginnings, fit it too."""
_WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,62}\Z")
"""DevPod makes them of lower-case letters, digits and dashes, 48 at most; it would read a path as a folder."""
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,63}\Z")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?\Z")
"""RFC 1123: what namespaces and the containers of a pod are called."""
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9\-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9\-]*[a-z0-9])?)*\Z")
"""RFC 1123: what pods are called."""
_NAMED = 8
"""Contexts named in an error."""


@dataclass(frozen=True, slots=True)
class DockerTarget:
    """A container of the Docker engine that `docker` speaks to."""

    container: str
    """Its name or id, or the beginning of its id."""
    user: str | None = None
    """Who the agent and COMMAND are started as; None: the container's own user."""

    def __str__(self) -> str:
        return f"docker://{self.user + '@' if self.user else ''}{self.container}"


@dataclass(frozen=True, slots=True)
class DevpodTarget:
    """A workspace of DevPod."""

    workspace: str
    user: str | None = None
    """None: whom DevPod wrote into ~/.ssh/config."""

    def __str__(self) -> str:
        return f"devpod://{self.user + '@' if self.user else ''}{self.workspace}"


@dataclass(frozen=True, slots=True)
class Pod:
    """A container of a pod, as kubectl is told it."""

    namespace: str
    pod: str
    container: str | None = None
    """None: the pod's default container."""
    context: str | None = None
    """None: kubectl's current one."""


@dataclass(frozen=True, slots=True)
class KubernetesTarget:
    """A container of a pod, as it was written: what its parts mean, only kubectl's contexts tell."""

    parts: tuple[str, ...]
    """What stood between the slashes, decoded. The first is empty when no context shall be looked for."""

    def __str__(self) -> str:
        return "k8s://" + "/".join(self.parts)

    @property
    def may_name_context(self) -> bool:
        return len(self.parts) > 2 and bool(self.parts[0])

    def resolve(self, contexts: Sequence[str]) -> Pod:
        """What is meant, where kubectl knows `contexts`. Raises UsageError, TargetUnreachableError."""
        parts = self.parts if self.parts[0] else self.parts[1:]
        if self.may_name_context:
            for length in (len(parts) - 2, len(parts) - 3):  # the longest name that fits
                context = "/".join(parts[:length])
                if length > 0 and context in contexts:
                    return self._pod(parts[length:], context)
        if len(parts) > 3 and not self.may_name_context:
            raise _refused(str(self), "After k8s:/// stand two or three parts.", POD_FORM)
        if len(parts) > 3:
            known = ", ".join(contexts[:_NAMED]) + (" and more" if len(contexts) > _NAMED else "") or "none"
            raise TargetUnreachableError(
                f"kubectl knows no context that {self} begins with.", f"It knows {known}.",
                f"See `kubectl config get-contexts`. {POD_FORM}",
            )
        return self._pod(parts, None)

    def _pod(self, parts: Sequence[str], context: str | None) -> Pod:
        names = (("namespace", _LABEL), ("pod", _SUBDOMAIN), ("container", _LABEL))
        for part, (kind, rule) in zip(parts, names, strict=False):
            if not rule.match(part):
                raise _refused(str(self), f"{part!r} is no name of a {kind}.", POD_FORM)
        return Pod(parts[0], parts[1], parts[2] if len(parts) > 2 else None, context)


def docker_target(text: str) -> DockerTarget:
    """Understand docker://…; raises UsageError."""
    user, container = _with_user(text, "docker://", DOCKER_FORM)
    if not _CONTAINER.match(container):
        raise _refused(text, "Names and ids of containers are made of letters, digits and _ . -", DOCKER_FORM)
    return DockerTarget(container, user)


def devpod_target(text: str) -> DevpodTarget:
    """Understand devpod://…; raises UsageError."""
    user, workspace = _with_user(text, "devpod://", DEVPOD_FORM)
    if not _WORKSPACE.match(workspace):
        raise _refused(text, "Names of workspaces are made of letters, digits and _ . -", DEVPOD_FORM)
    return DevpodTarget(workspace, user)


def kubernetes_target(text: str) -> KubernetesTarget:
    """Understand k8s://…, as far as that can be done without kubectl; raises UsageError."""
    parts = tuple(map(unquote, text.removeprefix("k8s://").removesuffix("/").split("/")))
    if len([part for part in parts if part]) < 2:
        raise _refused(text, "It names no pod.", POD_FORM)
    if not all(parts[1:]):
        raise _refused(text, "Nothing stands between two of its slashes.", POD_FORM)
    if parts[0].startswith("-") or not all(part.isprintable() for part in parts):
        raise _refused(text, "It begins with a dash or holds control characters.", POD_FORM)
    target = KubernetesTarget(parts)
    if not target.may_name_context:
        target.resolve([])
    return target


def _with_user(text: str, scheme: str, form: str) -> tuple[str | None, str]:
    user, at, rest = text.removeprefix(scheme).removesuffix("/").rpartition("@")
    if not at:
        return None, rest
    if not _USER.match(user):
        raise _refused(text, "The user name is empty or holds characters that user names do not have.", form)
    return user, rest


def _refused(text: str, why: str, form: str) -> BridgeError:
    return UsageError(f"The target {text!r} is not understood.", why, form)
