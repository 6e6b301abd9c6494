"""A terminal with a person at it: a program runs on a pseudo-terminal and is typed to."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).parents[3] / "src"


class Keyboard:
    """A Python program that leads a session with a terminal of its own."""

    def __init__(self, code: str, environment: Mapping[str, str] | None = None) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            try:
                os.execve(
                    sys.executable,
                    [sys.executable, "-c", code],
                    {**os.environ, "PYTHONPATH": str(SOURCE), **(environment or {})},
                )
            finally:
                os._exit(126)
        self.seen = b""
        self.status: int | None = None

    def __enter__(self) -> Keyboard:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.terminal)

    def type(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def expect(self, text: str, seconds: float = 15.0) -> str:
        """Wait until the screen shows the text; what came before it."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} did not come: {self.seen!r}"
            self._read(0.1)
        before, _, self.seen = self.seen.partition(text.encode())
        return before.decode("utf-8", "replace")

    def end(self, seconds: float = 15.0) -> int:
        """Wait for the program's end; its exit status."""
        deadline = time.monotonic() + seconds
        while True:
            self._read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                return self.status
            assert time.monotonic() < deadline, f"it does not end: {self.seen!r}"

    def stopped(self, seconds: float = 15.0) -> bool:
        """Whether the program stops, as a shell would see it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid:
                return os.WIFSTOPPED(status)
            self._read(0.05)
        return False

    def settings(self) -> list[object]:
        return termios.tcgetattr(self.terminal)

    def foreground(self) -> int:
        return os.tcgetpgrp(self.terminal)

    def given_away(self) -> None:
        """Wait until the program gave the terminal to a command; before it leads a session nobody has it (0)."""
        while self.foreground() in (0, self.pid):
            self._read(0.02)

    def asks(self) -> None:
        """Wait until the command waits for keys: a key pressed before that finds a shell between two of its looks."""
        self.given_away()
        while Path(f"/proc/{self.foreground()}/stat").read_text().rpartition(")")[2].split()[0] != "S":
            self._read(0.02)

    def _read(self, seconds: float) -> None:
        if select.select([self.terminal], [], [], seconds)[0]:
            try:
                self.seen += os.read(self.terminal, 65536)
            except OSError:  # the program closed its terminal
                time.sleep(seconds)
