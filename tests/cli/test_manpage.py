"""The man page is that of these commands, and the real man and groff find no fault with it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from netbridge.cli.commands import commands
from netbridge.cli.manpage import page
from netbridge.cli.program import run

PAGE = Path(__file__).parents[2] / "docs/netbridge.1"


def test_it_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: make man"


@pytest.mark.skipif(shutil.which("man") is None, reason="needs man: scripts/system-packages test")
def test_man_shows_it_without_a_warning() -> None:
    environment = {**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}
    done = subprocess.run(
        ["man", "--warnings", "-l", str(PAGE)], env=environment, capture_output=True, text=True, timeout=60,
        check=False)
    assert (done.returncode, done.stderr) == (0, "")
    shown = subprocess.run(
        ["col", "-bx"], input=done.stdout, capture_output=True, text=True, timeout=60, check=True).stdout
    for command in commands().every():
        if command.path and not command.commands:
            assert f"netbridge {' '.join(command.path)}" in shown
            for argument in command.arguments:
                assert argument.names[0] in shown
                assert argument.help or not argument.is_option, (command.path, argument.names)
    assert "--dns auto|all|off" in shown
    assert "\\" not in shown


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff: scripts/system-packages test")
def test_groff_has_no_warning() -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-z", str(PAGE)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_says_what_help_says(capsys: pytest.CaptureFixture[str]) -> None:
    """One text for each command: `--help` has it from the program's list, and the page must not have another."""
    for command in commands().every():
        if command.path and not command.commands:
            assert run([*command.path, "--help"]) == 0
            told = [part for part in capsys.readouterr().out.split("\n\n")[1:] if part.strip() and "╭" not in part]
            # Word by word: how wide a line may be depends on the terminal that this process saw first.
            page = command.text.split("\n\n")
            assert [part.split() for part in told] == [part.split() for part in page], command.path
