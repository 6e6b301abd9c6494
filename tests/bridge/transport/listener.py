"""What the tests put at the user's end of a channel."""

from __future__ import annotations

import asyncio
import hashlib
import os

from netbridge.bridge.transport.base import Channel
from netbridge.bridge.user import User, helper_user


class Listener:
    """A ChannelUser that keeps what it hears."""

    def __init__(self, channel: Channel | None = None, *, keep: bool = True) -> None:
        self.data = bytearray()
        self.count = 0
        self.digest = hashlib.sha256()
        self.bursts = 0
        self.ready_again = 0
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._keep = keep
        self._news = asyncio.Event()
        if channel is not None:
            channel.start(self)

    def data_received(self, data: memoryview) -> None:
        assert isinstance(data, memoryview)
        self.count += len(data)
        self.digest.update(data)
        if self._keep:
            self.data += data
        self._news.set()

    def burst_ended(self) -> None:
        self.bursts += 1

    def channel_ready(self) -> None:
        self.ready_again += 1
        self._news.set()

    def channel_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)  # a second call raises, as it should
        self._news.set()

    async def news(self) -> None:
        self._news.clear()
        async with asyncio.timeout(20):
            await self._news.wait()

    async def until(self, count: int) -> bytes:
        while self.count < count:
            assert not self.lost.done(), f"lost after {self.count} bytes: {self.lost.result()}"
            await self.news()
        return bytes(self.data)


async def echo(channel: Channel, size: int) -> None:
    """Send `size` bytes through a `cat` and compare what comes back."""
    listener = Listener(channel, keep=False)
    blocks = [os.urandom(n) for n in (65536, 1, 65535, 40000, 10)]
    sent = hashlib.sha256()
    written = number = 0
    while written < size:
        if not channel.ready:
            await listener.news()
            continue
        buffers = [blocks[(number + i) % 5] for i in range(number % 3 + 1)]
        channel.write(buffers)
        for buffer in buffers:
            sent.update(buffer)
            written += len(buffer)
        number += 1
        if number % 16 == 0:
            await asyncio.sleep(0)
    await listener.until(written)
    assert listener.count == written
    assert listener.digest.digest() == sent.digest()
    await asyncio.sleep(0.01)  # the end of a burst is told when all that came with it was taken apart
    assert listener.bursts


def me() -> User:
    return helper_user({key: value for key, value in os.environ.items() if not key.startswith("SUDO_")})


def running(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


async def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether the process ends within the time."""
    for _ in range(int(seconds / 0.02)):
        if not running(pid):
            return True
        await asyncio.sleep(0.02)
    return False
