"""A COMMAND without a terminal: what it is given, what it gives back, and that it ends with its connection."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from netbridge.bridge.transport.remote_command import supervised

from .listener import running


def run(*argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", supervised(argv)], input=stdin, capture_output=True, check=False, timeout=20)


def test_words_input_output_and_status_pass() -> None:
    done = run("sh", "-c", 'cat; printf "%s|" "$@" >&2; exit 7', "sh", "two words", "$HOME", "it's", stdin=b"in")
    assert (done.stdout, done.stderr, done.returncode) == (b"in", b"two words|$HOME|it's|", 7)


def test_a_signal_is_told_as_a_shell_tells_it() -> None:
    assert run("sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM


def test_a_program_that_is_not_there() -> None:
    done = run("no-such-program-here")
    assert done.returncode == 127
    assert done.stderr == b"no-such-program-here: No such file or directory\n"


@pytest.mark.parametrize("trap", ["", "trap '' HUP;"])
def test_it_ends_when_nobody_reads_any_more(tmp_path: Path, trap: str) -> None:
    """As sshd does when the connection is lost: it closes its ends of the pipes, and no more."""
    note = tmp_path / "pid"
    with subprocess.Popen(
        ["sh", "-c", supervised(["sh", "-c", f"{trap} echo $$ > {note}; while :; do sleep 1; done"])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:
        deadline = time.monotonic() + 10
        while not (note.exists() and note.read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        pid = int(note.read_text())
        assert process.stdout is not None
        process.stdout.close()
        process.wait(10)
        deadline = time.monotonic() + 10
        while running(pid):  # killed, but whoever inherited it may not have looked yet
            assert time.monotonic() < deadline
            time.sleep(0.02)
