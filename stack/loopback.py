"""Two stacks back to back in one process, measured: what this machine's Python makes of a line that can be made bad.

Three measurements one after another, each on connections of its own: one transfer each way, a byte to and fro, and
connections that carry one byte. Both stacks and both users share one thread, so figures are for the pair of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from .link.fault import FaultLink, Faults
from .link.memory import memory_link
from .services import DISCARD, ECHO, SOURCE, Discard, Echo, Source
from .stack import Stack
from .tcp.config import TcpConfig

LEFT, RIGHT = "10.0.0.1", "10.0.0.2"
WORKERS = 16
"""Connections under way at a time."""
STEP = 0.1
"""Seconds between words about progress."""
Progress = Callable[[str, float], None]
"""Told what is being measured and which part of it is done, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the line is like, the same both ways."""

    loss: float = 0.0
    """Probability that a packet is lost."""
    delay: float = 0.0
    """Seconds that each packet takes."""
    reorder: float = 0.0
    """Probability that a packet is overtaken by those of the next ten milliseconds."""
    rate: float = 0.0
    """Bytes a second that fit through; 0: no limit."""
    seed: int = 0
    """Of the chances: the same packets are lost again."""
    mtu: int = 1500
    """Bytes of the largest packet."""
    offload: bool = True
    """Super-segments and unfinished checksums, as between a stack and a kernel; never on a line that is bad."""

    @property
    def bad(self) -> bool:
        """Whether the line is anything but perfect."""
        return bool(self.loss or self.delay or self.reorder or self.rate)


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured."""

    conditions: Conditions
    """On which line."""
    sent: float
    """Bits a second from one stack to the other, one connection."""
    received: float
    """The same in the other direction."""
    round_trips: int
    """Bytes that went to and fro."""
    round_trip: float
    """Seconds, the median."""
    round_trip_99: float
    """Seconds that 99 of 100 did not exceed."""
    connections: float
    """Connections a second: opened, one byte to and fro, closed."""
    failed: int
    """Of these, that ended in an error."""
    retransmitted: int
    """Segments sent again, in all, on connections that ended."""
    lost: int
    """Packets that the line lost or had no room for."""

    def as_json(self) -> dict[str, Any]:
        """What `json.dumps` takes."""
        return asdict(self)


async def measure(
    conditions: Conditions, *, seconds: float = 2.0, progress: Progress = lambda what, part: None,
) -> Report:  # fmt: skip
    """Measure each of the four for `seconds`. ValueError for conditions that make no sense."""
    if not (0 <= conditions.loss < 1 and 0 <= conditions.reorder <= 1) or min(conditions.delay, conditions.rate) < 0:
        raise ValueError("chances are from 0 to 1, delay and rate not negative")
    if seconds <= 0:
        raise ValueError("a measurement takes more than no time")
    one, other = memory_link(conditions.mtu, offload=conditions.offload and not conditions.bad)
    faults = Faults(
        loss=conditions.loss, delay=conditions.delay, reorder=conditions.reorder, rate=conditions.rate,
        queue=max(Faults().queue, int(conditions.rate * conditions.delay * 2)),
    )
    line = FaultLink(one, seed=conditions.seed, sent=faults, received=faults) if conditions.bad else None
    config = TcpConfig(time_wait=0.5)  # or the ports of thousands of connections a second would run out
    async with (
        Stack(line or one, [f"{LEFT}/24"], tcp=config) as left,
        Stack(other, [f"{RIGHT}/24"], tcp=config) as right,
    ):
        sink, taps = Discard(), Discard()
        await right.create_server(lambda: sink, RIGHT, DISCARD)
        await right.create_server(Source, RIGHT, SOURCE)
        await right.create_server(Echo, RIGHT, ECHO)
        run = _Run(left, seconds, progress)
        sent = await run.throughput("sending", Source, DISCARD, sink)
        received = await run.throughput("receiving", lambda: taps, SOURCE, taps)
        trips = sorted(await run.round_trips())
        opened, failed = await run.connections()
        losses = sum(way.lost + way.overflowed for way in (line.sent, line.received)) if line else 0
        return Report(
            conditions, sent, received, len(trips), median(trips), trips[len(trips) * 99 // 100], opened, failed,
            sum(stack.tcp.counters.retransmitted for stack in (left, right)), losses + one.dropped + other.dropped,
        )  # fmt: skip


class _Run:
    """The measurements, from the left stack's side."""

    def __init__(self, stack: Stack, seconds: float, progress: Progress) -> None:
        self._stack = stack
        self._seconds = seconds
        self._progress = progress

    async def _wait(self, what: str) -> float:
        """Let it run for the time, telling of the progress; the seconds it took."""
        began = now = time.monotonic()
        while (left := began + self._seconds - now) > 0:
            self._progress(what, max(0.0, 1 - left / self._seconds))
            await asyncio.sleep(min(STEP, left))
            now = time.monotonic()
        self._progress(what, 1.0)
        return now - began

    async def throughput(
        self, what: str, factory: Callable[[], asyncio.Protocol], port: int, counting: Discard,
    ) -> float:  # fmt: skip
        """Bits a second that arrive at `counting`."""
        transport, _ = await self._stack.create_connection(factory, RIGHT, port)
        before = counting.received
        took = await self._wait(what)
        arrived = counting.received - before
        transport.abort()
        return arrived * 8 / took

    async def round_trips(self) -> list[float]:
        """Seconds of each round trip of one byte; at least one."""
        reader, writer = await self._stack.open_connection(RIGHT, ECHO)
        trips: list[float] = []

        async def to_and_fro() -> None:
            while True:
                began = time.perf_counter()
                writer.write(b"x")
                await reader.readexactly(1)
                trips.append(time.perf_counter() - began)

        going = asyncio.ensure_future(to_and_fro())
        await self._wait("round trips")
        while not trips:
            await asyncio.sleep(STEP)
        going.cancel()
        await asyncio.wait([going])
        writer.transport.abort()
        return trips

    async def connections(self) -> tuple[float, int]:
        """Connections a second, and how many failed."""
        done = failed = 0

        async def again() -> None:
            nonlocal done, failed
            while True:
                try:
                    reader, writer = await self._stack.open_connection(RIGHT, ECHO)
                    try:
                        writer.write(b"x")
                        await reader.readexactly(1)
                    finally:
                        writer.close()
                    done += 1
                except (OSError, EOFError):
                    failed += 1

        working = [asyncio.ensure_future(again()) for _ in range(WORKERS)]
        took = await self._wait("connections")
        count = done
        for one in working:
            one.cancel()
        await asyncio.wait(working)
        return count / took, failed
