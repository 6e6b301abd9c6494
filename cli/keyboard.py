"""Keys for a running bridge, such as `q`: single ones on a terminal, with Enter where lines are read from elsewhere.

On a terminal that is ours (we are its foreground process group; a background job that touched it would be stopped
by SIGTTOU) line editing and echo are switched off and restored at the end, at exit, and around a suspension by
ctrl-z. Signals from the keyboard stay on, so ctrl-c is SIGINT as ever.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import sys
import termios
from collections.abc import Callable, Mapping
from typing import Any


class Keyboard:
    """Watches standard input while in use as a context manager, inside a running event loop."""

    def __init__(self, keys: Mapping[str, Callable[[], object]]) -> None:
        """`keys`: what each does, by its letter in lower case."""
        self._keys = keys
        self._loop = asyncio.get_running_loop()
        self._descriptor = -1
        self._saved: list[Any] | None = None
        self._line = b""

    def __enter__(self) -> Keyboard:
        try:
            descriptor = sys.stdin.fileno()
            if os.isatty(descriptor):
                if os.tcgetpgrp(descriptor) != os.getpgrp():
                    return self
                self._saved = termios.tcgetattr(descriptor)
                self._single_keys(descriptor)
                atexit.register(self._restore)
                self._loop.add_signal_handler(signal.SIGCONT, self._single_keys, descriptor)
            blocking = os.get_blocking(descriptor)
            self._loop.add_reader(descriptor, self._readable)
            self._descriptor = descriptor
            # uvloop makes it non-blocking, for everyone who shares this terminal, and for good.
            os.set_blocking(descriptor, blocking)
        except (OSError, ValueError, AttributeError, termios.error):
            self._restore()  # standard input is closed, a plain file or /dev/null: no keyboard
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        self._restore()

    @property
    def single_keys(self) -> bool:
        """Standard input is a terminal, and ours."""
        return self._saved is not None

    def _single_keys(self, descriptor: int) -> None:
        try:
            if os.tcgetpgrp(descriptor) == os.getpgrp():
                attributes = termios.tcgetattr(descriptor)
                attributes[3] &= ~(termios.ICANON | termios.ECHO)
                attributes[6][termios.VMIN] = 1
                attributes[6][termios.VTIME] = 0
                termios.tcsetattr(descriptor, termios.TCSADRAIN, attributes)
        except (OSError, termios.error):
            pass

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, 1024)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._forget()
        elif self._saved is not None:
            self._pressed(data.lower())
        else:
            *lines, self._line = (self._line + data).split(b"\n")
            self._line = self._line[-16:]
            for line in lines:
                if len(key := line.strip().lower()) == 1:
                    self._pressed(key)

    def _pressed(self, keys: bytes) -> None:
        for key, does in self._keys.items():
            if key.encode() in keys:
                does()
                return

    def _forget(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            self._descriptor = -1

    def _restore(self) -> None:
        if self._saved is None:
            return
        saved, self._saved = self._saved, None
        atexit.unregister(self._restore)
        if not self._loop.is_closed():
            self._loop.remove_signal_handler(signal.SIGCONT)
        try:
            descriptor = sys.stdin.fileno()
            if os.tcgetpgrp(descriptor) == os.getpgrp():
                termios.tcsetattr(descriptor, termios.TCSADRAIN, saved)
        except (OSError, ValueError, termios.error):
            pass
