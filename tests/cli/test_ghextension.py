"""`netbridge gh-extension` with the real gh; it wants a token to list extensions, though it asks nobody about it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import netbridge
from netbridge.cli.program import run

from .program import SOURCE

Capture = pytest.CaptureFixture[str]


@pytest.fixture(name="home")
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("NETBRIDGE_", "XDG_", "SUDO_", "GH_", "GITHUB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", SOURCE)
    return tmp_path


def gh(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["gh", *words], env={**os.environ, **variables}, text=True, capture_output=True, timeout=60, check=False)


@pytest.mark.skipif(shutil.which("gh") is None, reason="needs gh: scripts/system-packages test")
@pytest.mark.parametrize("data", ["", "elsewhere"])
def test_gh_runs_it_lists_it_and_can_remove_it(
    data: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture,
) -> None:
    if data:
        monkeypatch.setenv("XDG_DATA_HOME", str(home / data))
    before = gh("netbridge", "--version")
    assert before.returncode != 0
    for _ in range(2):
        assert run(["gh-extension", "install"]) == 0
        done = gh("netbridge", "--version")
        assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"netbridge {netbridge.__version__}"), done.stderr
    refused = gh("netbridge", "up", "sandbox", "--mtu", "12 13")
    assert (refused.returncode, "12 13" in refused.stderr) == (2, True)
    assert "gh netbridge" in gh("extension", "list", GH_TOKEN="none").stdout
    assert run(["gh-extension", "uninstall"]) == 0
    assert gh("netbridge", "--version").returncode != 0
    assert run(["gh-extension", "install"]) == 0
    assert gh("extension", "remove", "netbridge", GH_TOKEN="none").returncode == 0
    assert gh("netbridge", "--version").returncode != 0
    assert run(["gh-extension", "uninstall"]) == 0
    assert run(["gh-extension", "uninstall"]) == 0
    assert capsys.readouterr().err.endswith("gh netbridge is not installed.\n")
    assert not list(home.rglob("gh-netbridge"))


def test_it_starts_this_very_program(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = home / "a folder" / "netbridge"
    script.parent.mkdir()
    script.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert run(["gh-extension", "install"]) == 0
    made = home / ".local/share/gh/extensions/gh-netbridge/gh-netbridge"
    assert subprocess.check_output([made, "a b", "c"], text=True) == "a b\nc\n"


def test_another_extension_of_that_name_is_left_alone(home: Path, capsys: Capture) -> None:
    other = home / ".local/share/gh/extensions/gh-netbridge"
    other.mkdir(parents=True)
    for words in (["gh-extension", "install"], ["gh-extension", "uninstall"]):
        assert run(words) == (1 if words[1] == "install" else 0)
    assert "another extension" in capsys.readouterr().err
    assert other.is_dir()
    (home / "mine").mkdir()
    other.rmdir()
    other.symlink_to(home / "mine")
    assert run(["gh-extension", "uninstall"]) == 1
    assert other.is_symlink()


def test_a_folder_that_cannot_be_written(home: Path, capsys: Capture) -> None:
    (home / ".local").write_text("")
    assert run(["gh-extension", "install"]) == 1
    assert "cannot be changed" in capsys.readouterr().err
