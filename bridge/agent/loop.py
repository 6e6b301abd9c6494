"""The agent's event loop: one epoll, one heap of timers, and signals turned into a callback."""

from __future__ import annotations

import contextlib
import heapq
import select
import signal
import socket
import time
from typing import Callable, Dict, List, Optional, Sequence, Tuple

READ = select.EPOLLIN
WRITE = select.EPOLLOUT


class Timer:
    """One call to come; `cancel` makes it not come."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Optional[Callable[[], None]] = callback

    def cancel(self) -> None:
        """Forget the call."""
        self.callback = None


class Loop:
    """Level-triggered readiness and time. Callbacks run one after the other and may change anything."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: Dict[int, Tuple[int, Callable[[int], None]]] = {}
        self._timers: List[Tuple[float, int, Timer]] = []
        self._count = 0
        self._running = True
        self._wakeup: Optional[Tuple[socket.socket, socket.socket]] = None

    def watch(self, descriptor: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` when the descriptor is ready; `events` 0 keeps only errors and hangups watched.
        Raises OSError (ENOSPC, ENOMEM: the kernel watches no more); then nothing has changed.
        """
        known = self._watched.get(descriptor)
        if known is None:
            self._epoll.register(descriptor, events)
        elif known[0] != events:
            self._epoll.modify(descriptor, events)
        self._watched[descriptor] = (events, callback)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching; to be called before the descriptor is closed."""
        if self._watched.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call once after `delay` seconds."""
        timer = Timer(callback)
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic() + delay, self._count, timer))
        return timer

    def on_signals(self, numbers: Sequence[int], callback: Callable[[], None]) -> None:
        """Call `callback` from the loop when one of the signals arrives."""
        reading, writing = socket.socketpair()
        reading.setblocking(False)
        writing.setblocking(False)
        self._wakeup = (reading, writing)

        def arrived(_events: int) -> None:
            with contextlib.suppress(BlockingIOError):
                reading.recv(4096)
            callback()

        for number in numbers:
            signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(writing.fileno())
        self.watch(reading.fileno(), READ, arrived)

    def stop(self) -> None:
        """Let `run` return after the running callback."""
        self._running = False

    def run(self) -> None:
        """Serve until `stop`."""
        watched = self._watched
        while self._running:
            for descriptor, events in self._epoll.poll(self._next_timeout()):
                entry = watched.get(descriptor)
                if entry is not None:
                    entry[1](events)
                if not self._running:
                    return
            if self._timers:
                self._run_timers()

    def _next_timeout(self) -> float:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()

    def close(self) -> None:
        """Let go of the epoll; signals are ignored from here on, since nobody would hear them."""
        if self._wakeup is not None:
            signal.set_wakeup_fd(-1)
            for end in self._wakeup:
                end.close()
        self._epoll.close()
