"""A real `netbridge up` on a real terminal, and its status, while all that its agent says is escape sequences."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from netbridge.bridge.plain import clean

from .kinds import DONE
from .trial import ROOT, environment


def harmless(data: bytes) -> None:
    """Nothing in it but lines of text."""
    text = data.decode()
    for line in text.replace("\r\n", "\n").split("\n"):
        assert line == clean(line, 1 << 20), f"{line!r}"


def test_nothing_reaches_the_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    agent = f"exec:{sys.executable} -m tests.hostile.agent --kind escapes --folder {tmp_path}"
    surroundings = {**environment(tmp_path), "TERM": "xterm"}
    netbridge = [sys.executable, "-m", "netbridge"]
    program = subprocess.Popen(
        [*netbridge, "up", agent, "--gui", "false", "--trace-level", "debug", "--log-file", str(tmp_path / "log")],
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=surroundings, cwd=ROOT,
    )
    os.close(theirs)
    seen = bytearray()

    def read() -> None:
        try:
            while data := os.read(ours, 65536):
                seen.extend(data)
        except OSError:  # EIO: nobody has the terminal any more
            pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / DONE).exists() or b": ready" not in seen:
            assert program.poll() is None, seen.decode()
            assert time.monotonic() < deadline, seen.decode()
            time.sleep(0.02)
        for words in (["status", "--flows"], ["status", "--json"]):
            asked = subprocess.run([*netbridge, *words], env=surroundings, cwd=ROOT, capture_output=True, timeout=60)
            assert asked.stdout, (words, asked)
            harmless(asked.stdout)
            harmless(asked.stderr)
            assert b"evil" in asked.stdout
    finally:
        program.send_signal(signal.SIGTERM)
        assert program.wait(30) == 0
        reader.join(10)
        os.close(ours)
    harmless(bytes(seen))
    harmless((tmp_path / "log").read_bytes())
    assert seen.count(b"evil") > 5, "it was to show what was said"
    assert sum(line.startswith(b"netbridge: ready") for line in seen.splitlines()) == 1, "a line was forged"


