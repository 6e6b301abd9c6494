"""How much an agent may say beside packets: a bound on CONTROL, PING and idle ACK frames by time.

Packets have the window. What is outside of it costs the event loop as well (a CONTROL message of a megabyte tens of
milliseconds, a million PINGs a second), and no honest agent says much: answers to questions, its networks when they
changed, a PING now and then, and an ACK only when there is news in it.
"""

from __future__ import annotations

from .agent.frames import FrameError

EACH = 256
"""Bytes that a frame counts beside its own: what a small one costs."""
RATE = 1 << 20
"""Bytes a second: the networks of a target with thousands of them, five times a second."""
BURST = 4 << 20
"""Bytes at once: 16,000 small messages, or four of the largest."""


class SmallTalk:
    """The account of one link."""

    __slots__ = ("_left", "_seen")

    def __init__(self) -> None:
        self._left = float(BURST)
        self._seen = 0.0

    def said(self, length: int, now: float) -> None:
        """A frame of `length` bytes came at `now` (seconds, monotonic). FrameError when it is one too many."""
        left = min(BURST, self._left + (now - self._seen) * RATE) - EACH - length
        if left < 0:
            raise FrameError("it says more beside packets than any agent does")
        self._left, self._seen = left, now
