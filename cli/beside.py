"""The terminal UI beside `netbridge up`: a child that owns the terminal, while the bridge goes on in this process.

The child is a job as COMMAND is (`bridge/transport/terminal.py`): in the foreground, with its own process group. So
nothing here can ask on the terminal meanwhile: a passphrase that a reconnect wants is refused with a sentence, which is
in the log. After `d` it is asked for, and the keys are the question's until the connection is there again. Lines for
the screen wait until the UI is gone. It may leave (`d`), crash or be killed: the bridge goes on and tells by lines, `u`
shows it again. It stops the bridge as anybody does, by the control socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING

from netbridge.bridge import events
from netbridge.bridge.options import Options
from netbridge.bridge.transport.terminal import has_terminal, run_on_terminal, settings_restored
from netbridge.bridge.user import helper_user

from .keyboard import Keyboard

if TYPE_CHECKING:
    from netbridge.bridge.session import Session

    from .output import Output

LEAVE_SECONDS = 2.0
"""So long the UI may take to notice that the bridge is gone."""
RESET = (
    "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?2004l\x1b[?1004l\x1b[?2048l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[0m"
)
"""What a UI that was killed leaves on: mouse, paste and focus reports, keyboard protocol, the alternate screen, no
cursor, colours."""


def suits(options: Options) -> bool:
    """Whether a UI can be shown and nothing speaks against it; what `--gui` means when it is not given."""
    return (
        has_terminal() and sys.stderr.isatty() and options.log_format == "text" and not _taken(options)
        and os.environ.get("TERM", "dumb") != "dumb"
    )


def _taken(options: Options) -> bool:
    return bool(options.command) or options.target == "sandbox"


def why_not(options: Options) -> str:
    """Why `--gui true` is not heeded; empty when it is."""
    if _taken(options):
        return "the terminal is the command's; netbridge attach shows the UI on another one"
    if not has_terminal() or not sys.stderr.isatty():
        return "there is no terminal for the UI; netbridge attach shows it on one"
    return ""


class Beside:
    """What has the terminal while a bridge runs: the UI, or keys and lines. A context manager; `begin` when ready."""

    def __init__(self, session: Session, output: Output, stop: Callable[[str], None], *, gui: bool) -> None:
        """`stop` is told the reason."""
        self._session = session
        self._output = output
        self._stop = stop
        self._gui = gui
        self._task: asyncio.Task[None] | None = None
        self._keyboard: Keyboard | None = None
        self._closing = False

    def begin(self) -> None:
        """The bridge is ready."""
        if self._gui:
            self.show()
        else:
            self._listen()

    def interrupted(self) -> None:
        """The connection is made anew, which may want a passphrase: where no UI is shown, keys are not ours."""
        if self._keyboard is not None and self._keyboard.single_keys:
            self._be_deaf()

    def resumed(self) -> None:
        """The connection is there again."""
        if self._keyboard is None and (self._task is None or self._task.done()):
            self._listen()

    def show(self) -> None:
        """Give the terminal to the UI."""
        self._be_deaf()
        self._task = asyncio.get_running_loop().create_task(self._shown())

    async def close(self) -> None:
        """The bridge is gone; return when the terminal is as it was."""
        self._closing = True
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=LEAVE_SECONDS)
            self._task.cancel()
            await asyncio.wait({self._task})
        self._be_deaf()

    async def _shown(self) -> None:
        reservation = self._session.reservation
        assert reservation is not None
        argv = [sys.executable, "-P", "-m", "netbridge.cli.ui", str(reservation.folder.path), str(reservation.number)]
        user = dataclasses.replace(helper_user(), environment=os.environ, differs=False)
        self._output.hold()
        status = 0
        try:
            with settings_restored():
                _no_echo()  # of what is typed while the UI is loaded
                status = await run_on_terminal(argv, user=user, waits=True)
        except OSError as error:
            self._output.event(events.Hint(f"the terminal UI cannot be started: {error.strerror}"))
        finally:
            if status not in (0, 4):
                self._output.write_raw(RESET)
            self._output.let_go()
        state = self._session.state
        if self._closing or state not in {"running", "reconnecting"}:
            return
        if status:
            how = signal.Signals(status - 128).name if status > 128 else f"status {status}"
            self._output.event(events.Hint(f"the terminal UI ended with {how}; the bridge goes on"))
        if state == "reconnecting":
            self._output.event(events.Hint("ctrl-c stops the bridge; there are keys again when it is connected"))
        self._listen()

    def _listen(self) -> None:
        if self._session.state != "running":
            return
        keys = {"q": lambda: self._stop("q was pressed")}
        if self._gui:
            keys["u"] = self.show
        self._keyboard = Keyboard(keys)
        self._keyboard.__enter__()
        if self._keyboard.single_keys:
            again = ", u shows the terminal UI" if self._gui else ""
            self._output.event(events.Hint(f"q or ctrl-c stops the bridge{again}"))

    def _be_deaf(self) -> None:
        if self._keyboard is not None:
            self._keyboard.__exit__()
            self._keyboard = None


def _no_echo() -> None:
    with contextlib.suppress(termios.error):
        settings = termios.tcgetattr(0)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(0, termios.TCSADRAIN, settings)
