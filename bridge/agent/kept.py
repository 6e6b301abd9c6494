"""PACKET frames that were written and not yet acknowledged, kept in the very buffers they were read into.

A link that breaks is resumed by sending again what the other end has not taken. Keeping a copy of each batch would
cost the agent one more pass over every byte; so packets are read from the TUN straight into the buffer in which they
stay until their ACK. Buffers are used again, the last one freed first: while the other end keeps up, all the work is
done in one or two that are still in the processor's cache.

A buffer holds whole frames one after the other and nothing else. It is freed as a whole, when its last frame was
acknowledged; what is kept is bounded by the window plus one buffer.
"""

from __future__ import annotations

from collections import deque
from typing import Deque, List, Tuple

from .frames import HEADER, HEADER_LEN, MAX_PACKET, FrameError

FILL = 512 * 1024
"""Bytes of frames in a buffer; it has room for one packet more."""
SPARE = 4
"""Free buffers held for the next packets; more are given back."""


class _Buffer:
    __slots__ = ("end", "used", "view")

    def __init__(self) -> None:
        self.view = memoryview(bytearray(FILL + HEADER_LEN + MAX_PACKET))
        self.used = 0
        self.end = 0
        """Payload bytes since the link began, up to this buffer's last frame."""


class Kept:
    """Frames in the order they were made. Totals are PACKET payload bytes since the link began, as in an ACK."""

    def __init__(self) -> None:
        self._buffers: Deque[_Buffer] = deque([_Buffer()])
        self._free: List[_Buffer] = []
        self._start = 0
        """Payload bytes before the first frame that is still here."""

    def room(self) -> Tuple[memoryview, int]:
        """Where the next frames are to be put: a buffer with room for one at least, and how far it is filled."""
        current = self._buffers[-1]
        if current.used >= FILL:
            fresh = self._free.pop() if self._free else _Buffer()
            fresh.used, fresh.end = 0, current.end
            self._buffers.append(fresh)
            current = fresh
        return current.view, current.used

    def add(self, used: int, payload: int) -> None:
        """Frames with `payload` bytes of packets were put there; it is now filled up to `used`."""
        current = self._buffers[-1]
        current.used = used
        current.end += payload

    def acknowledge(self, total: int) -> None:
        """Let go of buffers that the other end has taken whole."""
        buffers = self._buffers
        while buffers[0].end <= total:
            first = buffers[0]
            self._start = first.end
            if len(buffers) == 1:
                first.used = 0
                return
            buffers.popleft()
            if len(self._free) < SPARE:
                self._free.append(first)

    def after(self, total: int) -> List[memoryview]:
        """The frames from `total` on, as views of whole frames. FrameError where no frame begins there."""
        position = self._start
        pieces: List[memoryview] = []
        for buffer in self._buffers:
            at = 0
            while position < total and at < buffer.used:
                length = HEADER.unpack_from(buffer.view, at)[0] & 0xFFFFFF
                at += HEADER_LEN + length
                position += length
            if at < buffer.used:
                pieces.append(buffer.view[at : buffer.used])
        if position != total:
            raise FrameError("no packet begins after %d bytes" % total)
        return pieces
