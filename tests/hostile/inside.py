"""A session in this process with a hostile agent in another, forked from it: real bytes, and no program to load.

The transport is what `exec:` has (a child's socket pair, its standard error drained), but that the child is a fork.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from netbridge.bridge import events
from netbridge.bridge.errors import BridgeError
from netbridge.bridge.options import Options
from netbridge.bridge.session import Session
from netbridge.bridge.transport.base import Channel, Transport
from netbridge.bridge.transport.child import Child
from netbridge.bridge.transport.diagnostics import Diagnostics
from netbridge.bridge.transport.greeting import Greeting
from netbridge.bridge.transport.process import ProcessChannel

from .agent import play
from .kinds import DONE, KINDS

BEAT = 0.005
"""Seconds between two looks at what the event loop took."""
PATIENCE = 8.0


class _Forked:
    """As much of Popen as a Child needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode = 0

    def wait(self) -> int:
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


class ForkedChild(Child):
    """A child that runs a function instead of a program."""

    def __init__(self, function: Any, stdin: int, stderr: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._own_session = True
        self._callbacks = []
        self._timer = None
        self.status = None
        pid = os.fork()
        if not pid:
            try:
                os.setsid()
                signal.set_wakeup_fd(-1)
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                    signal.signal(number, signal.SIG_DFL)
                for descriptor, place in ((stdin, 0), (stdin, 1), (stderr, 2)):
                    os.dup2(descriptor, place)
                os._exit(function())
            except SystemExit as error:
                os._exit(int(error.code or 0))
            except BaseException as error:
                os.write(2, f"hostile agent: {type(error).__name__}: {error}\n".encode())
                os._exit(8)
        self._process = _Forked(pid)  # type: ignore[assignment]
        self.pid = pid
        self._watch()


class HostileTarget(Transport):
    """A target whose agents are all of one kind."""

    def __init__(self, kind: str, folder: Path, *, seed: int, seconds: float, canary: int) -> None:
        self._play = lambda: play(kind, seed, seconds, folder, canary)
        self.said: list[str] = []
        """Standard error of the agents."""
        self.children: list[ForkedChild] = []
        self.channels: list[ProcessChannel] = []

    async def connect(self) -> None:
        pass

    async def open(self, command: str) -> Channel:
        greeting = Greeting()
        diagnostics = Diagnostics(self.said.append)
        ours, theirs = socket.socketpair()
        read_end, write_end = os.pipe()
        child = ForkedChild(self._play, theirs.fileno(), write_end)
        self.children.append(child)
        theirs.close()
        os.close(write_end)
        diagnostics.drain(read_end)
        channel = ProcessChannel(child, ours, diagnostics, lambda *_: None, takes_descriptors=False)
        self.channels.append(channel)
        channel.write([f"{greeting.shell()}; {command}\n".encode()])
        await greeting.wait(channel, self.said.append)
        channel.explain = None
        return channel

    async def run(self, argv: Sequence[str]) -> int:
        raise AssertionError(argv)

    async def close(self) -> None:
        for channel in self.channels:
            channel.close()
        for child in self.children:
            child.signal(signal.SIGKILL)
            await child.wait()


class Life:
    """One session against one kind: run it once, then ask for `faults`."""

    def __init__(
        self, kind: str, folder: Path, *, seed: int = 1, seconds: float = 0.2, canary: int = 9, **options: Any
    ) -> None:
        self.kind = KINDS[kind]
        self.told: list[events.Event] = []
        self.error: BaseException | None = None
        self.status: int | None = None
        self.went_on = False
        self.state: dict[str, Any] = {}
        """What `netbridge status` has, when the worst was over."""
        self.stall = 0.0
        """Seconds of CPU that the event loop took between two beats at most; time that others took does not count."""
        self.cpu = 0.0
        self.target = HostileTarget(kind, folder, seed=seed, seconds=seconds, canary=canary)
        given = {"target": "exec:hostile", "grace": self.kind.grace, "ping_interval": 0.5, **options}
        self.session = Session(Options(**given), self.told.append, transport=self.target)
        self._done = folder / DONE

    async def run(self) -> Life:
        """The session's whole life."""
        loop = asyncio.get_running_loop()
        before = len(os.listdir("/proc/self/fd"))
        tasks = asyncio.all_tasks()
        stopping = loop.create_task(self._stop_when_done())
        began = time.process_time()
        try:
            async with asyncio.timeout(PATIENCE):
                self.status = await self.session.run()
        except (BridgeError, Exception) as error:
            self.error = error
        finally:
            self.cpu = time.process_time() - began
            stopping.cancel()
            for _ in range(100):
                left = len(os.listdir("/proc/self/fd")) - before
                if left <= 0 and asyncio.all_tasks() <= tasks:
                    break
                await asyncio.sleep(0.01)
            self.left_descriptors, self.left_tasks = left, asyncio.all_tasks() - tasks
        return self

    async def _stop_when_done(self) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(BEAT)
            now = time.thread_time()
            self.stall, before = max(self.stall, now - before), now
            if self._done.exists() and self.session.state == "running":
                await asyncio.sleep(0.02)  # an end that is under way comes first
                if self.session.state == "running":
                    self.state = self.session.status()
                    self.went_on = True
                    self.session.stop("the worst is over")
                    return

    def faults(self) -> list[str]:
        """What was not as it should be."""
        kind, error, found = self.kind, self.error, []
        if self.went_on:
            if kind.ends and not kind.either:
                found.append("it went on")
            if error is not None or self.status:
                found.append(f"it was stopped and ended with {error!r}")
            (stopped,) = (event for event in self.told if isinstance(event, events.Stopped))
            if kind.stopped and not stopped.clean:
                found.append("the agent's honest `stopped` was not heard")
        elif not isinstance(error, BridgeError):
            found.append(f"it ended with {error!r}, {self.status}")
        else:
            if error.exit_code not in kind.ends:
                found.append(f"it ended with {error.exit_code}: {error}")
            found += [f"it does not say {part}" for part in ("what", "why", "todo") if not getattr(error, part).strip()]
        if self.left_descriptors > 0:
            found.append(f"{self.left_descriptors} descriptors are left open")
        if self.left_tasks:
            found.append(f"tasks are left: {self.left_tasks}")
        found += [line for line in self.target.said if line.startswith("hostile agent")]
        return found
