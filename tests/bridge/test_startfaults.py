"""What a target lacks is told in the words of its kind: what to write where, and whether it must be made anew."""

from __future__ import annotations

import pytest

from netbridge.bridge.errors import TargetLacksError
from netbridge.bridge.packetcapture import costs
from netbridge.bridge.startfaults import refused_setup, refused_start
from netbridge.bridge.transport import make_transport
from netbridge.bridge.transport.mend import Mend

CAPTURES = {
    "docker://box": ["docker run --cap-add=NET_ADMIN --cap-add=NET_RAW --device=/dev/net/tun", "container anew"],
    "k8s://ns/pod": ["securityContext: {runAsUser: 0, capabilities: {add: [NET_ADMIN, NET_RAW, MKNOD]}}", "pod anew"],
    "devpod://work": ['"--device=/dev/net/tun"]', "devcontainer.json", "devpod up work --recreate"],
    "ssh://host": ['"--device=/dev/net/tun"]', "devcontainer.json", "rebuild the container"],
    "fluffy": ['"--device=/dev/net/tun"]', "devcontainer.json", "rebuild the container"],
}
ROOTS = {
    "docker://box": ["docker://root@box", "needs no change"],
    "docker://me@box": ["docker://root@box"],
    "k8s://ns/pod": ["securityContext: {runAsUser: 0}", "the pod anew", "me ALL=(ALL) NOPASSWD: ALL"],
    "devpod://work": ["devpod://root@work", "needs no change"],
    "ssh://host": ["me ALL=(ALL) NOPASSWD: ALL", "/etc/sudoers.d", '"remoteUser": "root"', "rebuild"],
}


def mend_of(target: str) -> Mend:
    return make_transport(target, ssh=None, log=print, interactive=False).mend


@pytest.mark.parametrize("code", ["no_tun", "no_net_admin", "no_packet"])
@pytest.mark.parametrize("target", CAPTURES)
def test_neither_a_tun_nor_packets(target: str, code: str) -> None:
    error = refused_setup({"code": code, "detail": "CAP_NET_ADMIN is missing"}, mend_of(target))
    assert isinstance(error, TargetLacksError)
    assert error.exit_code == 5
    for words in CAPTURES[target]:
        assert words in error.todo
    assert ("modprobe" in error.todo) is (code == "no_tun" and target in {"ssh://host", "fluffy"})


@pytest.mark.parametrize("target", CAPTURES)
def test_the_second_best_way_tells_the_best(target: str) -> None:
    told = costs({"capture": "packet", "tun": "eth0"}, asked=False, mend=mend_of(target))
    assert CAPTURES[target][0] in told


@pytest.mark.parametrize("line", ["no-sudo me", "sudo-refused me|sudo: a password is required"])
@pytest.mark.parametrize("target", ROOTS)
def test_no_root(target: str, line: str) -> None:
    error = refused_start(line, mend_of(target))
    assert isinstance(error, TargetLacksError)
    assert error.exit_code == 5
    for words in ROOTS[target]:
        assert words in error.todo


def test_a_users_name_is_only_text() -> None:
    assert "{0}{x} ALL=(ALL)" in refused_start("no-sudo {0}{x}", mend_of("ssh://host")).todo
