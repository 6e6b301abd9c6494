"""A channel to a local subprocess, for tests: the smallest thing that satisfies the Channel's contract."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections import deque
from collections.abc import Sequence
from typing import ClassVar

from netbridge.bridge.transport.base import Buffer, Channel, ChannelUser, Transport

READ_SIZE = 1 << 20
HIGH_WATER = 1 << 20


class PipeChannel(Channel):
    """stdin and stdout of a subprocess by two pipes, or by one unix socket with `unix=True`."""

    def __init__(self, argv: Sequence[str], *, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, start_new_session=True
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in = self.process.stdout.fileno()
        self._out = self.process.stdin.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._loop = asyncio.get_running_loop()
        self._user: ChannelUser | None = None
        self._waiting: deque[memoryview] = deque()
        self._size = 0
        self._closed = False
        self.errors = b""

    def start(self, user: ChannelUser) -> None:
        first = self._user is None
        self._user = user
        if first:
            self._loop.add_reader(self._in, self._readable)

    def write(self, buffers: Sequence[Buffer]) -> None:
        if self._closed:
            return
        if not self._waiting:
            try:
                count = os.writev(self._out, list(buffers))
            except BlockingIOError:
                count = 0
            except OSError:
                return
        else:
            count = 0
        for buffer in buffers:
            size = len(buffer)
            if count >= size:
                count -= size
                continue
            if not self._waiting:
                self._loop.add_writer(self._out, self._writable)
            self._waiting.append(memoryview(bytes(buffer))[count:])
            self._size += size - count
            count = 0

    def _writable(self) -> None:
        was_ready = self.ready
        while self._waiting:
            try:
                count = os.write(self._out, self._waiting[0])
            except BlockingIOError:
                break
            except OSError:
                self._waiting.clear()
                self._size = 0
                break
            self._size -= count
            if count == len(self._waiting[0]):
                self._waiting.popleft()
            else:
                self._waiting[0] = self._waiting[0][count:]
        if not self._waiting:
            self._loop.remove_writer(self._out)
        if self.ready and not was_ready and self._user is not None:
            self._user.channel_ready()

    @property
    def ready(self) -> bool:
        return self._size < HIGH_WATER

    def _readable(self) -> None:
        assert self._user is not None
        for _ in range(4):
            try:
                count = os.readv(self._in, [self._buffer])
            except BlockingIOError:
                break
            except OSError as error:
                self._lost(error)
                return
            if not count:
                self._lost(None)
                return
            self._user.data_received(self._buffer[:count])
            if self._closed:
                return
            if count < READ_SIZE:
                break
        self._user.burst_ended()

    def _lost(self, error: Exception | None) -> None:
        self.close()
        assert self._user is not None
        self._user.channel_lost(error)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._in)
        self._loop.remove_writer(self._out)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()

    async def dispose(self) -> None:
        """End the process whatever it does, and leave nothing open."""
        self.close()
        self.process.kill()
        await self.wait_closed()
        if self.process.stderr is not None:
            self.process.stderr.close()

    async def wait_closed(self) -> int | None:
        status = await asyncio.to_thread(self.process.wait)
        self._read_errors()
        return status

    def _read_errors(self) -> None:
        stream = self.process.stderr
        if stream is not None and not stream.closed:
            os.set_blocking(stream.fileno(), False)
            with contextlib.suppress(BlockingIOError):
                self.errors += os.read(stream.fileno(), 65536)

    def diagnostics(self) -> str:
        self._read_errors()
        return self.errors.decode("utf-8", "replace")


class LocalTransport(Transport):
    """Runs commands by a shell of this machine, after `prefix` (such as ``unshare -mn``)."""

    opened: ClassVar[list[PipeChannel]] = []
    """All channels of the running test."""

    def __init__(self, prefix: Sequence[str] = (), shell: str = "sh", env: dict[str, str] | None = None) -> None:
        self.prefix = list(prefix)
        self.shell = shell
        self.env = env
        self.channels: list[PipeChannel] = []

    async def connect(self) -> None:
        pass

    async def open(self, command: str) -> PipeChannel:
        channel = PipeChannel([*self.prefix, self.shell, "-c", command], env=self.env)
        self.channels.append(channel)
        self.opened.append(channel)
        return channel

    async def run(self, argv: Sequence[str]) -> int:
        raise NotImplementedError

    async def close(self) -> None:
        for channel in self.channels:
            channel.close()
