"""Who this machine is for others: the same each time, and nothing that already means something else."""

from __future__ import annotations

import os
import pwd
import sys
import tempfile
from pathlib import Path

import pytest

from netbridge.bridge.machine import identity
from netbridge.bridge.user import User

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="where it is kept is asked of Linux's conventions")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: run as root")


def user(home: Path, *, state: Path | None = None, differs: bool = False, uid: int = 0) -> User:
    environment = {"XDG_STATE_HOME": str(state)} if state else {}
    return User("somebody", uid, uid, (), home, "/bin/sh", environment, differs=differs)


def test_it_is_the_same_each_time_and_only_its_owners(tmp_path: Path) -> None:
    first = identity(user(tmp_path))
    assert identity(user(tmp_path)) == first
    assert len(first["id"]) == 32
    assert first["user"] == "somebody"
    assert first["name"] == os.uname().nodename
    file = tmp_path / ".local/state/netbridge/machine"
    assert file.read_text() == first["id"] + "\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_another_home_is_another_machine(tmp_path: Path) -> None:
    assert identity(user(tmp_path / "one"))["id"] != identity(user(tmp_path / "other"))["id"]


def test_the_users_own_folder_for_state_is_used(tmp_path: Path) -> None:
    found = identity(user(tmp_path / "home", state=tmp_path / "state"))
    assert (tmp_path / "state/netbridge/machine").read_text().strip() == found["id"]
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\n"])
def test_an_empty_file_is_written_anew(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / ".local/state/netbridge/machine"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    found = identity(user(tmp_path))["id"]
    assert len(found) == 32
    assert identity(user(tmp_path))["id"] == found


def test_a_long_file_is_cut(tmp_path: Path) -> None:
    file = tmp_path / ".local/state/netbridge/machine"
    file.parent.mkdir(parents=True)
    file.write_text("x" * 100_000)
    assert identity(user(tmp_path))["id"] == "x" * 64


def test_where_nothing_can_be_kept_it_is_new_each_time(tmp_path: Path) -> None:
    (tmp_path / ".local").write_text("a file where a folder should be")
    first, second = identity(user(tmp_path))["id"], identity(user(tmp_path))["id"]
    assert len(first) == len(second) == 32
    assert first != second


def test_a_file_that_is_no_text_is_as_good_as_none(tmp_path: Path) -> None:
    file = tmp_path / ".local/state/netbridge/machine"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\xff" * 40)
    assert len(identity(user(tmp_path))["id"]) == 32


@as_root
def test_under_sudo_the_file_is_the_persons() -> None:
    """Root's own would be another machine when netbridge runs without sudo the next time."""
    nobody = pwd.getpwnam("nobody").pw_uid
    with tempfile.TemporaryDirectory() as name:  # below pytest's own folder nobody may look
        home = Path(name)
        os.chown(home, nobody, nobody)
        found = identity(user(home, differs=True, uid=nobody))
        file = home / ".local/state/netbridge/machine"
        assert file.stat().st_uid == nobody
        assert file.read_text().strip() == found["id"]
        assert os.geteuid() == 0
