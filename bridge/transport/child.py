"""One child process that a channel stands on: started as the right user, ended by us and by nobody else.

Who gets the terminal's ctrl-c? The terminal sends SIGINT to the whole foreground process group, so an `ssh` in it
would die before the bridge could stop cleanly. There are three ways out:

- a session of its own (setsid) loses the controlling terminal, and then ssh cannot ask for a passphrase;
- a process group of its own is a background group: reading the terminal stops it with SIGTTIN;
- the child stays in the group and ignores SIGINT and SIGHUP. OpenSSH leaves a signal ignored that it finds ignored,
  and while it asks for a passphrase it handles SIGINT itself, so ctrl-c still ends the question.

The third is taken when there is a terminal to ask on, else the first. Ignored signals survive exec, so a one-line
`sh` sets them (preexec_fn would run Python between fork and exec, which is unsafe in a process with threads).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from ..user import User

IGNORE_THEN_RUN = ("/bin/sh", "-c", 'trap "" INT HUP; exec "$@"', "sh")
TERMINATE_AFTER = 3.0
"""Seconds a command may take to end after its stdin ended; ssh needs a round trip to close the connection."""
KILL_AFTER = 3.0
"""Seconds between SIGTERM and SIGKILL."""


class Child:
    """A running child process. `ended` callbacks come in the event loop's thread."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        user: User,
        interactive: bool,
        stdin: int,
        stdout: int,
        stderr: int | None,
        cwd: str | None = None,
    ) -> None:
        """Start it. Raises OSError (FileNotFoundError when there is no such program)."""
        arguments: dict[str, Any] = user.process_arguments()
        self._loop = asyncio.get_running_loop()
        self._own_session = not interactive
        self._callbacks: list[Callable[[int], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.status: int | None = None
        """Exit status, 128 + N for signal N; None while it runs."""
        self._process = subprocess.Popen(
            [*IGNORE_THEN_RUN, *argv] if interactive else list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            start_new_session=self._own_session,
            **arguments,
        )
        self.pid = self._process.pid
        self._watch()

    def __repr__(self) -> str:
        return f"<Child {self.pid} {'running' if self.status is None else f'ended {self.status}'}>"

    def when_ended(self, callback: Callable[[int], None]) -> None:
        """Call back with the exit status, at once when it has ended already."""
        if self.status is None:
            self._callbacks.append(callback)
        else:
            callback(self.status)

    async def wait(self) -> int:
        """Wait for its end; the exit status."""
        if self.status is None:
            ended: asyncio.Future[None] = self._loop.create_future()

            def tell(_status: int) -> None:
                if not ended.done():
                    ended.set_result(None)

            self._callbacks.append(tell)
            await ended
        assert self.status is not None
        return self.status

    def end_soon(self, after: float = TERMINATE_AFTER) -> None:
        """Give it `after` seconds to end by itself, then SIGTERM, then SIGKILL. Does not wait."""
        if self.status is None and self._timer is None:
            self._timer = self._loop.call_later(after, self._terminate)

    def signal(self, number: int) -> None:
        """Send a signal to it (to all of its session where it has its own)."""
        if self.status is not None:
            return
        # Not yet reaped, so the number cannot have passed to another process.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._own_session:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    def _terminate(self) -> None:
        self.signal(signal.SIGTERM)
        self._timer = self._loop.call_later(KILL_AFTER, self.signal, signal.SIGKILL)

    def _watch(self) -> None:
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, or older than 5.3
            waiting = self._loop.run_in_executor(None, self._process.wait)
            waiting.add_done_callback(lambda _done: self._ended())
            return

        def readable() -> None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
            self._process.wait()
            self._ended()

        self._loop.add_reader(descriptor, readable)

    def _ended(self) -> None:
        code = self._process.returncode
        self.status = status = 128 - code if code < 0 else code
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(status)
