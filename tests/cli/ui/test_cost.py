"""What the screen of a busy bridge takes of a core, and how often it is drawn; `make watch` has the bridge's side."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from tests.cli.program import SOURCE

ROOT = Path(__file__).resolve().parent.parent.parent.parent
STILL = 0.05
"""Seconds without a byte between two drawings."""


@pytest.mark.alone
def test_five_thousand_flows_take_a_seventh_of_a_core_and_five_drawings_a_second_at_most(tmp_path: Path) -> None:
    terminal, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    drawn: list[float] = []

    def read() -> None:
        last = 0.0
        while True:
            try:
                os.read(terminal, 1 << 16)
            except OSError:
                return
            if time.monotonic() - last > STILL:
                drawn.append(time.monotonic())
            last = time.monotonic()

    reader = threading.Thread(target=read)
    reader.start()
    result = tmp_path / "result"
    try:
        subprocess.run(
            [sys.executable, "-m", "tests.cli.ui.busy", str(result)], stdin=slave, stdout=slave, stderr=slave, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{SOURCE}:{ROOT}", "TERM": "xterm-256color"}, timeout=60, check=True,
        )
    finally:
        os.close(slave)
        reader.join(10)
        os.close(terminal)
    said = json.loads(result.read_text(encoding="utf-8"))
    share = said["cpu"] / said["seconds"]
    rate = len([at for at in drawn if at > drawn[-1] - said["seconds"]]) / said["seconds"]
    print(f"a busy screen: {share:.1%} of a core, {rate:.1f} drawings/s")
    assert share < 0.15
    assert 1 < rate <= 5
