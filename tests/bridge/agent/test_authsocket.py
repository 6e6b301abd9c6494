"""The ssh-agent's socket over there: whose it is, what may lie in its way, what is left."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from netbridge.bridge.agent.authsocket import AuthSocket, login_user

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="plays sudo, which needs root")


def mode(path: str | Path) -> tuple[int, int]:
    state = os.lstat(path)
    return stat.S_IMODE(state.st_mode), state.st_uid


def test_it_is_private_and_vanishes(tmp_path: Path) -> None:
    folder = tmp_path / "ours"
    before = os.umask(0o022)
    os.umask(before)
    made = AuthSocket(str(folder))
    assert made.path == str(folder / "agent.sock")
    assert mode(folder) == (0o700, os.geteuid())
    assert mode(made.path) == (0o600, os.geteuid())
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(made.path)
        made.listener.accept()[0].close()
    made.close()
    assert not folder.exists()
    after = os.umask(before)
    assert after == before


@as_root
def test_it_is_the_callers_of_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "54399")
    monkeypatch.setenv("SUDO_GID", "54398")
    assert login_user() == (54399, 54398)
    place = tmp_path
    for folder in (place, *place.parents):
        if str(folder).startswith("/tmp/"):
            folder.chmod(0o777 if folder == place else 0o755)
    made = AuthSocket(str(place / "theirs"))
    assert mode(place / "theirs") == (0o700, 54399)
    assert (mode(made.path), os.lstat(made.path).st_gid) == ((0o600, 54399), 54398)
    assert (os.geteuid(), os.getegid()) == (0, 0)
    made.close()
    assert not (place / "theirs").exists()


def test_what_a_killed_agent_left_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "ours"
    killed = AuthSocket(str(folder))
    killed.listener.close()
    made = AuthSocket(str(folder))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(made.path)
    made.close()


def test_another_bridges_stays(tmp_path: Path) -> None:
    first = AuthSocket(str(tmp_path / "ours"))
    with pytest.raises(OSError, match="another bridge serves"):
        AuthSocket(str(tmp_path / "ours"))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(first.path)
    first.close()


def test_an_open_folder_of_ours_is_closed(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours").chmod(0o777)
    made = AuthSocket(str(tmp_path / "ours"))
    assert mode(tmp_path / "ours")[0] == 0o700
    made.close()


def test_what_others_put_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("")
    for name in ("link", "file"):
        with pytest.raises(PermissionError, match="somebody else's"):
            AuthSocket(str(tmp_path / name))
    assert os.listdir(tmp_path / "elsewhere") == []
    (tmp_path / "ours").mkdir(mode=0o700)
    (tmp_path / "ours/agent.sock").write_text("precious")
    with pytest.raises(FileExistsError, match="is no socket"):
        AuthSocket(str(tmp_path / "ours"))
    assert (tmp_path / "ours/agent.sock").read_text() == "precious"


@as_root
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 54397, 54397)
    with pytest.raises(PermissionError, match="somebody else's"):
        AuthSocket(str(tmp_path / "theirs"))
