"""A terminal that can be looked at: tmux, with a server of its own, in a machine's network namespace."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self


class Tmux:
    """One window. A shell runs in it, so that there is job control, and the program is started from it."""

    def __init__(
        self, prefix: Sequence[str], folder: Path, environment: Mapping[str, str], *, width: int = 80, height: int = 24,
    ) -> None:
        """`prefix`: the words that lead into the machine."""
        self._prefix = list(prefix)
        self._folder = folder
        self._environment = {**environment, "LC_ALL": "C.UTF-8", "TMUX": "", "TERM": "xterm-256color"}
        self._size = ("-x", str(width), "-y", str(height))

    def __enter__(self) -> Self:
        # TERM=screen-256color is what tmux tells programs inside.
        self._tmux("new-session", "-d", *self._size, "env", "PS1=shell> ", "bash", "--norc", "--noprofile")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(self._words("kill-server"), env=self._environment, check=False, capture_output=True)

    def _words(self, *words: str) -> list[str]:
        return [*self._prefix, "tmux", "-u", "-f", "/dev/null", "-S", str(self._folder / "tmux.sock"), *words]

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            self._words(*words), env=self._environment, cwd=self._folder, capture_output=True, text=True, timeout=20,
            check=True,
        )
        return done.stdout

    def run(self, *words: str) -> None:
        """Type a command line and Enter."""
        self.say(shlex.join(words))

    def say(self, text: str) -> None:
        """Type a line and Enter."""
        self._tmux("send-keys", "-l", text)
        self.press("Enter")

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names: C-c, Escape, Enter."""
        self._tmux("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    @property
    def screen(self) -> str:
        """What is on it."""
        return self._tmux("capture-pane", "-p")

    @property
    def coloured(self) -> str:
        """The same with its escape sequences."""
        return self._tmux("capture-pane", "-p", "-e")

    def value(self, form: str) -> str:
        """A value of tmux's formats, such as `#{alternate_on}`."""
        return self._tmux("display-message", "-p", form).strip()

    def until(self, *wanted: str, timeout: float = 30.0, gone: bool = False, times: int = 1) -> str:
        """Wait until all of `wanted` are on the screen, so many times (`gone`: none of them); the screen."""
        deadline = time.monotonic() + timeout
        while True:
            screen = self.screen
            if all((screen.count(text) >= times) is not gone for text in wanted):
                return screen
            if time.monotonic() > deadline:
                raise AssertionError(f"{wanted} {'still' if gone else 'not'} on the screen:\n{screen}")
            time.sleep(0.1)
