"""The two ends of a connection in a simulation: what they send, how they read, and how they leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from netbridge.stack.tcp.flow import Flow


@dataclass(frozen=True)
class Habit:
    """How one end behaves."""

    size: int
    """Bytes it sends."""
    all_at_once: bool = False
    """It writes everything and lets the stack queue it, instead of what leaves at once."""
    first: bool = True
    """It sends at once, and not only when the other has said all."""
    pause: float = 0.0
    """Seconds it is silent for when it has sent the half."""
    picky: float = 0.0
    """Probability that it takes only a part of what it is offered, and the rest later."""
    nap: float = 0.0
    """Seconds it then takes no more for."""
    aborts_after: int | None = None
    """Bytes read after which it resets the connection."""


class End:
    """A `ConnectionUser` that writes down what it is told."""

    def __init__(self, habit: Habit, random: Random, look: Callable[[], None] = lambda: None) -> None:
        """`look` is called whenever data comes, to see whether what must always hold does."""
        self.habit = habit
        self._loop = asyncio.get_running_loop()
        self.sends = random.randbytes(habit.size)
        self.received = bytearray()
        self.calls: list[str] = []
        self.error: OSError | None = None
        self.over = False
        """Its connection is: it was told so, or has reset it."""
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.flow: Flow
        self._look = look
        self._random = random
        self._left = memoryview(self.sends)
        self._asleep = False
        self._told = False
        self._paused_at = habit.size // 2 if habit.pause else -1

    # -- ConnectionUser

    def connected(self) -> None:
        """Begin to send, unless the other speaks first."""
        self.calls.append("connected")
        if self.habit.first:
            self._loop.call_soon(self._feed)

    def data_received(self, data: memoryview) -> int:
        """Take it, or a part of it."""
        self._look()
        if self._asleep:
            return 0
        taken = len(data)
        if self.habit.picky and self._random.random() < self.habit.picky:
            taken = self._random.randrange(len(data) + 1)
            self._asleep = True
            self._loop.call_later(self._random.uniform(0, self.habit.nap), self._wake)
        self.received += data[:taken]
        limit = self.habit.aborts_after
        if limit is not None and len(self.received) >= limit:
            self._loop.call_soon(self.abort)
        return taken

    def eof_received(self) -> None:
        """The other has said all."""
        self.calls.append("eof")
        if not self.habit.first:
            self._loop.call_soon(self._feed)

    def acked(self) -> None:
        """There may be room."""
        if self.habit.first or "eof" in self.calls:
            self._feed()

    def probed(self, idle: float) -> None:
        """Nothing to do."""

    def closed(self, error: OSError | None) -> None:
        """The connection is over."""
        assert not self.over, "told twice"
        self.calls.append("closed")
        self.error = error
        self._end()

    # -- its own doing

    def abort(self) -> None:
        """Reset the connection, once."""
        if not self.over and self.flow.abort():
            self.calls.append("aborted")
            self._end()

    def _end(self) -> None:
        self.over = True
        self.ended.set_result(None)

    def _wake(self) -> None:
        self._asleep = False
        self.flow.drain()

    def _feed(self) -> None:
        if self.over or self._told:
            return
        while self._left and (room := self._room()) > 0:
            piece, self._left = self._left[:room], self._left[room:]
            self.flow.write(bytes(piece))
        if len(self._left) == self._paused_at:
            self._loop.call_later(self.habit.pause, self._go_on)
        elif not self._left:
            self._told = True
            self.flow.shutdown()

    def _go_on(self) -> None:
        self._paused_at = -1
        self._feed()

    def _room(self) -> int:
        left = len(self._left) - max(self._paused_at, 0)
        if self.habit.all_at_once:
            return left
        sender = self.flow.connection.sender
        if self.flow.queued:
            return 0
        room = self.flow.room
        if room <= 0 and not sender.flight:
            room = sender.mss  # a little must wait, for the stack to ask whether the window is open again
        return min(room, 65536, left)
