"""Links over two awaitable functions, for whatever carries bytes or messages and has no link of its own here.

`call_link` wants a reliable carrier that keeps the order, of bytes or of messages, and puts frames (:mod:`.carried`)
on it, as many in one write as are waiting. `message_link` puts one IP packet in each message and asks for nothing:
messages may be lost, doubled and overtaken, as IP packets may.

Both keep what waits to be written in a queue with a bound, and write once at a time: the carrier sets the pace.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace

from ..packet import Buffer
from ..vnet import NO_OFFLOAD, VNET_LEN
from .base import LinkError
from .carried import FLUSH, HIGH, LENGTH, LIMIT, LOW, CarriedLink, link_error
from .greeting import MAGIC, TIMEOUT, Greeting, Read, Role, Write, broken, exchange, parse, silence
from .offload import finish

Receive = Callable[[], Awaitable[bytes | None]]
Close = Callable[[], object]
"""Gives the carrier back; may be a coroutine function."""

BATCH = 1 << 18
"""Bytes in one write: some super-segments, and a quarter of what websockets takes as one message by default."""
AGAIN = 0.25
"""Seconds after which a greeting that had no answer is said again, where messages may be lost."""


class _QueuedLink(CarriedLink):
    """Writes from a queue of its own."""

    def __init__(
        self, read: Receive, write: Write, close: Close | None, *, mtu: int, offload: bool, rest: bytes = b"",
    ) -> None:  # fmt: skip
        super().__init__(mtu=mtu, offload=offload, rest=rest)
        self._read = read
        self._write = write
        self._close = close
        self._queue: deque[tuple[bytes, Buffer]] = deque()
        self._queued = 0
        """Bytes in the queue and in the write under way."""
        self._more = asyncio.Event()

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        if self._closed or self._queued > LIMIT:
            self.dropped += 1
        elif not self.offload and (header[0] or header[1]):
            for packet in finish(header, payload):
                self._put(packet, b"")
        else:
            self._put(header, payload)

    def _put(self, header: Buffer, payload: Buffer) -> None:
        head = self._head(header, len(payload))
        self._queue.append((head, payload))
        self._wake(len(head) + len(payload))

    def _wake(self, size: int) -> None:
        """So many bytes more are in the queue."""
        self._queued += size
        if self._queued > HIGH:
            self._ready = False
        if self._writing is None:
            self._writing = self._spawn(self._write_all())
        self._more.set()

    @abc.abstractmethod
    def _head(self, header: Buffer, rest: int) -> bytes:
        """What a packet's first part becomes on the carrier; `rest` bytes follow. A copy: the caller keeps `header`."""

    @abc.abstractmethod
    def _batch(self) -> bytes:
        """What the next write takes from the queue."""

    async def _next(self) -> bytes | None:
        try:
            return await self._read()
        except EOFError:
            return None
        except Exception as error:
            raise link_error(error)

    async def _write_all(self) -> None:
        while True:
            while self._queue:
                data = self._batch()
                try:
                    await self._write(data)
                except Exception as error:
                    raise link_error(error)
                self._queued -= len(data)
                if not self._ready and self._queued < LOW:
                    self._room()
            if self._closed:
                return
            self._more.clear()
            await self._more.wait()

    def _finish(self, error: LinkError | None) -> None:
        super()._finish(error)
        self._more.set()

    async def _release(self) -> None:
        await _call(self._close)


class CallLink(_QueuedLink):
    """Frames by `read` and `write`."""

    def _head(self, header: Buffer, rest: int) -> bytes:
        return b"".join((LENGTH.pack(len(header) + rest), header))

    def _batch(self) -> bytes:
        parts: list[Buffer] = []
        size = 0
        queue = self._queue
        while queue and size < BATCH:
            head, payload = queue.popleft()
            size += len(head) + len(payload)
            parts += (head, payload)
        return b"".join(parts)

    async def _receive(self) -> None:
        while data := await self._next():
            self._take(data)
            if self._closed:
                return
        raise self._ended()


class MessageLink(_QueuedLink):
    """One packet a message by `read` and `write`: with `offload` behind its virtio_net_hdr, else the IP packet."""

    answer = b""
    """Our greeting with HEARD, for a peer that asks again."""

    def _head(self, header: Buffer, rest: int) -> bytes:
        return bytes(header) if self.offload else bytes(memoryview(header)[VNET_LEN:])

    def _batch(self) -> bytes:
        return b"".join(self._queue.popleft())

    async def _receive(self) -> None:
        while not self._closed:
            message = await self._next()
            if message is None:
                raise self._ended()
            if message[: len(MAGIC)] == MAGIC:
                self._greeted_again(message)
            elif message:
                user = self._user
                assert user is not None
                user.packet_received(memoryview(message if self.offload else NO_OFFLOAD + message))
                user.burst_ended()

    def _greeted_again(self, message: bytes) -> None:
        """The other end has not heard our answer, which was lost; or its greeting was doubled on the way."""
        with contextlib.suppress(LinkError):
            theirs = parse(message)
            if theirs is not None and not theirs.heard and self._queued < LIMIT:
                self._queue.append((self.answer, b""))
                self._wake(len(self.answer))


async def call_link(
    read: Read, write: Write, close: Close | None = None, *, mtu: int = 1500, offload: bool = True,
    role: Role = Role.STACK, timeout: float = TIMEOUT,
) -> CallLink:  # fmt: skip
    """A link over two functions, once both ends have greeted.

    `await read()` gives some bytes, or a whole message, as soon as there are any, and b"" (or EOFError) at the end.
    `await write(data)` takes all of it and returns when more may come; nothing may get lost or overtaken. One call of
    each is under way at a time, and may be cancelled at the end. `close()`, awaitable or not, is called once, after
    what was sent is written. `mtu`, `offload` and `role` as in `stream_link`. Raises LinkError when the other end
    speaks something else, or does not greet within `timeout` seconds.
    """
    ours = Greeting(mtu, offload, role)
    try:
        theirs, rest = await exchange(ours, read, write, timeout=timeout)
    except BaseException:
        await give_back(close)
        raise
    both = offload and theirs.offload
    link = CallLink(read, write, close, mtu=min(mtu, theirs.mtu), offload=both, rest=rest)
    link.peer = theirs
    return link


async def message_link(
    receive: Receive, send: Write, close: Close | None = None, *, mtu: int = 1500, offload: bool = False,
    role: Role = Role.STACK, timeout: float = TIMEOUT,
) -> MessageLink:  # fmt: skip
    """A link over two functions that carry whole messages, one IP packet each; messages may get lost or overtaken.

    `await receive()` gives the next message, and None (or EOFError) at the end; `await send(message)` takes one. A
    message has at most `mtu` bytes; with `offload`, which both ends have to want, up to 64 KiB and 10 bytes. Everything
    else is as in `call_link`.
    """
    ours = Greeting(mtu, offload, role)
    limit = asyncio.timeout(timeout)
    heard = asyncio.Event()
    asking = asyncio.ensure_future(_say_until(heard, send, ours.emit()))
    try:
        async with limit:
            theirs = await _hear_message(receive)
            ours.check(theirs)
            heard.set()
            await asking  # to its end: a message cut short would be no message
            await send(answer := replace(ours, heard=True).emit())
    except BaseException as error:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await give_back(close)
        if isinstance(error, TimeoutError) and limit.expired():
            raise silence(timeout) from None
        if isinstance(error, Exception) and not isinstance(error, LinkError):
            raise broken(error)
        raise
    both = offload and theirs.offload
    link = MessageLink(receive, send, close, mtu=min(mtu, theirs.mtu), offload=both)
    link.peer = theirs
    link.answer = answer
    return link


async def _say_until(heard: asyncio.Event, send: Write, greeting: bytes) -> None:
    """Greet again and again: the first words may be lost, or come before anybody listens."""
    while not heard.is_set():
        await send(greeting)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AGAIN):
                await heard.wait()


async def _hear_message(receive: Receive) -> Greeting:
    while True:
        message = await receive()
        if message is None:
            raise LinkError("the other end closed the connection before it greeted")
        if message[: len(MAGIC)] != MAGIC and (not message or _may_be_packet(message)):
            continue  # a peer that has greeted, whose greeting was lost or overtaken, sends packets already
        theirs = parse(message)
        if theirs is None:
            raise LinkError(f"the other end's greeting is cut short, to {len(message)} bytes")
        return theirs


def _may_be_packet(message: bytes) -> bool:
    """Whether it is as long as its IP header says, in front of which a virtio_net_hdr may stand."""
    for data in (message, message[VNET_LEN:]):
        if len(data) >= 20 and data[0] >> 4 == 4 and len(data) == int.from_bytes(data[2:4], "big"):
            return True
        if len(data) >= 40 and data[0] >> 4 == 6:  # a super-segment's length may not fit its field
            return len(data) - 40 & 0xFFFF == int.from_bytes(data[4:6], "big")
    return False


async def give_back(close: Close | None) -> None:
    """Close a carrier of which no link became, within reason."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(FLUSH):
            await _call(close)


async def _call(close: Close | None) -> None:
    result = None if close is None else close()
    if isinstance(result, Awaitable):
        await result
