"""Any text as a target, rule, filter, place or forward is refused by a UsageError fit for a terminal, or read and kept.

What was read is written and read again as the same thing, and no part of a target can be taken for an option.
"""

from __future__ import annotations

from fuzz.shown import harmless, kind, refused_or, text_of
from netbridge.bridge.back.places import parse_forward, parse_listen
from netbridge.bridge.capturefilter import parse_filter
from netbridge.bridge.errors import UsageError
from netbridge.bridge.forward.rules import parse_rule
from netbridge.bridge.joint import place as joint
from netbridge.bridge.trace.place import Place, parse_place
from netbridge.bridge.transport.container_target import DevpodTarget, DockerTarget, KubernetesTarget
from netbridge.bridge.transport.target import CodespaceTarget, ExecTarget, SshTarget, parse_target
from netbridge.stack.vnet import VNET_LEN

PACKET = bytes(VNET_LEN) + bytes.fromhex("4500001c00000000401166ce0a000001 0a000002 1f900035 00080000".replace(" ", ""))
CONTEXTS = ["arn:aws:eks:eu-west-1:1234:cluster/dev", "kind-dev", "a/b"]


def run(data: bytes) -> object:
    text = text_of(data)
    return (
        _kind(_target(text)), _kind(_rule(text)), _kind(_filter(text)), _kind(_place(text)),
        *(_kind(refused_or(parse, text)) for parse in (parse_forward, parse_listen)), *_joint(text),
    )  # fmt: skip


def _kind(found: object) -> str:
    return kind(found) if isinstance(found, str) else type(found).__name__


def _target(text: str) -> object:
    found = refused_or(parse_target, text)
    if isinstance(found, str):
        return found
    assert harmless(text) or text.isprintable()
    assert harmless(str(found))
    words: list[str | None] = []
    if isinstance(found, SshTarget):
        words = [found.host, found.user]
        assert parse_target(f"ssh://{found}") == found
        assert found.port is None or 0 < found.port < 65536
    elif isinstance(found, DockerTarget | DevpodTarget):
        words = [found.user, found.container if isinstance(found, DockerTarget) else found.workspace]
        assert parse_target(str(found)) == found
    elif isinstance(found, ExecTarget):
        words = [found.argv[0]]
        assert parse_target(f"exec:{found}") == found
    elif isinstance(found, CodespaceTarget):
        assert parse_target(str(found)) == found
    elif isinstance(found, KubernetesTarget):
        pod = refused_or(lambda _: found.resolve(CONTEXTS), text)
        if not isinstance(pod, str):
            words = [pod.namespace, pod.pod, pod.container, pod.context]
    assert not any(word is not None and (not word or word.startswith("-")) for word in words), words
    return found


def _rule(text: str) -> object:
    try:
        rule = parse_rule(text)
    except ValueError as error:
        return str(error).removeprefix(f"rule {text!r}: ")
    again = parse_rule(rule.text)
    assert (again.ports, again.block.network) == (rule.ports, rule.block.network)
    for low, high in rule.ports:
        assert 1 <= low <= high <= 65535
    assert isinstance(rule.matches(b"\x0a\0\0\1", 80, 6), bool)
    return rule


def _filter(text: str) -> object:
    found = refused_or(parse_filter, text)
    if found is not None and not isinstance(found, str):
        for end in range(len(PACKET) + 1):
            assert isinstance(found(PACKET[:end]), bool)
    return found


def _place(text: str) -> object:
    found = refused_or(parse_place, text)
    if isinstance(found, Place):
        host = f"[{found.host}]" if ":" in found.host else found.host
        assert parse_place(f"{host}:{found.port}" if found.port else found.host) == found
        assert harmless(str(found))
    return found


def _joint(text: str) -> list[str]:
    labels = []
    for purpose in ("listen", "connect"):
        try:
            found = joint.parse(text, purpose)
        except UsageError as error:
            refused = error
            labels.append(_kind(refused_or(lambda _: _raise(refused), "")))  # noqa: B023 - called at once
            continue
        assert joint.parse(str(found), purpose) == found
        assert not found.host.startswith("-") or found.scheme != "ssh"
        labels.append(found.scheme)
    return labels


def _raise(error: UsageError) -> object:
    raise error
