"""Whose helpers these are, under sudo and without."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from netbridge.bridge import user as user_module
from netbridge.bridge.user import User, helper_user, in_person, parse_environment
from tests.world.bridge import python_for_everybody

ROOT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: run as root")
SUDO = {"SUDO_UID": "65534", "SUDO_GID": "65534", "SUDO_USER": "nobody", "HOME": "/root", "PATH": "/bin"}


def test_without_sudo_it_is_ourselves() -> None:
    found = helper_user({"HOME": "/somewhere", "SHELL": "/bin/x", "A": "b"})
    assert found.uid == os.geteuid()
    assert found.home == Path("/somewhere")
    assert found.shell == "/bin/x"
    assert not found.differs
    assert found.process_arguments() == {"env": {"HOME": "/somewhere", "SHELL": "/bin/x", "A": "b"}}


def test_an_unnamed_uid_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321987)
    found = helper_user({})
    assert found.name == "54321987"
    assert found.home == Path("/")


@pytest.mark.parametrize("uid", ["", "x", "0", "-5", "99999999999999999999", "54321987"])
@needs_root
def test_a_sudo_uid_that_names_nobody_changes_nothing(uid: str) -> None:
    assert not helper_user({"SUDO_UID": uid}).differs


def test_only_root_changes_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert not helper_user(SUDO).differs


@needs_root
def test_the_callers_environment_from_what_sudo_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_module, "_environment_of_sudo", lambda: None)
    nobody = pwd.getpwuid(65534)
    found = helper_user({**SUDO, "LANG": "C", "XDG_RUNTIME_DIR": "/run/user/0"})
    assert (found.uid, found.gid, found.differs) == (65534, nobody.pw_gid, True)
    assert found.home == Path(nobody.pw_dir)
    environment = found.environment
    assert environment["HOME"] == nobody.pw_dir
    assert environment["USER"] == environment["LOGNAME"] == nobody.pw_name
    assert environment["LANG"] == "C"
    assert environment["PATH"] == "/bin"
    assert not [name for name in environment if name.startswith("SUDO_")]
    assert environment.get("XDG_RUNTIME_DIR") != "/run/user/0"


@needs_root
def test_the_callers_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    original = {
        "HOME": "/home/me",
        "PATH": "/home/me/bin:/bin",
        "SSH_AUTH_SOCK": "/tmp/agent",
        "HTTPS_PROXY": "http://p",
        "XDG_RUNTIME_DIR": "/run/user/65534",
        "SHELL": "/bin/fish",
    }
    monkeypatch.setattr(user_module, "_environment_of_sudo", lambda: original)
    environment = helper_user({**SUDO, "PATH": "/usr/sbin"}).environment
    assert {name: environment[name] for name in original} == original


def test_environment_blocks() -> None:
    assert parse_environment(b"A=1\0B=x=y\0\0broken\0=empty\0C=\xff\0") == {"A": "1", "B": "x=y", "C": "\udcff"}


@needs_root
def test_recovered_from_a_real_sudo() -> None:
    if shutil.which("sudo") is None or subprocess.run(["sudo", "-n", "-u", "nobody", "true"], check=False).returncode:
        pytest.skip("sudo is missing or asks")
    code = (
        "import os\nfrom netbridge.bridge.user import _environment_of_sudo\n"
        "found = _environment_of_sudo() or {}\n"
        "print(os.environ.get('SSH_AUTH_SOCK'), found.get('SSH_AUTH_SOCK'), found.get('HTTPS_PROXY'))"
    )
    environment = {**os.environ, "SSH_AUTH_SOCK": "/tmp/agent.1", "HTTPS_PROXY": "http://proxy:1"}
    done = subprocess.run(
        ["sudo", "-n", "env", f"PYTHONPATH={ROOT / 'src'}", sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["None", "/tmp/agent.1", "http://proxy:1"]


@needs_root
def test_children_are_the_callers(tmp_path: Path) -> None:
    user = helper_user(SUDO)
    done = subprocess.run(
        ["/bin/sh", "-c", "id -u; id -g; id -G; echo $HOME"],
        capture_output=True,
        text=True,
        check=True,
        **user.process_arguments(),
    )
    uid, gid, groups, home = done.stdout.splitlines()
    assert (uid, gid, home) == ("65534", "65534", user.environment["HOME"])
    assert "0" not in groups.split()


@needs_root
def test_in_person_is_the_user_and_goes_back(tmp_path: Path) -> None:
    user = helper_user(SUDO)
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    before, groups = dict(os.environ), os.getgroups()
    with pytest.raises(PermissionError), in_person(user):
        assert os.environ["HOME"] == user.environment["HOME"]
        assert subprocess.run(["/usr/bin/id", "-u"], capture_output=True, check=True).stdout == b"65534\n"
        secret.read_text()
    assert os.getresuid() == os.getresgid() == (0, 0, 0)
    assert os.getgroups() == groups
    assert dict(os.environ) == before
    assert secret.read_text() == "x"


def test_in_person_without_a_change_does_nothing() -> None:
    user = User("me", os.geteuid(), os.getegid(), (), Path("/nowhere"), "/bin/sh", {"HOME": "/nowhere"}, differs=False)
    before = dict(os.environ)
    with in_person(user):
        assert dict(os.environ) == before


@needs_root
def test_asyncssh_reads_the_callers_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from netbridge.bridge.transport.ssh_settings import read_settings
    from netbridge.bridge.transport.target import SshTarget

    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
            folder.chmod(0o755)
    ssh = tmp_path / ".ssh"
    ssh.mkdir(mode=0o700)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / "id_ed25519"], check=True)
    lines = ("HostName box.example", "User someone", "StrictHostKeyChecking accept-new", "ProxyCommand nc %h %p")
    (ssh / "config").write_text("Host box\n" + "".join(f"  {line}\n" for line in lines))
    for path in [ssh, *ssh.iterdir()]:
        shutil.chown(path, 65534, 65534)
    monkeypatch.setattr(
        user_module, "_environment_of_sudo", lambda: {"HOME": str(tmp_path), "SSH_AUTH_SOCK": "/tmp/his"}
    )
    user = helper_user(SUDO)
    user = User(user.name, user.uid, user.gid, user.groups, tmp_path, "/bin/sh", user.environment, differs=True)
    settings = read_settings(SshTarget("box"), user, interactive=False)
    assert (settings.host, settings.port) == ("box.example", 22)
    assert settings.options.username == "someone"
    assert settings.proxy_command == "nc box.example 22"
    assert settings.strictness.value == "accept-new"
    assert settings.arguments["agent_path"] == "/tmp/his"
    assert len(settings.arguments["client_keys"]) == 1
    assert settings.known_hosts.files[0] == ssh / "known_hosts"
    (ssh / "id_ed25519").unlink()
    # Without a key of his own, root's keys are not taken instead.
    assert list(read_settings(SshTarget("box"), user, interactive=False).arguments["client_keys"]) == []
    assert bool(read_settings(SshTarget("box"), user, interactive=False).arguments["client_keys"])


STEP = """
import os, sys, json
from netbridge.bridge.user import helper_user, step_down
why = step_down()
told = {"why": why, "ids": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups(), "back": []}
changes = os.seteuid, os.setuid, lambda uid: os.setresuid(uid, uid, uid), os.setgid, lambda gid: os.setgroups([gid])
for change in changes:
    try:
        change(0)
        told["back"].append(str(change))
    except PermissionError:
        pass
told["environment"] = {name: os.environ.get(name) for name in ("HOME", "USER", "SUDO_UID", "NOTIFY_SOCKET")}
told["differs"] = helper_user().differs
print(json.dumps(told))
"""


def stepped(environment: dict[str, str], python: str, sources: Path) -> dict[str, object]:
    done = subprocess.run(
        [python, "-c", STEP], env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{sources}", **environment}, cwd="/",
        capture_output=True, text=True, timeout=30, check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture
def everybodys(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A Python that everybody may run, and this program's modules where everybody may read them."""
    python = python_for_everybody()
    if not python:
        pytest.skip("ordinary users may not run this Python, and there is no other of its version")
    with tempfile.TemporaryDirectory(prefix="netbridge-test-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        package = folder / "netbridge"
        package.mkdir()
        for part in ("__init__.py", "bridge", "stack"):
            source = (ROOT / "src/netbridge" / part).resolve()
            if source.is_dir():
                shutil.copytree(source, package / part)
            else:
                shutil.copy(source, package / part)
        yield python, folder


@pytest.mark.parametrize("by", [{"SUDO_UID": "65534"}, {"DOAS_USER": "nobody"}, {"PKEXEC_UID": "65534"}])
@needs_root
def test_stepping_down_is_for_good(everybodys: tuple[str, Path], by: dict[str, str]) -> None:
    told = stepped({**by, "HOME": "/root", "NOTIFY_SOCKET": "/run/x"}, *everybodys)
    nobody = pwd.getpwuid(65534)
    assert told["why"] == ""
    assert told["ids"] == [65534] * 3 + [nobody.pw_gid] * 3
    assert told["groups"] == [nobody.pw_gid]
    assert told["back"] == []
    assert told["environment"] == {
        "HOME": nobody.pw_dir, "USER": "nobody", "SUDO_UID": None, "NOTIFY_SOCKET": "/run/x",
    }
    assert told["differs"] is False


@needs_root
def test_who_cannot_read_this_program_leaves_it_to_root(everybodys: tuple[str, Path]) -> None:
    python, folder = everybodys
    (folder / "netbridge").chmod(0o700)
    told = stepped({"SUDO_UID": "65534"}, python, folder)
    assert str(told["why"]).startswith(f"nobody may not read {folder}/netbridge")
    assert told["ids"] == [0] * 6
    assert told["environment"] != {}


@needs_root
def test_a_login_as_root_stays_root(everybodys: tuple[str, Path]) -> None:
    told = stepped({"HOME": "/root"}, *everybodys)
    assert told["ids"] == [0] * 6
