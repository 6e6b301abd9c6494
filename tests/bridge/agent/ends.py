"""Both ends of a link in one thread: the session's FramedLink, the agent's Stream on pipes, a fake TUN, and a wire
between them that breaks after any number of bytes."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from netbridge.bridge.agent.frames import VNET_LEN
from netbridge.bridge.agent.loop import Loop
from netbridge.bridge.agent.stream import Stream
from netbridge.bridge.link import FramedLink
from netbridge.bridge.transport.base import Buffer, Channel, ChannelUser


class Wire(Channel):
    """One connection. It carries `up` bytes to the session, or `down` to the agent; then both ends see its end."""

    def __init__(self, *, up: float = inf, down: float = inf, narrow: bool = False) -> None:
        """`narrow`: the agent's output takes a few KiB at once, so that batches wait in part."""
        self.user: ChannelUser | None = None
        self.up, self.down = up, down
        self.carried = [0, 0]
        """Bytes up and down so far."""
        self.agent_in, self._to_agent = os.pipe()
        if narrow:
            ours, theirs = socket.socketpair()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            self._from_agent, self.agent_out = ours.detach(), theirs.detach()
        else:
            self._from_agent, self.agent_out = os.pipe()
        self._waiting = bytearray()
        self.broken = False
        self.closed = False
        os.set_blocking(self._from_agent, False)

    def start(self, user: ChannelUser) -> None:
        self.user = user

    def write(self, buffers: Sequence[Buffer]) -> None:
        assert not self.closed, "written to a channel that is closed"
        for buffer in buffers:
            self._waiting += buffer

    @property
    def ready(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    async def wait_closed(self) -> int | None:
        return 0

    def pump(self) -> bool:
        """Carry what there is; whether anything was."""
        if self.broken:
            return False
        moved = False
        if self._waiting:
            down = self._waiting[: int(min(len(self._waiting), self.down - self.carried[1], 60_000))]
            del self._waiting[: len(down)]
            with contextlib.suppress(BrokenPipeError):  # the agent let go of it
                os.write(self._to_agent, down)
            self.carried[1] += len(down)
            moved = bool(down)
        part = b""
        with contextlib.suppress(BlockingIOError):
            part = os.read(self._from_agent, int(min(self.up - self.carried[0], 65536)))
        if part and self.user is not None:
            self.carried[0] += len(part)
            self.user.data_received(memoryview(part))
            self.user.burst_ended()
            moved = True
        if self.carried[0] >= self.up or self.carried[1] >= self.down:
            self.break_()
            moved = True
        return moved

    def break_(self, *, agent_notices: bool = True) -> None:
        """What is on the way is lost; the session hears of it now, the agent when it reads or writes."""
        self.broken = True
        self._waiting.clear()
        if agent_notices:
            self.give_up()
        if self.user is not None:
            self.user.channel_lost(None)

    def give_up(self) -> None:
        """Close the network's ends of the agent's pipes."""
        for descriptor in (self._to_agent, self._from_agent):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._to_agent = self._from_agent = -1


    def let_go(self) -> None:
        """Close all four ends, where the agent did not take its own."""
        self.give_up()
        for descriptor in (self.agent_in, self.agent_out):
            os.close(descriptor)


class Ends:
    """The two, and what each took. Packets are told apart by their number."""

    def __init__(self, wire: Wire) -> None:
        self.loop = Loop()
        self.tun, self._kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.tun.setblocking(False)
        self._kernel.setblocking(False)
        self.wires = [wire]
        self.received: list[bytes] = []
        """What came out of the session's link."""
        self.delivered: list[bytes] = []
        """What was written to the TUN."""
        self.errors: list[Exception | None] = []
        """How the link, or the agent's connection by a breach of the rules, ended."""
        self.cuts = 0
        self.lost = 0
        self._emitted: deque[bytes] = deque()
        self._later: deque[Callable[[], None]] = deque()
        self.link = FramedLink(
            wire, on_control=self._said, on_lost=self.errors.append, on_cut=self._cut, soon=self._later.append
        )
        self.link.start(self)
        self.link.lasting = True
        wire.start(self.link)
        self.stream = Stream(self.loop, wire.agent_in, wire.agent_out, lambda _: None, self._lost)
        self.stream.attach_tun(self.tun.fileno())

    def close(self) -> None:
        self.stream.detach_tun()
        self.stream.disconnect()
        self.loop.close()
        for wire in self.wires:
            wire.give_up()
        self.tun.close()
        self._kernel.close()

    # What happens to them.

    def _said(self, message: dict[str, Any]) -> None:
        if message["type"] == "resumed":
            self.link.resume(message["taken"])

    def _cut(self, _error: Exception | None) -> None:
        self.cuts += 1

    def _lost(self, error: Exception | None) -> None:
        self.lost += 1
        if error is not None and not isinstance(error, OSError):
            self.errors.append(error)

    def packet_received(self, packet: memoryview) -> None:
        self.received.append(bytes(packet))

    def burst_ended(self) -> None:
        pass

    def link_ready(self) -> None:
        pass

    def link_lost(self, error: Exception | None) -> None:
        pass

    # What a test does.

    def send(self, packet: bytes) -> None:
        """A packet of the session's stack."""
        self.link.send(packet[:VNET_LEN], packet[VNET_LEN:])

    def emit(self, packet: bytes) -> None:
        """A packet of the kernel over there."""
        self._emitted.append(packet)
        self._feed()

    def _feed(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._emitted:
                self._kernel.send(self._emitted[0])
                self._emitted.popleft()

    def settle(self) -> None:
        """Until nothing moves any more."""
        quiet = 0
        while quiet < 2:
            while self._later:
                self._later.popleft()()
            self._turn()
            self._feed()
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.delivered.append(self._kernel.recv(70_000))
            quiet = 0 if self.wires[-1].pump() else quiet + 1

    def _turn(self) -> None:
        """The agent serves what is ready now."""
        self.loop._running = True
        self.loop.call_later(0, self.loop.stop)
        self.loop.run()

    def resume(self, wire: Wire) -> None:
        """What holder and bootstrap do, without the meeting of two agents."""
        self.wires.append(wire)
        self.link.attach(wire)
        wire.start(self.link)
        self.stream.resume(wire.agent_in, wire.agent_out, self.link.taken, {"type": "resumed"})


def packet(side: str, number: int, size: int) -> bytes:
    """A packet of `size` bytes that is like no other."""
    return (f"{side}{number}.".encode() * size)[:size]
