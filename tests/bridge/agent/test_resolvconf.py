"""resolv.conf: edited in place, put back byte for byte, whatever was in it and whatever happened in between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbridge.bridge.agent import resolvconf
from netbridge.bridge.agent.resolvconf import edit, heal, install, parse, undo

STUB = "127.83.0.1"
AZURE = b"# made by the platform\nnameserver 168.63.129.16\nsearch abc.internal.cloudapp.net\noptions edns0 trust-ad\n"

LINES = st.sampled_from(
    [
     b"nameserver 10.0.0.1", b"nameserver\t10.0.0.2 ", b"  nameserver fe80::1%eth0", b"search a.example b.example",
     b"domain c.example", b"options rotate", b"# comment", b"", b"\xff\xfe", b"; other", b"nameserver", b"\r",
    ]
)  # fmt: skip
ENDS = st.sampled_from([b"", b"\n"])
FILES = st.builds(lambda lines, end: b"\n".join(lines) + end, st.lists(LINES, max_size=8), ENDS)


@given(FILES, st.lists(st.sampled_from(["corp.example", "a.example"]), max_size=2), st.booleans())
def test_undo_gives_every_byte_back(original: bytes, search: list[str], alone: bool) -> None:
    edited = edit(original, STUB, search, alone=alone)
    assert undo(edited) == original
    assert undo(undo(edited)) == original
    assert parse(edited).nameservers[0] == STUB
    if alone:
        assert parse(edited).nameservers == [STUB]
    else:
        assert parse(edited).nameservers[1:] == parse(original).nameservers
    for name in search:
        assert name in parse(edited).search
    assert parse(edited).search[: len(parse(original).search)] == parse(original).search


@given(FILES)
def test_an_edit_of_an_edited_file_can_be_undone(original: bytes) -> None:
    assert undo(edit(edit(original, STUB, ["x"], alone=False), "127.83.0.2", ["y"], alone=True)) == original


def test_a_search_list_that_musl_would_skip_as_a_whole_is_cut(tmp_path: Path) -> None:
    many = [f"department-{number:02d}.corp.example" for number in range(20)]
    for alone in (True, False):
        edited = edit(AZURE, STUB, many, alone=alone)
        (line,) = [line for line in edited.splitlines() if line.startswith(b"search abc.internal.cloudapp.net dep")]
        assert parse(edited).search[:2] == ["abc.internal.cloudapp.net", many[0]]
        assert (len(line) < 255) == alone
        assert undo(edited) == AZURE


def test_what_others_wrote_meanwhile_survives() -> None:
    edited = edit(AZURE, STUB, ["corp.example"], alone=False)
    changed = b"# first\n" + edited.replace(b"edns0", b"edns0 ndots:2") + b"nameserver 9.9.9.9\n"
    assert undo(changed) == b"# first\n" + AZURE.replace(b"edns0", b"edns0 ndots:2") + b"nameserver 9.9.9.9\n"


def test_the_file_keeps_its_identity_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(AZURE)
    path.chmod(0o640)
    before = path.stat()
    install(STUB, ["corp.example"], alone=False, path=str(path))
    assert path.read_bytes().startswith(resolvconf.HEAD + b"nameserver 127.83.0.1\n")
    assert heal(str(path))
    after = path.stat()
    assert path.read_bytes() == AZURE
    assert (after.st_ino, after.st_mode, after.st_uid) == (before.st_ino, before.st_mode, before.st_uid)
    assert not heal(str(path))


def test_who_reads_while_it_is_put_back_reads_no_piece_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(AZURE)
    install(STUB, ["corp.example"], alone=False, path=str(path))
    seen = []
    cut = os.ftruncate

    def look(descriptor: int, length: int) -> None:
        seen.append(path.read_bytes())
        cut(descriptor, length)

    monkeypatch.setattr(os, "ftruncate", look)
    assert heal(str(path))
    assert [text.rstrip(b"\n") for text in seen] == [AZURE.rstrip(b"\n")]
    assert path.read_bytes() == AZURE


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    real = tmp_path / "run" / "resolv.conf"
    real.write_bytes(AZURE)
    link = tmp_path / "resolv.conf"
    link.symlink_to("run/resolv.conf")
    install(STUB, [], alone=False, path=str(link))
    assert link.is_symlink()
    assert STUB.encode() in real.read_bytes()
    heal(str(link))
    assert link.is_symlink()
    assert real.read_bytes() == AZURE


def test_a_file_that_was_not_there_is_gone_again(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    install(STUB, ["corp.example"], alone=False, path=str(path))
    assert parse(path.read_bytes()) == resolvconf.Resolver([STUB], ["corp.example"], rotate=False)
    assert path.stat().st_mode & 0o777 == 0o644
    heal(str(path))
    assert not path.exists()


def test_a_link_that_leads_nowhere_does_so_again(tmp_path: Path) -> None:
    link = tmp_path / "resolv.conf"
    link.symlink_to("stub-resolv.conf")
    install(STUB, [], alone=False, path=str(link))
    assert parse(link.read_bytes()).nameservers == [STUB]
    heal(str(link))
    assert link.is_symlink()
    assert os.listdir(tmp_path) == ["resolv.conf"]


def test_installing_over_a_leftover_keeps_the_original(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(edit(AZURE, "127.83.0.7", ["old"], alone=True))
    install(STUB, ["new"], alone=False, path=str(path))
    assert b"127.83.0.7" not in path.read_bytes()
    heal(str(path))
    assert path.read_bytes() == AZURE


def test_a_huge_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(b"#" * (resolvconf.LIMIT + 1))
    with pytest.raises(OSError, match="larger than"):
        install(STUB, [], alone=False, path=str(path))
    assert path.stat().st_size == resolvconf.LIMIT + 1


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        install(STUB, [], alone=False, path=str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_parse_reads_as_glibc_does() -> None:
    text = b"domain one.example\nsearch two.example three.example\nnameserver 10.0.0.1\n;nameserver 10.0.0.2\n"
    text += b"options a rotate\n"
    assert parse(text) == resolvconf.Resolver(["10.0.0.1"], ["two.example", "three.example"], rotate=True)
