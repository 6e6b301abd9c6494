"""Questions on the terminal: a password, a passphrase, whether a host key is the right one.

Asked on /dev/tty, whatever stdin is. While the question stands, ctrl-c makes no signal (the event loop, which may
be blocked by the question, could not act on it) but ends the question; the signal follows then.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import select
import signal
import termios
import threading

_LOOK_ROUND = 0.2
"""Seconds between looks at whether the question was withdrawn."""
_CTRL_C = b"\x03"
_LOCAL_MODES, _SPECIAL = 3, 6
"""Places in what tcgetattr returns."""


async def ask(prompt: str, *, echo: bool) -> str | None:
    """Ask without blocking the event loop; None when there is no terminal or the user would not answer."""
    withdrawn = threading.Event()
    try:
        question = functools.partial(ask_now, prompt, echo=echo, withdrawn=withdrawn)
        return await asyncio.get_running_loop().run_in_executor(None, question)
    finally:
        withdrawn.set()


def ask_now(prompt: str, *, echo: bool, withdrawn: threading.Event | None = None) -> str | None:
    """Ask, and wait for the answer; None when there is no terminal or the user would not answer."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return None
    try:
        saved = termios.tcgetattr(terminal)
        changed = termios.tcgetattr(terminal)
        changed[_LOCAL_MODES] &= ~termios.ISIG
        if not echo:
            changed[_LOCAL_MODES] &= ~termios.ECHO
        changed[_SPECIAL][termios.VEOL] = _CTRL_C  # ends a line, so that it is read at once
        termios.tcsetattr(terminal, termios.TCSAFLUSH, changed)
        try:
            os.write(terminal, prompt.encode())
            line = _line(terminal, withdrawn)
        finally:
            with contextlib.suppress(OSError):
                if not echo:
                    os.write(terminal, b"\n")
                termios.tcsetattr(terminal, termios.TCSAFLUSH, saved)
    except (OSError, termios.error):
        return None
    finally:
        os.close(terminal)
    if line is not None and _CTRL_C in line:
        os.kill(os.getpid(), signal.SIGINT)
        return None
    return None if line is None else line.decode("utf-8", "replace").rstrip("\r\n")


def _line(terminal: int, withdrawn: threading.Event | None) -> bytes | None:
    line = b""
    while not line.endswith((b"\n", _CTRL_C)):
        if withdrawn is not None and withdrawn.is_set():
            return None
        if select.select([terminal], [], [], _LOOK_ROUND)[0]:
            piece = os.read(terminal, 4096)
            if not piece:  # ctrl-d
                return None
            line += piece
    return line
