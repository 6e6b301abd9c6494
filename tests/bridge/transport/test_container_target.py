"""docker://, k8s:// and devpod://: what is understood, what is refused, and what three parts mean."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbridge.bridge.errors import BridgeError, TargetUnreachableError, UsageError
from netbridge.bridge.transport import make_transport
from netbridge.bridge.transport.container_target import DevpodTarget, DockerTarget, KubernetesTarget, Pod
from netbridge.bridge.transport.target import parse_target

EKS = "arn:aws:eks:eu-west-1:123456789012:cluster/dev"
CONTEXTS = ("minikube", "prod", EKS, "a", "a/b")


@pytest.mark.parametrize(("text", "target"), [
    ("docker://box", DockerTarget("box")),
    ("docker://box/", DockerTarget("box")),
    ("docker://My_box.1-2", DockerTarget("My_box.1-2")),
    ("docker://4a318eca8829", DockerTarget("4a318eca8829")),
    ("docker://root@box", DockerTarget("box", "root")),
    ("docker://1000@box", DockerTarget("box", "1000")),
    ("devpod://work", DevpodTarget("work")),
    ("devpod://vscode@my-work-2", DevpodTarget("my-work-2", "vscode")),
    ("k8s://ns/pod", KubernetesTarget(("ns", "pod"))),
    ("k8s://ns/pod/", KubernetesTarget(("ns", "pod"))),
    ("k8s:///ns/web-0.x/app", KubernetesTarget(("", "ns", "web-0.x", "app"))),
    (f"k8s://{EKS}/ns/pod", KubernetesTarget((*EKS.split("/"), "ns", "pod"))),
    ("k8s://a%2Fb/ns/pod", KubernetesTarget(("a/b", "ns", "pod"))),
])  # fmt: skip
def test_good(text: str, target: object) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", [
    "docker://", "docker:///", "docker://-it", "docker://_x", "docker://a/b", "docker://a b", "docker://a;id",
    "docker://$(id)", "docker://@box", "docker://-u@box", "docker://root@", "docker://a:b", "docker://box@-x",
    "docker://a%2db", "docker://root@x@box", "docker://bøx", "docker:box", "docker://" + "x" * 300,
    "devpod://", "devpod://-x", "devpod://./x", "devpod:///home/me", "devpod://a b", "devpod://-l@work",
    "k8s://", "k8s://ns", "k8s:///ns", "k8s://ns//pod", "k8s://-n/pod", "k8s://--context/ns/pod", "k8s://Ns/pod",
    "k8s://ns/po_d", "k8s://ns/-pod", "k8s://ns/pod.", "k8s:///ns/pod/App", "k8s:///ns/pod/app/x/y",
    "k8s://ns%0a/pod/x", "k8s://ns/%2dpod", "k8s:///ns/" + "p" * 254,
])  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    assert caught.value.what
    assert caught.value.todo
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("text", "pod"), [
    ("k8s://ns/pod", Pod("ns", "pod")),
    ("k8s://minikube/pod", Pod("minikube", "pod")),  # two parts never name one
    ("k8s://ns/pod/app", Pod("ns", "pod", "app")),
    ("k8s://minikube/ns/pod", Pod("ns", "pod", None, "minikube")),
    ("k8s://minikube/ns/pod/app", Pod("ns", "pod", "app", "minikube")),
    ("k8s:///minikube/pod/app", Pod("minikube", "pod", "app")),
    (f"k8s://{EKS}/ns/pod", Pod("ns", "pod", None, EKS)),
    (f"k8s://{EKS}/ns/pod/app", Pod("ns", "pod", "app", EKS)),
    (f"k8s://{EKS.replace('/', '%2F')}/ns/pod", Pod("ns", "pod", None, EKS)),
    ("k8s://a/b/ns/pod", Pod("ns", "pod", None, "a/b")),  # the longest name that fits
    ("k8s://a/c/ns/pod", Pod("c", "ns", "pod", "a")),
])  # fmt: skip
def test_contexts_decide(text: str, pod: Pod) -> None:
    target = parse_target(text)
    assert isinstance(target, KubernetesTarget)
    assert target.resolve(CONTEXTS) == pod


@pytest.mark.parametrize(("text", "contexts", "kind", "words"), [
    ("k8s://nope/ns/pod/app", CONTEXTS, TargetUnreachableError, "minikube, prod"),
    ("k8s://a/b/c/d/e", (), TargetUnreachableError, "It knows none."),
    ("k8s://minikube/Ns/pod", CONTEXTS, UsageError, "'Ns' is no name of a namespace"),
    ("k8s://Ns/pod/app", CONTEXTS, UsageError, "'Ns' is no name of a namespace"),
    ("k8s://prod/ns/pod/-x", CONTEXTS, UsageError, "no name of a container"),
])  # fmt: skip
def test_what_no_context_explains(text: str, contexts: Sequence[str], kind: type[BridgeError], words: str) -> None:
    target = parse_target(text)
    assert isinstance(target, KubernetesTarget)
    with pytest.raises(kind, match=words) as caught:
        target.resolve(contexts)
    assert "k8s:///NAMESPACE/POD/CONTAINER" in caught.value.todo  # how to write it beyond doubt


@given(
    st.sampled_from(["docker://", "k8s://", "devpod://"]), st.text(max_size=60) | st.from_regex(r"[a-z@/%.\-]{1,30}")
)
def test_whatever_is_accepted_is_harmless(scheme: str, rest: str) -> None:
    try:
        target = parse_target(scheme + rest)
        if isinstance(target, KubernetesTarget):
            pod = target.resolve(["-x", "a", "a/a"])
            words = [pod.namespace, pod.pod, pod.container or "x", pod.context or "x"]
        elif isinstance(target, DockerTarget):
            words = [target.container, target.user or "x"]
        else:
            assert isinstance(target, DevpodTarget)
            words = [target.workspace, target.user or "x"]
    except BridgeError:
        return
    for word in words:
        assert word
        assert not word.startswith("-")
        assert not set(word) & set(" ;|&$`'\"<>(){}*?!#~\n\0")


def test_transport_of_each_target() -> None:
    for text, name in {
        "docker://box": "DockerTransport", "k8s://ns/pod": "KubectlTransport", "devpod://work": "DevpodTransport",
    }.items():
        assert type(make_transport(text, ssh=None, log=print, interactive=False)).__name__ == name
