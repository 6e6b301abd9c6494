"""Work in a thread that nobody has to wait for."""

from __future__ import annotations

import threading

import pytest

from netbridge.bridge.aside import aside
from tests.faults.seam import Fault, Seam


async def test_what_it_gives_and_what_it_raises() -> None:
    assert await aside(lambda: 7, 10) == 7
    with pytest.raises(ZeroDivisionError):
        await aside(lambda: 1 // 0, 10)


async def test_what_never_ends_is_left_behind() -> None:
    """It is no thread that the program's end waits for, and its late word is heard by nobody."""
    go_on = threading.Event()
    threads: list[threading.Thread] = []

    def hangs() -> None:
        threads.append(threading.current_thread())
        go_on.wait(60)

    with pytest.raises(TimeoutError):
        await aside(hangs, 0.05)
    assert threads[0].daemon
    go_on.set()
    threads[0].join(10)


async def test_no_thread_for_it() -> None:
    with Seam() as seam:
        seam.arm(Fault("bridge.aside:aside:thread", "EAGAIN"))
        with pytest.raises(OSError, match="can't start new thread"):
            await aside(lambda: 7, 10)
        assert seam.hits == 1
