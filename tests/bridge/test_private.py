"""Files that only the user may read, in folders into which others write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netbridge.bridge.capturefile import CaptureFile
from netbridge.bridge.errors import UsageError
from netbridge.bridge.runtime import open_private

NOBODY = 65534


@pytest.fixture(name="shared")
def a_shared_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def begin(path: Path) -> None:
    CaptureFile(path, 0, b"begin", lambda _: None).close()


def test_a_link_where_others_write_is_not_followed(shared: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    link = shared / "x.pcap"
    link.symlink_to(precious)
    with pytest.raises(UsageError, match="others"):
        begin(link)
    assert precious.read_text() == "kept"


def test_a_second_name_of_a_file_where_others_write_is_refused(shared: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (shared / "x.pcap").hardlink_to(precious)
    with pytest.raises(UsageError, match="others"):
        begin(shared / "x.pcap")
    assert precious.read_text() == "kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have files of somebody else")
def test_a_file_of_somebody_else_is_not_filled_for_him(shared: Path) -> None:
    file = shared / "x.pcap"
    file.touch()
    os.chown(file, NOBODY, NOBODY)
    with pytest.raises(UsageError, match="others"):
        begin(file)
    assert file.stat().st_size == 0


def test_a_pipe_where_others_write_keeps_nobody_waiting(shared: Path) -> None:
    os.mkfifo(shared / "x.pcap")
    with pytest.raises(UsageError):
        begin(shared / "x.pcap")


def test_a_link_in_a_folder_of_ones_own_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir(mode=0o755)
    (folder / "link").symlink_to(tmp_path / "file")
    begin(folder / "link")
    assert (tmp_path / "file").read_bytes() == b"begin"


def test_what_anybody_could_read_is_private_once_it_is_begun_anew(shared: Path) -> None:
    file = shared / "x.pcap"
    file.write_bytes(b"old and long")
    file.chmod(0o666)
    begin(file)
    assert file.read_bytes() == b"begin"
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as under sudo")
def test_a_device_is_not_given_to_the_caller_of_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    ours, theirs = os.openpty()
    try:
        before = os.fstat(theirs).st_uid
        os.close(open_private(os.ttyname(theirs), os.O_WRONLY | os.O_NOCTTY))
        assert os.fstat(theirs).st_uid == before
    finally:
        os.close(ours)
        os.close(theirs)
