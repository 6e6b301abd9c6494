"""What links over somebody's bytes have in common: frames, loops that end with the link, an end that is told once.

A frame is the packet's length (4 bytes, big-endian) and the packet, virtio_net_hdr and all. A length that no packet can
have ends the link: after it nothing on the stream can be trusted.

Nothing queues without bound: above HIGH bytes waiting `ready` is False, below LOW `link_ready` follows, above LIMIT
packets are dropped and counted, as IP allows.
"""

from __future__ import annotations

import abc
import asyncio
import struct
from collections.abc import Coroutine
from typing import Any

from ..vnet import VNET_LEN
from .base import Link, LinkError, LinkUser
from .greeting import Greeting

LENGTH = struct.Struct("!I")
MIN_LEN = VNET_LEN + 20
MAX_LEN = VNET_LEN + 40 + 65535
HIGH = 1 << 20
"""A tenth of a second at 100 Mbit/s: enough to keep any carrier busy while the stack is asked for more."""
LOW = HIGH // 4
LIMIT = 4 * HIGH
"""What acknowledgements and errors, which do not wait for `ready`, may add."""
FLUSH = 2.0
"""Seconds a carrier has to take what was sent before `close` (the last resets and answers), and as many to end."""


class CarriedLink(Link):
    """A link whose carrier somebody else made; it is taken over, and closed with the link."""

    peer: Greeting | None = None
    """What the other end said of itself; None without a greeting."""

    def __init__(self, *, mtu: int, offload: bool, rest: bytes = b"") -> None:
        """`rest`: what was read already."""
        self.mtu = mtu
        self.offload = offload
        self.dropped = 0
        """Packets not sent because far too much was waiting already, or the link was gone."""
        self._pending = rest
        self._user: LinkUser | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing: asyncio.Task[None] | None = None
        """The loop that writes, where the carrier keeps no queue; ends by itself once the link is closed, all out."""
        self._ready = True
        self._closed = False
        self._error: LinkError | None = None
        self._released = asyncio.Event()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "ready" if self._ready else "full"
        return f"<{type(self).__name__} mtu {self.mtu}{' offload' if self.offload else ''} {state}>"

    def start(self, user: LinkUser) -> None:
        first, self._user = self._user is None, user
        if self._closed:
            if first:
                asyncio.get_running_loop().call_soon(user.link_lost, self._error)
        elif first:
            self._spawn(self._run())

    @property
    def ready(self) -> bool:
        return self._ready

    def close(self) -> None:
        self._finish(None)

    async def wait_closed(self) -> None:
        """Return when the link has ended, by whomever, and its carrier was given back."""
        await self._released.wait()

    @abc.abstractmethod
    async def _receive(self) -> None:
        """Deliver what comes until nothing more can; raises LinkError with the reason."""

    @abc.abstractmethod
    async def _release(self) -> None:
        """Give the carrier back. Cancelled after `FLUSH` seconds."""

    def _abort(self) -> None:
        """Give the carrier back at once: it did not end in time."""

    async def _run(self) -> None:
        if self._pending:
            rest, self._pending = self._pending, b""
            self._take(rest)
        if not self._closed:
            await self._receive()

    def _take(self, data: bytes) -> None:
        """Deliver the whole frames in what came so far. Raises LinkError."""
        user = self._user
        assert user is not None
        if self._pending:
            data = self._pending + data
        view = memoryview(data)
        size, at = len(data), 0
        while size - at >= 4:
            (length,) = LENGTH.unpack_from(data, at)
            if not MIN_LEN <= length <= MAX_LEN:
                raise LinkError(f"the other end announced a packet of {length} bytes")
            end = at + 4 + length
            if end > size:
                break
            user.packet_received(view[at + 4 : end])
            if self._closed:
                return
            at = end
        self._pending = data[at:]
        user.burst_ended()

    def _ended(self) -> LinkError:
        """What an orderly end of the carrier means."""
        return LinkError("the stream ended inside a packet" if self._pending else "the other end closed the link")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run one of this link's loops; all end with the link, and an error of one is the link's."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if isinstance(error, LinkError):
            self._finish(error)
        else:  # a defect, of the link's user as a rule: told, never swallowed
            self._finish(LinkError(f"the link broke on {error!r}"))
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{self!r} broke", "exception": error, "task": task}
            )

    def _room(self) -> None:
        """The carrier has room again."""
        if not self._ready and not self._closed:
            self._ready = True
            if self._user is not None:
                self._user.link_ready()

    def _finish(self, error: LinkError | None) -> None:
        if self._closed:
            return
        self._closed = True
        self._error = error
        self._spawn(self._leave())
        if self._user is not None:
            asyncio.get_running_loop().call_soon(self._user.link_lost, error)

    async def _leave(self) -> None:
        """Let what was sent before `close` out, end the loops, give the carrier back."""
        current = asyncio.current_task()
        for task in self._tasks - {current, self._writing}:
            task.cancel()
        try:
            if self._writing is not None:
                if self._error is None:
                    await asyncio.wait([self._writing], timeout=FLUSH)
                self._writing.cancel()
                await asyncio.wait([self._writing], timeout=FLUSH)
            async with asyncio.timeout(FLUSH):
                await self._release()
        except Exception:  # it did not end in time, or is broken, which the user has heard already
            self._abort()
        finally:
            self._released.set()


def link_error(error: Exception) -> LinkError:
    """What a carrier raised, whatever its library calls it, as the link's own error."""
    if isinstance(error, LinkError):
        return error
    if isinstance(error, OSError) and error.errno and error.strerror:
        made = LinkError(error.errno, error.strerror)
    else:
        name = type(error).__name__
        made = LinkError(f"{name}: {error}" if str(error) else name)
    made.__cause__ = error
    return made
