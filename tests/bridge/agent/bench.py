"""A framed link between a channel that keeps what is written and a stack that keeps what is delivered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from netbridge.bridge.agent.frames import PACKET, Decoder, frame_header
from netbridge.bridge.link import FramedLink
from netbridge.bridge.transport.base import Buffer, Channel, ChannelUser


class FakeChannel(Channel):
    """Keeps what is written."""

    def __init__(self) -> None:
        self.user: ChannelUser | None = None
        self.written: list[Sequence[Buffer]] = []
        self.room = True
        self.closed = 0

    def start(self, user: ChannelUser) -> None:
        self.user = user

    def write(self, buffers: Sequence[Buffer]) -> None:
        self.written.append(buffers)

    @property
    def ready(self) -> bool:
        return self.room

    def close(self) -> None:
        self.closed += 1

    async def wait_closed(self) -> int | None:
        return 0

    def frames(self) -> list[tuple[int, bytes]]:
        data = b"".join(bytes(buffer) for buffers in self.written for buffer in buffers)
        self.written.clear()
        return [(kind, bytes(payload)) for kind, payload in Decoder().feed(memoryview(data))]


class FakeStack:
    """Keeps what is delivered."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.views: list[Any] = []
        self.bursts = 0
        self.readies = 0
        self.lost: list[Exception | None] = []

    def packet_received(self, packet: memoryview) -> None:
        self.packets.append(bytes(packet))
        self.views.append(packet.obj)

    def burst_ended(self) -> None:
        self.bursts += 1

    def link_ready(self) -> None:
        self.readies += 1

    def link_lost(self, error: Exception | None) -> None:
        self.lost.append(error)


class Bench:
    """A link between the two."""

    turn_lasts = False
    """Whether what is to happen at the end of the event loop's turn waits in `later`."""

    def __init__(self, *, started: bool = True) -> None:
        self.channel = FakeChannel()
        self.stack = FakeStack()
        self.messages: list[dict[str, Any]] = []
        self.lost: list[Exception | None] = []
        self.cuts: list[Exception | None] = []
        self.later: list[Callable[[], None]] = []
        self.link = FramedLink(
            self.channel, on_control=self.messages.append, on_lost=self.lost.append, soon=self.soon,
            on_cut=self.cuts.append,
        )
        self.channel.start(self.link)
        if started:
            self.link.start(self.stack)

    def soon(self, callback: Callable[[], None]) -> None:
        """The event loop's turn ends at once, unless the test lets it last."""
        if self.turn_lasts:
            self.later.append(callback)
        else:
            callback()

    def receive(self, *frames: bytes) -> None:
        self.link.data_received(memoryview(bytearray(b"".join(frames))))
        self.link.burst_ended()


def packet(payload: bytes) -> bytes:
    return frame_header(PACKET, len(payload)) + payload
