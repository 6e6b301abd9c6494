"""Whatever ssh, gh, docker, kubectl and devpod say becomes one BridgeError of bounded text, or what was asked for.

Their standard error is a stream: the same lines are kept whole, byte by byte and cut in the middle.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from fuzz.cuts import cuts
from fuzz.shown import harmless, kind, printed_by, refused_or, shown
from netbridge.bridge.errors import BridgeError
from netbridge.bridge.joint import key
from netbridge.bridge.startfaults import refused_start
from netbridge.bridge.transport import (
    devpod_errors,
    docker_errors,
    gh_codespace,
    gh_errors,
    gh_transport,
    kubectl_errors,
    ssh_errors,
)
from netbridge.bridge.transport.container_target import DevpodTarget, DockerTarget, Pod, kubernetes_target
from netbridge.bridge.transport.diagnostics import LINE_LENGTH, LINES, Diagnostics
from netbridge.bridge.transport.target import SshTarget
from netbridge.bridge.user import User

USER = User("mona", 1000, 1000, (), Path("/home/mona"), "/bin/sh", {}, differs=True)
DOCKER, DEVPOD, SSH = DockerTarget("box"), DevpodTarget("work"), SshTarget("devbox", "me", 2222)
KUBERNETES, POD = kubernetes_target("k8s://kind-dev/apps/web-0"), Pod("apps", "web-0", "main", "kind-dev")


def run(data: bytes) -> object:
    text = _kept(data)
    labels: list[object] = [*_explained(text), _codespaces(data)]
    found = refused_or(gh_transport.parse_configuration, printed_by(data))
    if not isinstance(found, str):
        user, file = found
        assert not user.startswith("-")
        assert file.is_absolute()
        assert harmless(str(file)) or str(file).isprintable()
    labels.append(found if isinstance(found, str) else "configured")
    secret = refused_or(lambda text: key.parse(text, "FILE"), printed_by(data))
    if isinstance(secret, str):
        assert len(data) < 40 or printed_by(data).strip() not in secret  # it may be one with a letter too many
    else:
        assert len(secret) == key.SIZE
    return tuple(kind(label) if isinstance(label, str) else label for label in labels)


def _kept(data: bytes) -> str:
    """What is kept of a program's standard error."""
    said = set()
    for pieces in cuts(data):
        logged: list[str] = []
        diagnostics = Diagnostics(logged.append)
        for piece in pieces:
            diagnostics.feed(piece)
            assert len(diagnostics._partial) <= LINE_LENGTH
        text = diagnostics.text()
        assert len(text.splitlines()) <= LINES + 1
        for line in (*logged, *text.split("\n")):
            assert harmless(line)
            assert len(line) <= LINE_LENGTH
        said.add((text, tuple(logged)))
    assert len(said) == 1
    return said.pop()[0]


def _explained(text: str) -> list[str]:
    lines = text.splitlines()
    errors: list[BridgeError] = [
        ssh_errors.from_stderr(SSH, text), docker_errors.explain(DOCKER, USER, text),
        docker_errors.lost(DOCKER, 1, text),
        kubectl_errors.explain(KUBERNETES, POD, text), kubectl_errors.lost(POD, 1, text),
        kubectl_errors.bad_configuration(text), devpod_errors.explain(DEVPOD, text), devpod_errors.lost(DEVPOD, lines),
        *(gh_errors.explain(USER, "the codespace mona", status, text) for status in (1, 2, 4)), refused_start(text),
    ]  # fmt: skip
    return [shown(error) for error in errors]


def _codespaces(data: bytes) -> object:
    try:
        found = gh_codespace.parse_list(data)
    except BridgeError as error:
        return shown(error)
    for codespace in found:
        assert all(isinstance(value, str) for value in dataclasses.asdict(codespace).values())
        assert harmless(codespace.label) or codespace.label.isprintable()
        name = refused_or(lambda _: gh_codespace.argument(codespace), "")  # noqa: B023 - called at once
        assert name.startswith("The codespace ") or (name == codespace.name and name.isascii() and name[0] != "-")
    for wanted in ("mona", "", *(codespace.display_name for codespace in found[:2])):
        one = refused_or(lambda wanted: gh_codespace.find(found, wanted), wanted)
        assert isinstance(one, str) or one in found
    return min(len(found), 3)
