"""A link over any byte stream of asyncio's kind: TCP, TLS, a unix socket, a subprocess's pipes, an SSH channel.

What travels are the frames of :mod:`.carried`; `stream_link` puts a greeting (:mod:`.greeting`) before them.

A reliable stream below means that nothing is lost, so nothing must queue without bound: the transport's own write
buffer is the queue.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from ..packet import Buffer
from .carried import HIGH, LENGTH, LIMIT, LOW, CarriedLink, link_error
from .greeting import GREETING, TIMEOUT, Greeting, Role, exchange
from .offload import finish

READ = 1 << 18


class Reader(Protocol):
    """What is asked of a reader: asyncio.StreamReader and asyncssh.SSHReader[bytes] have it."""

    async def read(self, n: int = -1, /) -> bytes:
        """Up to n bytes as soon as there are any, b"" at the end."""


class Writer(Protocol):
    """What is asked of a writer: asyncio.StreamWriter and asyncssh.SSHWriter[bytes] have it.

    Besides, it has a `transport`, or as asyncssh's a `channel`, with get_write_buffer_size, set_write_buffer_limits and
    abort.
    """

    def write(self, data: bytes, /) -> None: ...
    def writelines(self, data: Any, /) -> None: ...
    async def drain(self) -> None: ...
    def close(self) -> None: ...
    async def wait_closed(self) -> None: ...


class StreamLink(CarriedLink):
    """One end of a stream on which the other speaks the same, set up alike in MTU and offload: without a greeting.

    `stream_link` is for everything but tests and streams whose ends one program made.
    """

    def __init__(
        self, reader: Reader, writer: Writer, *, mtu: int = 1500, offload: bool = True, rest: bytes = b"",
    ) -> None:  # fmt: skip
        """Takes over both; `writer` is closed with the link. `rest`: what was read from it already."""
        super().__init__(mtu=mtu, offload=offload, rest=rest)
        self._reader = reader
        self._writer = writer
        self._transport = transport_of(writer)
        self._transport.set_write_buffer_limits(HIGH, LOW)

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        waiting = self._transport.get_write_buffer_size()
        if self._closed or waiting > LIMIT:
            self.dropped += 1
            return
        try:
            if not self.offload and (header[0] or header[1]):
                for packet in finish(header, payload):
                    self._writer.write(LENGTH.pack(len(packet)) + packet)
            else:
                # joined now: the caller may use the header's buffer again, and some transports keep what they are given
                head = b"".join((LENGTH.pack(len(header) + len(payload)), header))
                if payload:
                    self._writer.writelines((head, payload))
                else:
                    self._writer.write(head)
        except OSError as error:  # an SSH channel that the other end has closed
            self.dropped += 1
            self._finish(link_error(error))
            return
        if waiting > HIGH and self._ready:
            self._ready = False
            self._spawn(self._drain())

    async def _drain(self) -> None:
        try:
            await self._writer.drain()
        except Exception as error:
            raise link_error(error)
        self._room()

    async def _receive(self) -> None:
        while data := await self._read():
            self._take(data)
            if self._closed:
                return
        raise self._ended()

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(READ)
        except Exception as error:
            raise link_error(error)

    async def _release(self) -> None:
        hang_up(self._reader, self._writer)
        await self._writer.wait_closed()

    def _abort(self) -> None:
        self._transport.abort()


async def stream_link(
    reader: Reader, writer: Writer, *, mtu: int = 1500, offload: bool = True, role: Role = Role.STACK,
    timeout: float = TIMEOUT,
) -> StreamLink:  # fmt: skip
    """A link over a pair of asyncio streams, or of asyncssh's (opened with encoding=None), once both ends have greeted.

    `mtu` is the largest IP packet this end takes, in bytes (576 to 65535), `offload` whether it takes super-segments;
    the link has what both ends can do. The pair is taken over, and closed on failure and cancellation. Raises LinkError
    when the other end speaks something else, or does not greet within `timeout` seconds.
    """
    ours = Greeting(mtu, offload, role)

    async def write(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    try:
        theirs, rest = await exchange(ours, lambda: reader.read(GREETING.size), write, timeout=timeout)
        link = StreamLink(
            reader, writer, mtu=min(mtu, theirs.mtu), offload=offload and theirs.offload, rest=rest
        )
    except BaseException:
        hang_up(reader, writer)
        raise
    link.peer = theirs
    return link


def hang_up(reader: Reader, writer: Writer) -> None:
    """Close both: a pipe's reader has a transport of its own, and no other way to it."""
    writer.close()
    source = getattr(reader, "_transport", None)
    if source is not None and source is not transport_of(writer):
        source.close()


def transport_of(writer: Any) -> Any:
    """What holds a writer's buffer."""
    transport = getattr(writer, "transport", None) or getattr(writer, "channel", None)
    if transport is None:
        raise TypeError(f"{type(writer).__name__} has neither a transport nor a channel: use call_link")
    return transport


async def stdio_link(
    *, mtu: int = 1500, offload: bool = True, role: Role = Role.STACK, timeout: float = TIMEOUT,
) -> StreamLink:  # fmt: skip
    """A link over this process's own standard input and output, for a program that another one runs by pipes.

    Everything else that the program prints has to go to standard error. Raises LinkError as `stream_link` does.
    """
    import os
    import sys

    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    # Copies of the descriptors, for transports close theirs; what anybody prints from now on goes to standard error.
    source, sink = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    sys.stdout.flush()
    os.dup2(2, 1)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
    # a protocol of streams, though nothing is read from it: it knows how to wait for the end
    unread = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    transport, protocol = await loop.connect_write_pipe(lambda: unread, sink)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    return await stream_link(reader, writer, mtu=mtu, offload=offload, role=role, timeout=timeout)

