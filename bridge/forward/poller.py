"""One readiness poller for all host sockets.

uvloop (0.23) stops watching a descriptor after its first POLLERR, so a UDP socket with ``IP_RECVERR`` would go deaf
after one ICMP error. The sockets therefore live in an epoll of their own, and the event loop watches only that
epoll's descriptor. That also makes readiness edge-triggered where asked: a TCP flow registers once and pays for no
further ``epoll_ctl`` when it pauses and resumes.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

IN = 0x001
OUT = 0x004
ERR = 0x008
HUP = 0x010
RDHUP = 0x2000
EDGE = 1 << 31

Callback = Callable[[int], None]

EVENTS_A_TURN = 128
"""Sockets served before the event loop gets its turn again: bounds the wait of timers and of the link."""


class Poller:
    """Watches descriptors and calls back with the epoll event mask."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._callbacks: dict[int, Callback] = {}
        self._epoll = select.epoll()
        loop.add_reader(self._epoll.fileno(), self._turn)

    def register(self, fd: int, callback: Callback, *, events: int = IN | OUT | RDHUP, edge: bool = True) -> None:
        """Watch `fd`; `callback(mask)` runs in the event loop. With `edge`, once for each change of readiness.

        Raises OSError (ENOSPC, ENOMEM: the kernel watches no more).
        """
        self._epoll.register(fd, events | EDGE if edge else events)
        self._callbacks[fd] = callback

    def unregister(self, fd: int) -> None:
        """Forget `fd`. To be called before it is closed."""
        if self._callbacks.pop(fd, None) is not None:
            with suppress(OSError):  # closed already: the kernel has forgotten it by itself
                self._epoll.unregister(fd)

    def __len__(self) -> int:
        return len(self._callbacks)

    def close(self) -> None:
        """Stop watching everything."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
        self._callbacks.clear()

    def _turn(self) -> None:
        callbacks = self._callbacks
        for fd, events in self._epoll.poll(0, EVENTS_A_TURN):
            # A callback earlier in this turn may have closed this descriptor.
            callback = callbacks.get(fd)
            if callback is None:
                continue
            try:
                callback(events)
            except Exception as error:  # the edges behind this one would never be told again
                message = f"the callback of descriptor {fd} failed"
                self._loop.call_exception_handler({"message": message, "exception": error})
