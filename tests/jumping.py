"""An event loop whose time jumps to the next timer when nothing else is to be done: an hour takes a millisecond."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

STEP = 1e-6
"""Seconds a turn takes: time that stands still between two turns would be none."""


class JumpingLoop(asyncio.SelectorEventLoop):
    """Its `time` begins at 1000 and is nobody else's."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1000.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None) -> Any:
            ready = select(0)
            self._now += STEP
            if not ready and timeout:
                self._now += timeout
            return ready

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._now


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test of nothing but timers on such a loop."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(test())
