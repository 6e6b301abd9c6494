"""Which host keys are trusted: as OpenSSH would, file for file and line for line."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import asyncssh
import pytest

from netbridge.bridge.transport.known_hosts import KnownHosts
from netbridge.bridge.user import User


def make_key() -> tuple[asyncssh.SSHKey, str]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    return key.convert_to_public(), " ".join(key.export_public_key().decode().split()[:2])


ONE, ONE_TEXT = make_key()
OTHER, OTHER_TEXT = make_key()


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User("me", 1000, 1000, (), tmp_path, "/bin/sh", {}, differs=False)


def known(user: User, text: str) -> KnownHosts:
    (user.home / ".ssh").mkdir(exist_ok=True)
    (user.home / ".ssh" / "known_hosts").write_text(text)
    return KnownHosts(user, None, [])


def trusted(hosts: KnownHosts, host: str, port: int = 22) -> list[asyncssh.SSHKey]:
    return list(hosts.keys(host, port)[0])


def test_a_plain_line(user: User) -> None:
    hosts = known(user, f"box {ONE_TEXT}\n")
    assert trusted(hosts, "box") == [ONE]
    assert trusted(hosts, "other") == []
    assert hosts.knows_other_key("box", 22)
    assert not hosts.knows_other_key("other", 22)


def test_a_port_of_its_own(user: User) -> None:
    hosts = known(user, f"[box]:2222 {ONE_TEXT}\nbox {OTHER_TEXT}\n")
    assert trusted(hosts, "box", 2222) == [ONE]
    assert trusted(hosts, "box") == [OTHER]
    # The key of the plain name counts for any port, but another key there is a new one, not a changed one.
    assert trusted(hosts, "box", 3333) == [OTHER]
    assert not hosts.knows_other_key("box", 3333)
    assert hosts.knows_other_key("box", 2222)


def test_lines_that_cannot_be_read_hide_no_others(user: User) -> None:
    hosts = known(user, f"# comment\n\nrubbish\nbox ssh-from-the-future AAAA\nbox {ONE_TEXT}\n\xff {OTHER_TEXT}")
    assert trusted(hosts, "box") == [ONE]


def test_hashed_and_revoked_and_authorities(user: User) -> None:
    hosts = known(user, f"box {ONE_TEXT}\n@revoked box {OTHER_TEXT}\n@cert-authority *.corp {OTHER_TEXT}\n")
    assert list(hosts.keys("box", 22)[2]) == [OTHER]
    assert list(hosts.keys("a.corp", 22)[1]) == [OTHER]
    file = user.home / ".ssh" / "known_hosts"
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert not file.read_text().startswith("box")
    assert trusted(KnownHosts(user, None, []), "box") == [ONE]


def test_what_is_added_ssh_finds_again(user: User) -> None:
    hosts = KnownHosts(user, None, [])
    hosts.add(user, "box", 2222, ONE)
    file = user.home / ".ssh" / "known_hosts"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    file.write_text(file.read_text().rstrip("\n"))  # an editor left out the last newline
    hosts.add(user, "fd00::1", 22, OTHER)
    assert file.read_text() == f"[box]:2222 {ONE_TEXT}\nfd00::1 {OTHER_TEXT}\n"
    found = subprocess.run(["ssh-keygen", "-F", "[box]:2222", "-f", file], capture_output=True, text=True, check=True)
    assert ONE_TEXT in found.stdout
    assert trusted(KnownHosts(user, None, []), "box", 2222) == [ONE]


def test_files_of_the_configuration(user: User, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text(f"box {ONE_TEXT}\n")
    (tmp_path / "ours").write_text(f"box {OTHER_TEXT}\n")
    hosts = KnownHosts(user, ["~/mine", "%d/absent"], [str(tmp_path / "ours")])
    assert trusted(hosts, "box") == [ONE, OTHER]
    nothing = KnownHosts(user, [], [])  # UserKnownHostsFile none: nobody is known, which is not the same as no check
    assert trusted(nothing, "box") == []
    nothing.add(user, "box", 22, ONE)
    assert not (user.home / ".ssh").exists()
