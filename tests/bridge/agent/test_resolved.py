"""systemd-resolved is told what belongs to the TUN, where it runs, and nothing fails where it does not."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import pytest

from netbridge.bridge.agent import resolved


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A resolvectl that writes down what it is told."""
    record = tmp_path / "told"
    record.touch()
    program = tmp_path / "resolvectl"
    program.write_text(f'#!/bin/sh\necho "$@" >>{record}\n[ "$1" != "$FAIL" ]\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(resolved, "RUNS", str(tmp_path))
    monkeypatch.setattr(resolved, "is_ours", lambda: True)
    return record


def test_auto_adds_a_server_and_routes_the_suffixes(told: Path) -> None:
    assert resolved.tell("nb0", "auto", ["198.18.0.1", "fd6e:6272::1"], ["corp.example", ".10.in-addr.arpa."])
    assert [shlex.split(line) for line in told.read_text().splitlines()] == [
        ["dns", "nb0", "198.18.0.1", "fd6e:6272::1"],
        ["domain", "nb0", "~corp.example", "~10.in-addr.arpa"],
        ["default-route", "nb0", "yes"],
    ]


def test_all_routes_everything(told: Path) -> None:
    assert resolved.tell("nb0", "all", ["198.18.0.1"], ["corp.example"])
    assert "domain nb0 ~.\n" in told.read_text()


def test_what_is_searched_is_no_mere_route(told: Path) -> None:
    assert resolved.tell("nb0", "auto", ["198.18.0.1"], ["corp.example", "vpn.example"], ["corp.example."])
    assert "domain nb0 corp.example ~vpn.example\n" in told.read_text()


def test_a_failure_ends_it(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "domain")
    assert not resolved.tell("nb0", "auto", ["198.18.0.1"], [])
    assert len(told.read_text().splitlines()) == 2


def test_where_resolved_does_not_run_nothing_is_called(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolved, "RUNS", str(told) + "-not-there")
    assert not resolved.tell("nb0", "auto", ["198.18.0.1"], [])
    monkeypatch.setattr(resolved, "RUNS", str(told.parent))
    monkeypatch.setenv("PATH", "/nonexistent")
    assert not resolved.tell("nb0", "auto", ["198.18.0.1"], [])
    monkeypatch.setenv("PATH", str(told.parent))
    monkeypatch.setattr(resolved, "is_ours", lambda: False)
    assert not resolved.tell("nb0", "auto", ["198.18.0.1"], [])
    assert told.read_text() == ""


def test_resolved_is_ours_where_the_first_process_is_systemd_in_our_network(tmp_path: Path) -> None:
    (tmp_path / "ns").mkdir()
    (tmp_path / "comm").write_text("systemd\n")
    assert not resolved.is_ours(str(tmp_path))
    (tmp_path / "ns" / "net").touch()
    assert not resolved.is_ours(str(tmp_path))
    (tmp_path / "ns" / "net").unlink()
    (tmp_path / "ns" / "net").symlink_to("/proc/self/ns/net")
    assert resolved.is_ours(str(tmp_path))
    (tmp_path / "comm").write_text("sh\n")
    assert not resolved.is_ours(str(tmp_path))


def test_a_resolvectl_that_hangs_is_given_up(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (told.parent / "resolvectl").write_text("#!/bin/sh\nexec sleep 30\n")
    monkeypatch.setattr(resolved, "PATIENCE", 0.1)
    began = time.monotonic()
    assert not resolved.tell("nb0", "auto", ["198.18.0.1"], [])
    assert time.monotonic() - began < 2


def test_from_a_thread_the_last_of_several_changes_counts(told: Path) -> None:
    """And a message bus that hangs holds nobody up."""
    gate = told.parent / "gate"
    gate.touch()
    program = told.parent / "resolvectl"
    waits = f"#!/bin/sh\nwhile [ -e {gate} ]; do sleep 0.05; done\n"
    program.write_text(program.read_text().replace("#!/bin/sh\n", waits))
    teller = resolved.Teller()
    for name in ("one.example", "two.example", "three.example"):
        teller.tell("nb0", "auto", ["198.18.0.1"], [name], [])
    assert told.read_text() == ""  # it waits at the gate, and we do not
    gate.unlink()
    deadline = time.monotonic() + 10
    while "three" not in told.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [line for line in told.read_text().splitlines() if "domain" in line] == [
        "domain nb0 ~one.example", "domain nb0 ~three.example",
    ]
