"""Completion in the real shells, typed at their prompts, and the words behind it."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from netbridge.bridge.control import Control
from netbridge.bridge.runtime import Folder
from netbridge.cli import completion
from netbridge.cli.completion import SCRIPTS, candidates
from netbridge.cli.program import run

from .program import SOURCE

TARGET = "ssh://me@devbox"
SHELLS = [
    pytest.param(shell, marks=pytest.mark.skipif(
        shutil.which(shell) is None, reason=f"needs {shell}: scripts/system-packages test"))
    for shell in ("bash", "zsh", "fish")
]
TYPED = [
    ("netbridge stat", "netbridge status "),
    ("netbridge up sandbox --dns-d", "netbridge up sandbox --dns-domain "),
    ("netbridge up --log-format=j", "netbridge up --log-format=json "),
    ("netbridge down s", f"netbridge down {TARGET} "),
    ("netbridge connect --target ssh://m", f"netbridge connect --target {TARGET} "),
    ("netbridge up --pcap rem", "netbridge up --pcap remarkable.pcap "),
    ("netbridge up do", "netbridge up docker://"),
]
"""What is typed before TAB, and what then stands there."""


@asynccontextmanager
async def a_bridge(folder: Path) -> AsyncIterator[None]:
    """One that answers for its target."""
    with Folder(folder / "run", owner=os.geteuid()) as opened:
        reservation = opened.reserve()
        control = Control(reservation, lambda **_: {"target": TARGET, "state": "running"}, lambda _: None)
        await control.start()
        try:
            yield
        finally:
            await control.close()
            reservation.release()


class Prompt:
    """A shell at whose prompt one types."""

    def __init__(self, shell: str, folder: Path) -> None:
        program = folder / "bin" / "netbridge"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m netbridge "$@"\n')
        program.chmod(0o755)
        (folder / "remarkable.pcap").touch()
        environment = {
            "PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(folder), "PYTHONPATH": SOURCE,
            "TERM": "dumb", "PS1": "> ", "NETBRIDGE_RUNTIME_DIR": str(folder / "run"), "LC_ALL": "C.UTF-8",
        }
        words = {"bash": ["bash", "--noprofile", "--norc", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
        self._pty, theirs = pty.openpty()
        self._process = subprocess.Popen(
            words, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment, start_new_session=True)
        os.close(theirs)
        self._said = ""
        begin = "autoload -U compinit; compinit -u -D; " if shell == "zsh" else ""
        self.type(f'{begin}eval "$(netbridge completion {shell})"; echo rea"dy"\n')
        self.until("ready\r\n")

    def type(self, text: str) -> None:
        os.write(self._pty, text.encode())

    def until(self, wanted: str) -> None:
        """Read until it stands there."""
        deadline = time.monotonic() + 30
        while wanted not in self._said:
            if not select.select([self._pty], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"{wanted!r} did not come, but {self._said!r}")
            self._said += os.read(self._pty, 4096).decode(errors="replace")
        self._said = ""

    def completed(self, text: str, whole: str) -> None:
        """Type `text` and TAB, and see what the shell adds."""
        self.type(f"{text}\t")
        self.until(whole.removeprefix(text).rstrip())
        self.type("\x15")  # the line goes away

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._pty)


@pytest.mark.parametrize("shell", [it for it in SHELLS if it.values[0] != "fish"])
async def test_what_is_typed_is_completed(shell: str, tmp_path: Path) -> None:
    def typing() -> None:
        prompt = Prompt(shell, tmp_path)
        try:
            for text, whole in TYPED:
                prompt.completed(text, whole)
        finally:
            prompt.close()

    async with a_bridge(tmp_path):
        await asyncio.to_thread(typing)


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish: scripts/system-packages test")
async def test_fish_says_what_it_would_offer(tmp_path: Path) -> None:
    program = tmp_path / "netbridge"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m netbridge "$@"\n')
    program.chmod(0o755)
    (tmp_path / "remarkable.pcap").touch()
    environment = {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "PYTHONPATH": SOURCE,
        "NETBRIDGE_RUNTIME_DIR": str(tmp_path / "run"),
    }
    asked = "; ".join(f"complete -C '{text}'; echo ==" for text, _ in TYPED)
    async with a_bridge(tmp_path):
        done = await asyncio.to_thread(
            subprocess.run, ["fish", "-N", "-c", f"netbridge completion fish | source; {asked}"], env=environment,
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    for (text, whole), offered in zip(TYPED, done.stdout.split("==\n")[:-1], strict=True):
        first = offered.partition("\t")[0].strip()
        assert f"{text[:text.rfind(' ') + 1]}{first}" == whole.rstrip(), (text, offered, done.stderr)


EVIL = """exec:sh -c 'x' "y" $(touch marked) `touch marked`; touch marked"""


@pytest.mark.parametrize(("typed", "at"), [("", 0), ("exec", 0), ("'ex", 0), ('"ex', 0), ("exec:", 5)])
def test_bash_takes_a_target_for_one_word_and_runs_nothing_in_it(
    typed: str, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(completion, "_running", lambda: {EVIL: ""})
    assert run(["complete", "bash", ":=", "--", f"netbridge down {typed}"]) == 0
    word = typed[:at] + capsys.readouterr().out.removesuffix("\n")
    quote = typed[:1] if typed[:1] in {"'", '"'} else ""
    said = subprocess.run(
        ["bash", "-c", f"printf %s {quote}{word}{quote}"], capture_output=True, text=True, cwd=tmp_path, timeout=30,
        check=True).stdout
    assert said == EVIL
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_finds_no_fault_with_its_lines(shell: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(SCRIPTS[shell])
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("words", "found"), [
    (["--"], ["--help"]),
    (["service", ""], ["install", "uninstall", "status"]),
    (["service", "install", "--take"], ["--take-over"]),
    (["up", "--keep-awake", ""], ["yes", "no"]),
    (["up", "sandbox", "--", "cu"], [":command 4"]),
    (["up", "sandbox", "again"], []),
    (["config", "show", "--config", ""], [":files"]),
    (["completion", ""], ["bash", "zsh", "fish"]),
    (["nonsense", ""], None),
    ([], []),
])
def test_words(words: list[str], found: list[str] | None) -> None:
    offered = [word for word, _ in candidates(words)]
    if found is None:
        assert "up" in offered
        assert "complete" not in offered
    else:
        assert offered == found


@pytest.mark.parametrize(("line", "breaks", "printed"), [
    ("netbridge up ss", ":=", "ssh://\n"),
    ("netbridge up ssh:", ":=", "//\n"),
    ("netbridge up ssh:", "=", "ssh://\n"),
    ("netbridge up --dns=", ":=", "auto\nall\noff\n"),
    ("netbridge up 'ss", ":=", "ssh://\n"),
])
def test_bash_gets_what_completes_its_own_last_word(
    line: str, breaks: str, printed: str, capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["complete", "bash", breaks, "--", line]) == 0
    assert capsys.readouterr().out == printed
