"""Bytes on their way out by a non-blocking descriptor: written at once where it takes them, kept in order where it
does not.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from .base import Buffer

HIGH_WATER = 512 * 1024
"""Waiting bytes above which `ready` turns False: a few milliseconds of a fast link."""
LOW_WATER = 128 * 1024
MOST_WAITING = 64 << 20
"""Bytes that may wait before `write` refuses: a writer that does not look at `ready` must not eat the memory."""
VECTORS = min(1024, os.sysconf("SC_IOV_MAX"))


class Outgoing:
    """A queue in front of a descriptor, which it does not own."""

    def __init__(self, descriptor: int, *, on_ready: Callable[[], None], on_empty: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._queue: deque[Buffer] = deque()
        self._on_ready = on_ready
        """Called when `ready` is True again."""
        self._on_empty = on_empty
        """Called when everything that waited was written."""
        self.waiting = 0
        """Bytes that wait."""
        self.ready = True
        self.broken = False
        """Nobody will read any more; what is written is dropped."""

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Write the buffers in order; they must not change afterwards. Raises BufferError above MOST_WAITING."""
        if self.broken:
            return
        if self._queue:
            self._keep(buffers)
            return
        try:
            written = os.writev(self._descriptor, buffers if len(buffers) <= VECTORS else buffers[:VECTORS])
        except BlockingIOError:
            written = 0
        except OSError:
            self.abandon()
            return
        rest: list[Buffer] = []
        for buffer in buffers:
            length = len(buffer)
            if written >= length:
                written -= length
            else:
                rest.append(memoryview(buffer)[written:] if written else buffer)
                written = 0
        if rest:
            self._keep(rest)
            self._loop.add_writer(self._descriptor, self.flush)

    def flush(self) -> None:
        """Write what the descriptor takes of what waits."""
        queue = self._queue
        while queue:
            try:
                written = os.writev(self._descriptor, list(islice(queue, VECTORS)))
            except BlockingIOError:
                break
            except OSError:
                self.abandon()
                return
            self.waiting -= written
            while written:
                first = queue[0]
                if written < len(first):
                    queue[0] = memoryview(first)[written:]
                    break
                written -= len(first)
                queue.popleft()
        if not queue:
            self._loop.remove_writer(self._descriptor)
            self._on_empty()
        if not self.ready and self.waiting <= LOW_WATER:
            self.ready = True
            self._on_ready()

    def abandon(self) -> None:
        """EPIPE and its like, or the end: drop what waits, and what will come."""
        self.broken = True
        if self._queue:
            self._loop.remove_writer(self._descriptor)
            self._queue.clear()
            self.waiting = 0

    def _keep(self, buffers: Sequence[Buffer]) -> None:
        self.waiting += sum(map(len, buffers))
        if self.waiting > MOST_WAITING:
            raise BufferError("more was written to a channel that is not ready than it may keep")
        self._queue.extend(buffer for buffer in buffers if len(buffer))
        if self.waiting > HIGH_WATER:
            self.ready = False
