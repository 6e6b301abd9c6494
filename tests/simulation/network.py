"""Two stacks and the path between them, which harms what passes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from netbridge.stack.link.base import Link
from netbridge.stack.link.fault import FaultLink, Faults
from netbridge.stack.link.memory import memory_link
from netbridge.stack.link.tracer import TracerLink
from netbridge.stack.stack import Stack
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.flow import Flow
from netbridge.stack.tcp.isn import IsnGenerator
from netbridge.stack.tcp.seq import MASK
from netbridge.stack.tcp.user import ConnectionUser
from tests.stack.fake import packed

from .clock import VirtualLoop
from .narrower import Narrower

LEFT = {4: "10.0.0.1", 6: "fd00::1"}
RIGHT = {4: "10.0.0.2", 6: "fd00::2"}
PORT = 80


class BeforeTheWrap(IsnGenerator):
    """Numbers of connections begin so that they wrap in the midst of them, and timestamps in their first seconds."""

    def __init__(self, random: Random) -> None:
        super().__init__(random.randbytes(16))
        self._random = random

    def initial(self, key: bytes, now: float) -> int:
        return MASK - self._random.randrange(50_000)

    def stamp_offset(self, key: bytes) -> int:
        return MASK - key[-1] * 4  # the same for the same connection, whoever asks


class Network:
    """`left` connects to `right`. Use as a context inside a `VirtualLoop`."""

    def __init__(
        self, loop: VirtualLoop, seed: int, *, left: TcpConfig, right: TcpConfig, up: Faults, down: Faults,
        mtu: int = 1500, offload: bool = False, narrows: tuple[float, int] | None = None, wrapping: bool = True,
        trace: Callable[[str], object] | None = None,
    ) -> None:  # fmt: skip
        """`up` is what befalls packets of `left`, `down` those of `right`. `offload`: super-segments pass whole, or are
        lost whole. `narrows`: from when on the path takes packets of so many bytes only. `wrapping`: the numbers of
        connections wrap. `trace` is told of each packet at the left stack.
        """
        one, other = memory_link(mtu=mtu, offload=offload)
        self.path = FaultLink(one, seed=seed, sent=up, received=down, clock=loop.time, schedule=loop.call_later)
        link: Link = self.path if narrows is None else Narrower(self.path, *narrows)
        if trace is not None:
            link = TracerLink(link, trace, clock=loop.time)
        random = Random(seed)
        self.left = Stack(link, [f"{LEFT[4]}/24", f"{LEFT[6]}/64"], tcp=left)
        self.right = Stack(other, [f"{RIGHT[4]}/24", f"{RIGHT[6]}/64"], tcp=right)
        for stack in (self.left, self.right):
            stack.clock.now = loop.time
            stack.tcp.isn = BeforeTheWrap(random) if wrapping else IsnGenerator(random.randbytes(16))

    def __enter__(self) -> Network:
        self.left.start()
        self.right.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.left.close()

    def connect(self, user: ConnectionUser, version: int) -> Flow:
        """Open a connection from left to right."""
        return self.left.tcp.connect(packed(LEFT[version]), (packed(RIGHT[version]), PORT), user)

    def connect_from(self, port: int, user: ConnectionUser, version: int) -> Flow:
        """The same by a port of ours, whoever had it before."""
        flow = _opening(self.left, (packed(LEFT[version]), port), (packed(RIGHT[version]), PORT), user)
        flow.flush()
        return flow

    def cross(self, users: tuple[ConnectionUser, ConnectionUser], version: int) -> tuple[Flow, Flow]:
        """Both open the same connection at once (RFC 9293, section 3.5, figure 8)."""
        one, other = (packed(LEFT[version]), 50001), (packed(RIGHT[version]), 50002)
        flows = _opening(self.left, one, other, users[0]), _opening(self.right, other, one, users[1])
        for flow in flows:
            flow.flush()
        return flows


def _opening(stack: Stack, local: tuple[bytes, int], remote: tuple[bytes, int], user: ConnectionUser) -> Flow:
    """A connection that is to be opened by a port that is given, which `Tcp.connect` chooses by itself."""
    key = remote[0] + local[0] + remote[1].to_bytes(2, "big") + local[1].to_bytes(2, "big")
    flow = Flow(stack.tcp, key, local, remote, user)
    stack.tcp.counters.connects += 1
    stack.tcp.add(flow)
    flow.connection.open()
    return flow


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What the TCP room draws from the system (ports, offsets of clocks) comes from the seed meanwhile."""
    prefix = "netbridge.stack.tcp."
    rooms = [room for name, room in sys.modules.items() if name.startswith(prefix) and hasattr(room, "urandom")]
    drawn = os.urandom
    try:
        for room in (os, *rooms):
            room.urandom = Random(seed).randbytes  # type: ignore[attr-defined]
        yield
    finally:
        for room in (os, *rooms):
            room.urandom = drawn  # type: ignore[attr-defined]
