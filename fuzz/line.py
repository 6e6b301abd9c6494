"""A channel that is a list, and the session's end of an agent on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netbridge.bridge.transport.base import Channel, ChannelUser
from netbridge.stack.packet import Buffer


class ListChannel(Channel):
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False
        self.user: Any = None
        self.room = True

    def start(self, user: ChannelUser) -> None:
        self.user = user

    def write(self, buffers: Sequence[Buffer]) -> None:
        assert not self.closed
        self.written.append(b"".join(buffers))

    @property
    def ready(self) -> bool:
        return self.room

    def close(self) -> None:
        self.closed = True

    async def wait_closed(self) -> int | None:
        return 0


class ListUser:
    """A stack that keeps what it gets."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.lost: list[Exception | None] = []
        self.went_on = 0

    def packet_received(self, packet: memoryview) -> None:
        self.packets.append(bytes(packet))

    def burst_ended(self) -> None: ...

    def link_ready(self) -> None:
        self.went_on += 1

    def link_lost(self, error: Exception | None) -> None:
        self.lost.append(error)
