"""Every test ends balanced: what it made adds up and is over, and nothing of it is left.

At the end of each test, after its fixtures: every stack, exit and bridge that was made meanwhile adds up
(:mod:`.balance`), and holds nothing if it was closed; no asyncio task is pending when an event loop is closed; and the
process has the descriptors, children and threads that it had before. Fixtures of a module or a session are set up
before the first look and so are no business of any single test.

The production code keeps no list of what was made: that is noted here, in the makers' `__init__`.
"""

from __future__ import annotations

import asyncio
import asyncio.runners
import gc
import os
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import pytest
import uvloop

from tests import balance

PATIENCE = 10.0
"""Seconds for what ends by itself: transports at the loop's next turn, threads, children that were told to."""

_made: list[ref[Any]] = []
_pending: list[str] = []
_excused: list[str] = []
"""The test that runs, if it is marked as unbalanced: nothing of it is waited for."""


@dataclass
class Held:
    """What the process holds."""

    descriptors: set[str] = field(default_factory=lambda: set(os.listdir("/proc/self/fd")))
    children: set[int] = field(default_factory=lambda: _children())
    threads: set[threading.Thread] = field(default_factory=lambda: set(threading.enumerate()))


def _children() -> set[int]:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()  # the usual case, by one call of the kernel
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
                found.update(map(int, file.read().split()))
        except FileNotFoundError:
            continue
    return found


_kept = Held(set(), set(), set())
"""What belongs to no single test."""


def _note(kind: type) -> None:
    make = kind.__init__  # type: ignore[misc]

    def noted(self: Any, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        _made.append(ref(self))

    kind.__init__ = noted  # type: ignore[misc]


uvloop.new_event_loop().close()  # the first one opens a pipe for signals, which is kept for all that follow

for _kind in balance.WHOLE:
    _note(_kind)


def _watch(cancel: Callable[[asyncio.AbstractEventLoop], None]) -> Callable[[asyncio.AbstractEventLoop], None]:
    """Before a runner cancels what is pending, see what that is."""

    def cancelling(loop: asyncio.AbstractEventLoop) -> None:
        end = time.monotonic() + (0 if _excused else PATIENCE)
        while asyncio.all_tasks(loop) and time.monotonic() < end:
            loop.run_until_complete(asyncio.sleep(0.001))
        _pending.extend(map(repr, asyncio.all_tasks(loop)))
        cancel(loop)

    return cancelling


asyncio.runners._cancel_all_tasks = _watch(asyncio.runners._cancel_all_tasks)  # type: ignore[attr-defined]


def begin() -> Held:
    """Before a test."""
    now = Held()
    _kept.descriptors &= now.descriptors
    _kept.children &= now.children
    _made.clear()
    _pending.clear()
    return now


def end(before: Held) -> list[str]:
    """After it: what does not add up or is left, in sentences."""
    wrong = [f"pending when its loop was closed: {task}" for task in _pending]
    for one in _made:
        made = one()
        if made is not None:
            wrong += [f"{made!r}: {sentence}" for sentence in _judged(made)]
        del made
    return wrong + _left(before)


@contextmanager
def kept() -> Iterator[None]:
    """What is opened inside is no test's own: something that outlives the test holds it."""
    before = Held()
    try:
        yield
    finally:
        now = Held()
        _kept.descriptors |= now.descriptors - before.descriptors
        _kept.children |= now.children - before.children
        _kept.threads |= now.threads - before.threads


def _judged(made: Any) -> list[str]:
    return [sentence for kind, judge in balance.WHOLE.items() if isinstance(made, kind) for sentence in judge(made)]


def _left(before: Held) -> list[str]:
    """What is left of a test; only where something is, it is waited for."""
    deadline = time.monotonic() + PATIENCE
    found = _new(before)
    if found:
        gc.collect()  # what nobody has is closed by that, with a warning, which is an error
    while found and time.monotonic() < deadline:
        time.sleep(0.01)
        found = _new(before)
    return found


def _new(before: Held) -> list[str]:
    now = Held()
    found = []
    for number in now.descriptors - before.descriptors - _kept.descriptors:
        try:
            found.append(f"descriptor {number} is left open: {os.readlink(f'/proc/self/fd/{number}')}")
        except FileNotFoundError:
            continue  # that of the look itself
    for pid in now.children - before.children - _kept.children:
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                words = file.read().replace("\0", " ")
        except OSError:
            continue  # somebody has asked in the meantime
        if not words and _has_owner(pid):
            continue
        found.append(f"process {pid} is left: {words[:200] or 'ended, but nobody asked how'}")
    threads = now.threads - before.threads - _kept.threads
    return found + [f"thread {thread.name} still runs" for thread in threads if thread.is_alive()]


def _has_owner(pid: int) -> bool:
    """Whether a process that has ended is that of a Popen somebody holds, who only was not asked yet; he is now."""
    owners = [one for one in gc.get_objects() if type(one) is subprocess.Popen and one.pid == pid]
    return any(owner.poll() is not None for owner in owners)


_BEFORE = pytest.StashKey[tuple[Held, int]]()


@pytest.fixture(autouse=True)
def _balanced(request: pytest.FixtureRequest) -> None:
    request.node.stash[_BEFORE] = begin(), request.session.testsfailed
    _excused[:] = [request.node.nodeid] if request.node.get_closest_marker("unbalanced") else []


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """After every fixture of the test; not where it failed: what stopped half-way leaves something."""
    yield
    before, failed = item.stash.get(_BEFORE, (None, 0))
    if before is not None and item.session.testsfailed == failed and not _excused:
        wrong = end(before)
        if wrong:
            pytest.fail(f"{item.nodeid} ends unbalanced:\n" + "\n".join(wrong), pytrace=False)
