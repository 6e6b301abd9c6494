"""A link over any byte stream (a TCP connection, a unix socket, a pipe, an SSH channel): length and packet, repeated.

Each packet (virtio_net_hdr and all) is preceded by its length, 4 bytes, big-endian. Both ends must be set up alike in
MTU and offload; nothing is negotiated. A length that no packet can have ends the link: after it nothing on the stream
can be trusted.

TCP below means that nothing is lost, so nothing must queue without bound: above HIGH bytes in the transport's write
buffer `ready` is False, above LIMIT packets are dropped and counted.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Coroutine
from typing import Any

from ..packet import Buffer
from ..vnet import VNET_LEN
from .base import Link, LinkError, LinkUser
from .offload import finish

LENGTH = struct.Struct("!I")
MIN_LEN = VNET_LEN + 20
MAX_LEN = VNET_LEN + 40 + 65535
READ = 1 << 18
HIGH = 1 << 20
LOW = HIGH // 4
LIMIT = 4 * HIGH


class StreamLink(Link):
    """One end of a stream that the other end speaks the same way on."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, mtu: int = 1500, offload: bool = True,
    ) -> None:
        """Takes over both; `writer` is closed with the link."""
        self.mtu = mtu
        self.offload = offload
        self.dropped = 0
        """Packets not sent because far too much was waiting already."""
        self._reader = reader
        self._writer = writer
        self._user: LinkUser | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = True
        self._closed = False
        writer.transport.set_write_buffer_limits(HIGH, LOW)

    def start(self, user: LinkUser) -> None:
        first, self._user = self._user is None, user
        if first:
            self._spawn(self._read())

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        waiting = self._writer.transport.get_write_buffer_size()
        if self._closed or waiting > LIMIT:
            self.dropped += 1
            return
        if not self.offload and (header[0] or header[1]):
            for packet in finish(header, payload):
                self._writer.writelines((LENGTH.pack(len(packet)), packet))
        else:
            self._writer.writelines((LENGTH.pack(len(header) + len(payload)), header, payload))
        if waiting > HIGH and self._ready:
            self._ready = False
            self._spawn(self._drain())

    @property
    def ready(self) -> bool:
        return self._ready

    def close(self) -> None:
        self._finish(None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run one of this link's two loops; both end with the link."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        try:
            await self._writer.drain()
        except OSError as error:
            self._finish(LinkError(error.errno, error.strerror))
            return
        self._ready = True
        if self._user is not None:
            self._user.link_ready()

    async def _read(self) -> None:
        pending = b""
        try:
            while data := await self._reader.read(READ):
                user = self._user
                assert user is not None
                pending = self._deliver(user, pending + data if pending else data)
                user.burst_ended()
            error = None if not pending else LinkError("the stream ended inside a packet")
            self._finish(error or LinkError("the other end closed the stream"))
        except LinkError as error:
            self._finish(error)
        except OSError as error:
            self._finish(LinkError(error.errno, error.strerror))

    def _deliver(self, user: LinkUser, data: bytes) -> bytes:
        """Hand over the whole packets at the start of `data`; the rest."""
        view = memoryview(data)
        at = 0
        while len(data) - at >= LENGTH.size:
            (length,) = LENGTH.unpack_from(data, at)
            if not MIN_LEN <= length <= MAX_LEN:
                raise LinkError(f"the other end announced a packet of {length} bytes")
            end = at + LENGTH.size + length
            if end > len(data):
                break
            user.packet_received(view[at + LENGTH.size : end])
            if self._closed:
                return b""
            at = end
        return data[at:]

    def _finish(self, error: LinkError | None) -> None:
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        loop = asyncio.get_running_loop()
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        if self._user is not None:
            loop.call_soon(self._user.link_lost, error)
