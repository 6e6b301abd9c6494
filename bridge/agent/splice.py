"""Two sockets that feed each other: what comes from one goes to the other, half-closes and resets included.

Each way holds what one `recv` gave and the other end did not take; until that has left nothing more is read, so a slow
reader slows the writer down and memory is bounded.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Callable, Optional

from .loop import READ, WRITE, Loop

CHUNK = 65536
ROUNDS = 4
"""Chunks moved one after the other before others get their turn."""
NO_LINGER = struct.pack("ii", 1, 0)
"""Closing resets (socket(7), SO_LINGER)."""


class _End:
    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.number = connection.fileno()
        self.peer = self
        self.out = memoryview(b"")
        """What has yet to leave by this socket."""
        self.eof = False
        """Nothing more comes from it."""
        self.shut = False
        """Nothing more goes to it."""
        self.deaf = False
        """Not watched, since all there is to hear is a hangup that was heard."""

    @property
    def wanted(self) -> int:
        reading = not self.eof and not self.peer.out and not self.peer.shut
        return (READ if reading else 0) | (WRITE if self.out else 0)


class Splice:
    """Owns two connected, non-blocking sockets and closes them. `over(splice)` is called once, unless `abort` was.

    Raises OSError, with both closed, where they cannot be watched.
    """

    def __init__(
        self, loop: Loop, one: socket.socket, other: socket.socket, over: Callable[[Splice], None]
    ) -> None:
        self._loop = loop
        self._over: Optional[Callable[[Splice], None]] = over
        left, right = _End(one), _End(other)
        left.peer, right.peer = right, left
        self._ends = (left, right)
        try:
            self._watch()
        except OSError:  # the kernel watches no more
            self.abort()
            raise

    def abort(self) -> None:
        """End both at once, by a reset where the protocol has one."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self._over = None
        self._close()

    def _close(self) -> None:
        for end in self._ends:
            self._loop.unwatch(end.number)
            end.socket.close()
        over, self._over = self._over, None
        if over is not None:
            over(self)

    def _watch(self) -> None:
        for end in self._ends:
            events = end.wanted
            if events or not end.deaf:
                end.deaf = False
                self._loop.watch(end.number, events, lambda events, end=end: self._ready(end, events))  # type: ignore[misc]

    def _ready(self, end: _End, events: int) -> None:
        try:
            if not end.wanted:
                self._hung_up(end)
            if end.out and events & ~READ:
                self._flush(end)
            if events & ~WRITE:
                for _ in range(ROUNDS):
                    if not end.wanted & READ or not self._move(end):
                        break
            if all(one.shut for one in self._ends):
                self._close()
            else:
                self._watch()
        except OSError:
            over = self._over
            self.abort()
            if over is not None:
                over(self)

    def _hung_up(self, end: _End) -> None:
        """Only an error or a hangup can be meant. A hangup stays, and would be told again and again."""
        number = end.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, "")
        self._loop.unwatch(end.number)
        end.deaf = True

    def _move(self, end: _End) -> bool:
        """Pass on one chunk; whether there may be more."""
        try:
            data = end.socket.recv(CHUNK)
        except BlockingIOError:
            return False
        if not data:
            end.eof = True
            self._end_of(end.peer)
            return False
        end.peer.out = memoryview(data)
        self._flush(end.peer)
        return len(data) == CHUNK

    def _flush(self, end: _End) -> None:
        with contextlib.suppress(BlockingIOError):
            end.out = end.out[end.socket.send(end.out) :]
        self._end_of(end)

    @staticmethod
    def _end_of(end: _End) -> None:
        """Close the sending side once everything has left."""
        if end.peer.eof and not end.out and not end.shut:
            end.shut = True
            end.socket.shutdown(socket.SHUT_WR)
