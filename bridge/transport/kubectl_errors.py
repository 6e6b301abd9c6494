"""From what `kubectl exec` says to what the user should do. It exits with 1 for everything that fails before COMMAND
runs, so its words are read; they come in part from the cluster and are untrusted.
"""

from __future__ import annotations

import functools

from ..errors import (
    BridgeError,
    NotPermittedError,
    TargetLacksError,
    TargetStoppedError,
    TargetUnreachableError,
    UsageError,
)
from ..user import User
from .container_target import KubernetesTarget, Pod
from .docker_errors import NO_SHELL, NO_SHELL_TODO
from .mend import Mend
from .words import any_of, path_of, said

_said = functools.partial(said, "kubectl")
MEND = Mend(
    tun="Add `securityContext: {runAsUser: 0, capabilities: {add: [NET_ADMIN, NET_RAW, MKNOD]}}` to the container in"
    " the manifest (where that gives no /dev/net/tun: `securityContext: {runAsUser: 0, privileged: true}`) and make the"
    " pod anew: a pod that exists cannot be given them. The namespace's Pod Security level must permit it.",
    root="Add `securityContext: {runAsUser: 0}` to the container in the manifest and make the pod anew, or have sudo in"
    " its image, with `{user} ALL=(ALL) NOPASSWD: ALL` in a file of /etc/sudoers.d.",
)
_NO_CONTEXT = any_of('context "?[^ ]*"? does not exist', "no context exists with the name", "context was not found")
_NOT_CONFIGURED = any_of(
    r"server localhost:8080 was refused", "no configuration has been provided", "current-context is not set",
    "incomplete configuration",
)
_LOGIN = any_of(
    "must be logged in", "unauthorized", "getting credentials", "please enter (?:username|password)",
    "no auth provider found", "provide credentials", "token (?:has )?expired", "failed to refresh token",
)
_FORBIDDEN = any_of(r"\(Forbidden\)", "is forbidden", "upgrade connection: forbidden")
_NO_NAMESPACE = any_of('namespaces? "[^"]*" not found')
_NO_POD = any_of('pods? "[^"]*" not found', "pod does not exist")
_NO_CONTAINER = any_of("is not valid for pod", "container [^ ]+ not found in pod")
_NOT_RUNNING = any_of(
    "container not found", "completed pod", "does not have a host assigned", "is not created or running",
    "container is not running", "current phase is", "is waiting to start", "ContainerCreating",
)
_NO_SERVER = any_of(
    "connection to the server .* was refused", "unable to connect to the server", "no such host", "dial tcp",
    "i/o timeout", "tls handshake", "x509:", "deadline exceeded", "network is unreachable", "the server is currently",
)
_BACKEND = any_of("error dialing backend", "unable to upgrade connection", "bad gateway", "proxy error")
_ENDED = any_of("exit code 12[67]")


def label(pod: Pod) -> str:
    """How it is called in a sentence."""
    place = f"the pod {pod.pod} in the namespace {pod.namespace}"
    return f"the container {pod.container} of {place}" if pod.container else place


def missing(user: User) -> BridgeError:
    return TargetLacksError(
        "There is no kubectl program on this machine.",
        f"It is not on {path_of(user)}.",
        "Install it (https://kubernetes.io/docs/tasks/tools; Debian: kubernetes-client), or name another way:"
        " exec:COMMAND.",
    )


def bad_configuration(text: str) -> BridgeError:
    """`kubectl config` failed."""
    return UsageError("kubectl does not understand its configuration.", _said(text), "Correct ~/.kube/config.")


def explain(target: KubernetesTarget, pod: Pod, text: str) -> BridgeError:
    """Why no shell answered. `text`: what kubectl said on both its outputs, untrusted."""
    name = label(pod)
    start = name[0].upper() + name[1:]
    flag = f"--context {pod.context} " if pod.context else ""
    if _NO_CONTEXT.search(text):
        return TargetUnreachableError(
            f"kubectl knows no context {pod.context or 'that it could use'}.", _said(text, _NO_CONTEXT),
            "See `kubectl config get-contexts`.",
        )
    if _NOT_CONFIGURED.search(text):
        return TargetUnreachableError(
            "kubectl has no current context.", _said(text, _NOT_CONFIGURED),
            "Name a context in the target (k8s://CONTEXT/NAMESPACE/POD), choose one with `kubectl config use-context`,"
            " or say where the configuration is: KUBECONFIG.",
        )
    if _LOGIN.search(text):
        return NotPermittedError(
            "kubectl is not logged in to the cluster.", _said(text, _LOGIN),
            f"Log in as your cluster wants it, until `kubectl {flag}get pods -n {pod.namespace}` works.",
        )
    if _FORBIDDEN.search(text):
        return NotPermittedError(
            f"The cluster does not let you into {name}.", _said(text, _FORBIDDEN),
            f"You need `get` of pods and `create` of pods/exec there: see `kubectl {flag}auth can-i create pods/exec -n"
            f" {pod.namespace}`.",
        )
    if _NO_NAMESPACE.search(text) or _NO_POD.search(text):
        kind = _NO_NAMESPACE if _NO_NAMESPACE.search(text) else _NO_POD
        what = f"namespace {pod.namespace}" if kind is _NO_NAMESPACE else f"pod {pod.pod} in {pod.namespace}"
        return TargetStoppedError(
            f"There is no {what}.", _said(text, kind),
            f"See `kubectl {flag}get pods -n {pod.namespace}`.{_reading(target, pod)}",
        )
    if _NO_CONTAINER.search(text):
        return TargetUnreachableError(
            f"There is no {name.removeprefix('the ')}.", _said(text, _NO_CONTAINER),
            f"See `kubectl {flag}describe pod {pod.pod} -n {pod.namespace}`.{_reading(target, pod)}",
        )
    if NO_SHELL.search(text) or _ENDED.search(text):
        return TargetLacksError(
            f"{start} has no shell.", _said(text, NO_SHELL if NO_SHELL.search(text) else _ENDED), NO_SHELL_TODO
        )
    if _NOT_RUNNING.search(text):
        return TargetStoppedError(
            f"{start} is not running.", _said(text, _NOT_RUNNING),
            f"See `kubectl {flag}get pod {pod.pod} -n {pod.namespace}` and wait until it is Running.",
        )
    if _BACKEND.search(text):
        return TargetUnreachableError(
            f"The cluster does not reach {name}.", _said(text, _BACKEND),
            f"See with `kubectl {flag}get nodes` whether its node is well.",
        )
    if _NO_SERVER.search(text):
        return TargetUnreachableError(
            "The cluster is not reachable.", _said(text, _NO_SERVER),
            f"Check the network, the VPN, and the server of `kubectl {flag}cluster-info`.",
        )
    return TargetUnreachableError(
        f"{start} could not be reached through kubectl.", _said(text),
        f"See what `kubectl {flag}exec -i -n {pod.namespace} {pod.pod} -- sh` says.",
    )


def lost(pod: Pod, status: int | None, text: str) -> BridgeError:
    """`kubectl exec` ended under a running bridge."""
    why = _said(text) if text else f"kubectl exec ended with status {status}."
    name = label(pod)
    return TargetUnreachableError(
        f"{name[0].upper()}{name[1:]} is not reached any more.", why, f"See `kubectl get pods -n {pod.namespace}`."
    )


def _reading(target: KubernetesTarget, pod: Pod) -> str:
    """How the target was read, where it could have been meant otherwise."""
    if not target.may_name_context:
        return ""
    if pod.context is None:
        return f" The target was read without a context, since kubectl knows none called {target.parts[0]}."
    return f" The target was read with the context {pod.context}; without one it begins with k8s:///."
