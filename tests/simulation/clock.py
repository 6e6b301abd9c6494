"""An event loop whose time passes only when nothing else is to be done."""

from __future__ import annotations

import asyncio
import selectors


class StuckError(Exception):
    """Somebody waits, and nothing is left that could happen; or it takes longer than it may."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits: it moves its time on to the next timer. There is no I/O."""

    def __init__(self, limit: float) -> None:
        """`limit`: seconds of its own time after which it gives up."""
        self.now = 0.0
        self.limit = limit
        self._idle: asyncio.Future[None] | None = None
        super().__init__(_Jump(self))

    def time(self) -> float:
        """Seconds since it was made."""
        return self.now

    async def idle(self) -> None:
        """Wait until nothing is left to happen: no timer runs, nobody is to be called."""
        self._idle = self.create_future()
        await self._idle

    def jump(self, seconds: float | None) -> None:
        """Nothing is to be done for so many seconds; None: for ever."""
        if seconds is None:
            if self._idle is None or self._idle.done():
                raise StuckError("nothing is left to happen")
            self._idle.set_result(None)
        else:
            self.now += seconds
            if self.now > self.limit:
                raise StuckError(f"not over after {self.limit:g} s")


class _Jump(selectors.SelectSelector):
    """Instead of waiting."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._loop.jump(timeout)
        return []
