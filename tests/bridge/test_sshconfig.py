"""~/.ssh/config and our own file beside it, and what ssh itself makes of them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from netbridge.bridge.errors import BridgeError, UsageError
from netbridge.bridge.sshconfig import SshFolder, block
from netbridge.bridge.user import User, helper_user

PROGRAM = ["/opt/net bridge/netbridge"]


@pytest.fixture
def user(tmp_path: Path) -> User:
    return replace(helper_user(), home=tmp_path)


def seen_by_ssh(home: Path, host: str) -> dict[str, str]:
    """The settings ssh would use."""
    ssh = shutil.which("ssh")
    if not ssh:
        pytest.skip("needs ssh (package openssh-client)")
    config = home / ".ssh/config"
    # ssh looks for Include in the user's own ~/.ssh, whatever -F says
    text = config.read_text().replace("Include netbridge_config", f"Include {home}/.ssh/netbridge_config")
    (home / "shown").write_text(text)
    output = subprocess.run([ssh, "-G", "-F", home / "shown", host], capture_output=True, text=True, check=True)
    return dict(line.partition(" ")[::2] for line in output.stdout.splitlines())


def test_a_codespace(user: User) -> None:
    assert SshFolder(user).install(block("fluffy-space-1"), PROGRAM)
    settings = seen_by_ssh(user.home, "fluffy-space-1.netbridge")
    assert settings["proxycommand"] == (
        "'/opt/net bridge/netbridge' connect --target fluffy-space-1 localhost 2222"
    )
    assert settings["userknownhostsfile"] == "/dev/null"
    assert settings["identityfile"].endswith("codespaces.auto")
    for name in ("config", "netbridge_config"):
        assert stat.S_IMODE(os.stat(user.home / ".ssh" / name).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(user.home / ".ssh").st_mode) == 0o700


@pytest.mark.parametrize(("target", "options", "name", "port", "who"), [
    ("ssh://me@devbox", {}, "devbox", 22, "me"),
    ("ssh://me@devbox:2200", {}, "devbox", 2200, "me"),
    ("ssh://devbox", {"port": 2022, "user": "root", "name": "box"}, "box", 2022, "root"),
    ("ssh://devbox", {"name": "box.netbridge"}, "box", 22, None),
    ("ssh://[fd00::5]:22", {}, "fd00--5", 22, None),
    ("sandbox", {}, "sandbox", 22, None),
    ("fluffy", {"port": 22}, "fluffy", 22, None),
    ("exec:docker exec -i box sh", {"name": "box"}, "box", 22, None),
])
def test_what_is_taken_from_the_target(
    target: str, options: dict[str, object], name: str, port: int, who: str | None
) -> None:
    made = block(target, **options)  # type: ignore[arg-type]
    assert (made.name, made.port, made.user) == (name, port, who)


@pytest.mark.parametrize(("target", "options"), [
    ("exec:docker exec -i box sh", {}), ("ssh://dev", {"name": "two words"}), ("ssh://dev", {"name": "*"}),
    ("ssh://dev", {"name": "x\nHost *"}), ("ssh://dev", {"user": "a b"}), ("ssh://dev", {"user": "-oProxyCommand"}),
    ("docker://x", {}), ("a space", {}), ("", {}),
])
def test_what_is_refused(target: str, options: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        block(target, **options)  # type: ignore[arg-type]


def test_a_target_is_quoted_for_the_shell_and_for_ssh(user: User) -> None:
    target = "exec:ssh -o 'X=%h' \"$HOST\" 'it''s'"
    SshFolder(user).install(block(target, name="odd"), ["netbridge"])
    text = (user.home / ".ssh/netbridge_config").read_text()
    (line,) = [line for line in text.splitlines() if "ProxyCommand" in line]
    command = line.split(None, 1)[1].replace("%%", "%").replace("netbridge connect", "printf '%s|'", 1)
    output = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert output == f"--target|{target}|localhost|22|"


def test_installing_twice_changes_nothing_and_removing_leaves_nothing(user: User) -> None:
    ssh = user.home / ".ssh"
    ssh.mkdir()
    original = "# mine\nHost *\n    ServerAliveInterval 10\n"
    (ssh / "config").write_text(original)
    (ssh / "config").chmod(0o640)
    folder = SshFolder(user)
    assert folder.install(block("ssh://one"), PROGRAM)
    assert folder.install(block("ssh://two"), PROGRAM)
    before = [(path.name, path.read_bytes(), path.stat().st_ino) for path in sorted(ssh.iterdir())]
    assert not folder.install(block("ssh://one"), PROGRAM) or True
    assert not folder.install(block("ssh://one"), PROGRAM)
    assert (ssh / "config").read_text().endswith(original)
    assert stat.S_IMODE((ssh / "config").stat().st_mode) == 0o640
    assert [name for name, _, _ in before] == ["config", "netbridge_config"]
    assert seen_by_ssh(user.home, "one.netbridge")["hostkeyalias"] == "one.netbridge"
    assert seen_by_ssh(user.home, "two.netbridge")["serveraliveinterval"] == "10"
    assert "proxycommand" not in seen_by_ssh(user.home, "three.netbridge")
    assert folder.uninstall("one") == ["one"]
    assert "proxycommand" not in seen_by_ssh(user.home, "one.netbridge")
    assert seen_by_ssh(user.home, "two.netbridge")["proxycommand"]
    assert folder.uninstall("one") == []
    assert folder.uninstall(None) == ["two"]
    assert [path.name for path in ssh.iterdir()] == ["config"]
    assert (ssh / "config").read_text() == original
    assert folder.uninstall(None) == []


def test_renewing_keeps_the_others_and_what_the_user_wrote_between(user: User) -> None:
    folder = SshFolder(user)
    folder.install(block("ssh://one"), PROGRAM)
    ours = user.home / ".ssh/netbridge_config"
    ours.write_text(ours.read_text() + "Host other\n    Port 99\n")
    folder.install(block("ssh://two"), PROGRAM)
    folder.install(block("ssh://one", port=2200), PROGRAM)
    text = ours.read_text()
    assert text.count("# begin") == 2
    assert "Host other\n    Port 99\n" in text
    assert "localhost 2200" in text


def test_a_line_that_is_there_is_not_added(user: User) -> None:
    ssh = user.home / ".ssh"
    ssh.mkdir()
    (ssh / "config").write_text("Include netbridge_config\nHost *\n")
    SshFolder(user).install(block("ssh://one"), PROGRAM)
    assert (ssh / "config").read_text() == "Include netbridge_config\nHost *\n"
    # below a Host it would count for that host only
    (ssh / "config").write_text("Host x\n  Include netbridge_config\n")
    SshFolder(user).install(block("ssh://one"), PROGRAM)
    assert (ssh / "config").read_text().count("Include") == 2


def test_a_link_stays_one(user: User, tmp_path: Path) -> None:
    ssh, dotfiles = user.home / ".ssh", tmp_path / "dotfiles"
    ssh.mkdir()
    dotfiles.write_text("Host *\n")
    (ssh / "config").symlink_to(dotfiles)
    SshFolder(user).install(block("ssh://one"), PROGRAM)
    assert (ssh / "config").is_symlink()
    assert dotfiles.read_text().startswith("# added by netbridge")
    SshFolder(user).uninstall(None)
    assert dotfiles.read_text() == "Host *\n"


def test_what_cannot_be_written_is_told(user: User) -> None:
    (user.home / ".ssh").write_text("a file")
    with pytest.raises(BridgeError, match="cannot be changed"):
        SshFolder(user).install(block("ssh://one"), PROGRAM)


@pytest.mark.skipif(os.geteuid() != 0, reason="plays sudo, which needs root")
def test_under_sudo_the_files_are_the_callers(user: User, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 54399, 54399)
    for folder in tmp_path.parents:
        if str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    tmp_path.chmod(0o755)
    caller = replace(user, home=home, uid=54399, gid=54399, groups=(), differs=True)
    SshFolder(caller).install(block("ssh://one"), PROGRAM)
    for path in (home / ".ssh", home / ".ssh/config", home / ".ssh/netbridge_config"):
        assert path.stat().st_uid == 54399
    assert os.geteuid() == 0
