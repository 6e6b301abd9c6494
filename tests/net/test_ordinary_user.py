"""Locally nothing needs root: an ordinary user bridges by SSH, by sudo, and in a sandbox where the kernel allows it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CORP, HTTP_PORT
from tests.world.bridge import as_person, python_for_everybody
from tests.world.snapshot import Snapshot
from tests.world.sshd import PERSON

from .test_traces import assert_restored

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]


@pytest.fixture
def python() -> str:
    found = python_for_everybody()
    if not found:
        pytest.skip("ordinary users may not run this Python, and there is no other of its version")
    return found


def uid_of(pid: int) -> int:
    return os.stat(f"/proc/{pid}").st_uid


@pytest.mark.parametrize("ssh", ["openssh", "asyncssh"])
def test_ssh_without_root(idle: World, start: Start, python: str, ssh: str) -> None:
    before = Snapshot.of(idle.codespace)
    bridge = start("ssh://mine", "--ssh", ssh, prefix=as_person(idle.laptop, python)).ready()
    assert uid_of(bridge.pid) == PERSON[1]
    for version in (4, 6):
        idle.codespace.connect(CORP[version], HTTP_PORT).close()
        assert idle.codespace.run("ping", f"-{version}", "-c1", "-W2", CORP[version]).code == 0
    assert idle.codespace.run("dig", "+short", "+tries=1", "+time=3", "www.corp.test").stdout == "10.99.0.2\n"
    assert bridge.stop() == 0
    assert_restored(before, idle.codespace, 5)


@pytest.mark.parametrize("ssh", ["openssh", "asyncssh"])
def test_sudo_uses_the_callers_keys(idle: World, start: Start, python: str, ssh: str) -> None:
    """`sudo netbridge up ssh://mine`: only the caller's ~/.ssh/config knows the alias, and only their key opens."""
    if not shutil.which("sudo"):
        pytest.skip("needs sudo")
    prefix = as_person(idle.laptop, python, sudo=True)
    bridge = start("ssh://mine", "--ssh", ssh, prefix=prefix).ready()
    idle.codespace.connect(CORP[4], HTTP_PORT).close()
    if ssh == "openssh":
        clients = [pid for pid, words in idle.laptop.processes().items() if words.startswith(("ssh ", "/usr/bin/ssh "))]
        assert [uid_of(pid) for pid in clients] == [PERSON[1]]
    # its owner needs no sudo to ask for it or to end it
    me = as_person(idle.laptop, python)
    assert "ssh://mine" in idle.laptop.run(*me, "status", "--json").check().stdout
    idle.laptop.run(*me, "down", "ssh://mine").check()
    assert bridge.ended() == 0


def test_sandbox_without_root(idle: World, start: Start, python: str) -> None:
    me = as_person(idle.laptop, python)
    if idle.laptop.run(*me[: me.index("env")], "unshare", "--user", "--map-root-user", "--net", "true").code:
        pytest.skip("this kernel gives ordinary users no user namespaces")
    here = Snapshot.of(idle.laptop)
    script = f"curl -sS -m5 http://{CORP[4]}/ && getent hosts www.corp.test && ping -c1 -W2 {CORP[6]} && exit 42"
    bridge = start("sandbox", prefix=me, command=("sh", "-c", script))
    assert bridge.ended(30) == 42, bridge.said + (idle.laptop.folder / "netbridge.out").read_text()[-2000:]
    assert_restored(here, idle.laptop)


def test_sudo_writes_the_callers_service(idle: World, python: str) -> None:
    if not shutil.which("sudo"):
        pytest.skip("needs sudo")
    name, number = PERSON
    folder = idle.laptop.folder / name / ".config/systemd/user"
    said = idle.laptop.run(*as_person(idle.laptop, python, sudo=True), "service", "install", "ssh://mine").check().stderr
    (unit,) = folder.iterdir()
    assert (unit.stat().st_uid, unit.stat().st_mode & 0o777) == (number, 0o600)
    assert " up ssh://mine --gui=false\n" in unit.read_text()
    assert f"loginctl enable-linger {name}" in said
    # its owner needs no sudo to see it or to remove it
    me = as_person(idle.laptop, python)
    assert "ssh://mine" in idle.laptop.run(*me, "service", "status", "--json").check().stdout
    idle.laptop.run(*me, "service", "uninstall", "ssh://mine").check()
    assert list(folder.iterdir()) == []
