"""Running a user's COMMAND on this terminal, beside a bridge that goes on running.

The command must own the terminal: ctrl-c in `psql` cancels a query, it must not stop the bridge. So it becomes the
foreground process group, as a job of a shell would, and the terminal comes back to us when it ends, with the
settings it had. When it is stopped (ctrl-z) we stop too, as `sudo` does, so that the user's shell gets its prompt;
`fg` continues both.

Without a terminal on stdin there is nothing to own and the command just inherits stdin, stdout and stderr.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..user import User

STOP_THEN_RUN = ("/bin/sh", "-c", 'kill -STOP $$; exec "$@"', "sh")
"""Wait, as a job does, to be given the terminal: a key pressed in between would go to the bridge."""
LOOK_ROUND = 0.3
"""Seconds between looks at whether `fg` gave us the terminal back: the shell tells nobody."""
END_AFTER = 3.0
"""Seconds from asking a command to end (SIGHUP, SIGTERM) to SIGKILL, when the bridge stops before its command."""


def has_terminal() -> bool:
    """Whether stdin is a terminal and we are in its foreground."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


@contextlib.contextmanager
def settings_restored(descriptor: int = 0) -> Iterator[None]:
    """Whatever happens to the terminal's settings within, they are put back."""
    try:
        saved = termios.tcgetattr(descriptor)
    except termios.error:
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(termios.error), _may_write_to_terminal():
            termios.tcsetattr(descriptor, termios.TCSADRAIN, saved)


async def run_on_terminal(
    argv: Sequence[str], *, user: User, extra_environment: dict[str, str] | None = None, waits: bool = False,
    started: Callable[[], object] = lambda: None,
) -> int:
    """Run a program on this terminal; its exit status, 128 + N for signal N. Raises OSError when it cannot be started.

    When cancelled, the program is ended first. `waits`: after a suspension it goes on only when we are in the
    foreground again (`fg`); in the background (`bg`) we run without it. `started` is called once the program runs.
    """
    arguments: dict[str, Any] = user.process_arguments()
    arguments["env"].update(extra_environment or {})
    terminal = has_terminal()
    with settings_restored() if terminal else contextlib.nullcontext():
        line = [*STOP_THEN_RUN, *argv] if terminal else list(argv)
        process = subprocess.Popen(line, process_group=0 if terminal else None, **arguments)
        started()
        job = _Job(process, terminal=terminal, waits=waits)
        waiting = asyncio.get_running_loop().run_in_executor(None, job.wait)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            job.ending = True
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
                job.signal(number)
            # Not asyncio.timeout: before Python 3.11.4 it raises CancelledError in a task that is being cancelled.
            await asyncio.wait({waiting}, timeout=END_AFTER)
            job.signal(signal.SIGKILL)
            await waiting
            raise


class _Job:
    """A child as a shell's job."""

    def __init__(self, process: subprocess.Popen[bytes], *, terminal: bool, waits: bool = False) -> None:
        self._process = process
        self._waits = waits
        self._terminal = terminal
        self._lock = threading.Lock()
        self.ending = False
        """The job is being ended: if it stops again, it is continued."""
        self._started = not terminal

    def signal(self, number: int) -> None:
        """Signal the job, unless it has ended."""
        with self._lock:
            if self._process.returncode is None:
                with contextlib.suppress(OSError):
                    if self._terminal:
                        os.killpg(self._process.pid, number)
                    else:
                        self._signal_alone(number)

    def _signal_alone(self, number: int) -> None:
        """It was started as root (nsenter), and we have stepped down since: then to what it runs, which is ours."""
        pid = self._process.pid
        try:
            os.kill(pid, number)
        except PermissionError:
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                os.kill(int(child), number)

    def wait(self) -> int:
        """Wait for the end, in a thread of its own; stop and continue together with the job."""
        pid = self._process.pid
        while True:
            # WNOWAIT: the process stays a zombie until the lock is held, so its number cannot be signalled by mistake.
            result = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
            assert result is not None
            if result.si_code not in (os.CLD_STOPPED, os.CLD_TRAPPED):
                break
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
            self._stopped(result.si_status)
        with self._lock:
            _, wait_status = os.waitpid(pid, 0)
            code = self._process.returncode = os.waitstatus_to_exitcode(wait_status)
        if self._terminal:
            self._give_terminal(os.getpgrp())
        return 128 - code if code < 0 else code

    def _stopped(self, number: int) -> None:
        if not self._started:
            self._started = True
        elif self._terminal and not self.ending and number not in (signal.SIGTTIN, signal.SIGTTOU):
            self._give_terminal(os.getpgrp())
            # To our whole group, as the terminal would have sent it. Returns when someone continues us.
            os.killpg(os.getpgrp(), signal.SIGTSTP)
            if self._waits:
                self._wait_for_terminal()
        # SIGTTIN and SIGTTOU: it asked for the terminal before it had been given to it.
        if self._terminal:
            self._give_terminal(self._process.pid)
            self.signal(signal.SIGCONT)

    def _wait_for_terminal(self) -> None:
        while True:
            time.sleep(LOOK_ROUND)  # first: the signal may reach this thread a moment later than another
            if self.ending or has_terminal():
                return

    @staticmethod
    def _give_terminal(group: int) -> None:
        with contextlib.suppress(OSError), _may_write_to_terminal():
            os.tcsetpgrp(0, group)


@contextlib.contextmanager
def _may_write_to_terminal() -> Iterator[None]:
    """A background process that sets the terminal is stopped by SIGTTOU unless the thread blocks it (termios(4))."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
