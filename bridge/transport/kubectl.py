"""`k8s://[CONTEXT/]NAMESPACE/POD[/CONTAINER]`: a pod of a cluster that the user's `kubectl` knows.

Three parts may begin with a context or not, and names of contexts may hold slashes. So kubectl is asked which contexts
it knows (`config get-contexts`, which asks no cluster) wherever the target may name one.

A connection on which nothing passes is dropped on the way after some minutes by load balancers, or after hours by the
kubelet. Something passes every few seconds: the session asks the agent whether it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import BridgeError, TargetUnreachableError
from ..user import User
from . import kubectl_errors
from .asked import ask_program
from .container import ContainerTransport
from .container_target import KubernetesTarget, Pod

CONTEXTS_PATIENCE = 15.0
"""Seconds for a program that only reads a file."""


class KubectlTransport(ContainerTransport):
    """A container of a running pod, as `kubectl exec` reaches it."""

    program = "kubectl"
    question = b"Please enter "  # Username: or Password:, on its standard output
    mend = kubectl_errors.MEND

    def __init__(self, target: KubernetesTarget, *, user: User, log: Callable[[str], None], interactive: bool) -> None:
        super().__init__(user=user, log=log, interactive=interactive)
        self._target = target
        self._pod = Pod("", "")
        """What the target means, after `connect`."""

    def __repr__(self) -> str:
        return f"<KubectlTransport {self._target}>"

    async def connect(self) -> None:
        await super().connect()
        contexts = await self._contexts() if self._target.may_name_context else []
        self._pod = self._target.resolve(contexts)

    async def _contexts(self) -> list[str]:
        """The names of the contexts that kubectl knows. Raises BridgeError."""
        try:
            answer = await ask_program(
                [self._program, "config", "get-contexts", "-o", "name"], self._user, patience=CONTEXTS_PATIENCE
            )
        except TimeoutError:
            raise TargetUnreachableError(
                "kubectl does not tell its contexts.", f"It took more than {CONTEXTS_PATIENCE:g} s.",
                "Run `kubectl config get-contexts` by hand and see what it waits for.",
            ) from None
        if answer.status:
            raise kubectl_errors.bad_configuration(answer.stderr)
        return answer.stdout.decode("utf-8", "replace").split("\n")[:-1]

    def _exec(self, options: Sequence[str], argv: Sequence[str]) -> list[str]:
        pod = self._pod
        context = ("--context", pod.context) if pod.context is not None else ()
        container = ("-c", pod.container) if pod.container is not None else ()
        return [
            self._program, *context, "exec", *options, "-n", pod.namespace, pod.pod, *container, "--", *argv,
        ]  # fmt: skip

    def _missing(self) -> BridgeError:
        return kubectl_errors.missing(self._user)

    def _explain(self, status: int | None, text: str) -> BridgeError | None:
        return None if status == 0 else kubectl_errors.explain(self._target, self._pod, text)

    def _explain_loss(self, status: int | None, text: str) -> BridgeError | None:
        return kubectl_errors.lost(self._pod, status, text) if status else None
