"""One faulty line between two TCPs: ours and Linux's, or Linux's and Linux's, with the same device in between.

The device is the stack's own (`FaultLink`), in this process, in both cases, so both suffer the same loss, delay and
rate. Its times are kept by an event loop that sleeps in microseconds (`precise_loop`): epoll would sleep
whole milliseconds, which is all of the shortest path.

Linux's ends are processes in namespaces of their own; what came over is counted at the receiving end, for a fixed time
from the first byte on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import selectors
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

from netbridge.stack import Stack
from netbridge.stack.link import FaultLink, Faults, Link
from netbridge.stack.tcp.config import TcpConfig
from tests.world.namespace import Namespace

NEAR, FAR = "198.18.90.1", "198.18.90.2"
"""The end that is ours or Linux's, and the one that is always Linux's."""
PORT = 9300
PIECE = 1 << 16
TUN_QUEUE = 20_000
"""Packets: the line's own queue is what shall overflow, not a device's."""
GRACE = 15.0
"""Seconds beyond a run's own for its programs to begin and to end."""
PEER = Path(__file__).with_name("lossy_peer.py")


def precise_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers come within some tens of microseconds; for a handful of descriptors."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


@dataclass(frozen=True)
class Conditions:
    """What the line does to what passes. Loss strikes data alone, delay and rate both ways."""

    loss: float
    rtt: float
    """Seconds there and back."""
    rate: float
    """Bytes a second."""
    queue: int
    """Bytes."""

    @property
    def data(self) -> Faults:
        """On the way of the data."""
        return Faults(loss=self.loss, delay=self.rtt / 2, rate=self.rate, queue=self.queue)

    @property
    def acknowledgements(self) -> Faults:
        """On the way back."""
        return Faults(delay=self.rtt / 2, rate=self.rate, queue=self.queue)


@dataclass(frozen=True)
class Measured:
    """One run."""

    goodput: float
    """Bits a second that the receiver's application got."""
    handshake: float
    """Seconds until connect() was through: the line's real round trip."""
    busy: float
    """Part of the time that this process computed: near 1 it was Python that held the data up."""


class Crossing:
    """A `LinkUser` that passes what one link brings to another."""

    def __init__(self, other: Link) -> None:
        self._other = other

    def packet_received(self, packet: memoryview) -> None:
        self._other.send(packet)

    def burst_ended(self) -> None: ...

    def link_ready(self) -> None: ...

    def link_lost(self, error: Exception | None) -> None: ...


def plugged(namespace: Namespace, address: str) -> Link:
    """A TUN without offload: single segments pass, each of the path's size."""
    link = namespace.tun([f"{address}/30"])
    namespace.ip(f"link set {link.name} txqueuelen {TUN_QUEUE}")
    return link


class Line:
    """A line that is ready to run; `close` removes it."""

    def __init__(self, conditions: Conditions, *, seed: int, near: TcpConfig | None, sends: bool) -> None:
        """`near`: our stack's settings, or None for Linux at the near end as well; `sends`: data leaves from there."""
        self._clean = contextlib.ExitStack()
        self._namespace = self._clean.enter_context(Namespace())
        self._near = near
        self._sends = sends
        forth, back = conditions.data, conditions.acknowledgements
        self._faults = FaultLink(
            plugged(self._namespace, FAR), offload=False,
            seed=seed if sends else seed - 1,  # the other way takes the number after: data meets the same fate
            sent=forth if sends else back, received=back if sends else forth,
        )  # fmt: skip
        self._other = self._clean.enter_context(Namespace()) if near is None else None
        self._crossing = plugged(self._other, NEAR) if self._other is not None else None

    def close(self) -> None:
        """Remove it."""
        self._clean.close()

    async def run(self, seconds: float, ready: asyncio.Barrier) -> Measured:
        """Move bytes for so long, beginning when all lines are `ready`."""
        self._ready = ready
        bits, handshake = await self._moved(seconds)
        return Measured(bits / seconds, handshake, (process_time() - self._used) / (perf_counter() - self._wall))

    async def _go(self, source: Process | None = None) -> None:
        await self._ready.wait()
        self._wall, self._used = perf_counter(), process_time()
        if source is not None:
            assert source.stdin is not None
            source.stdin.write(b"go\n")

    async def _moved(self, seconds: float) -> tuple[float, float]:
        """Bits that came over, and the handshake's seconds."""
        async with asyncio.timeout(seconds + GRACE):
            if self._near is not None:
                async with Stack(self._faults, [f"{NEAR}/30"], tcp=self._near) as stack:
                    return await (self._we_send(stack, seconds) if self._sends else self._we_receive(stack, seconds))
            assert self._crossing is not None
            assert self._other is not None
            self._faults.start(Crossing(self._crossing))
            self._crossing.start(Crossing(self._faults))
            try:
                ends = (self._other, NEAR), (self._namespace, FAR)
                (source, _), (sink, sink_address) = ends if self._sends else ends[::-1]
                async with peer(sink, "sink", sink_address, seconds) as receiving:
                    await line_of(receiving)
                    async with peer(source, "source", sink_address, seconds) as sending:
                        await line_of(sending)
                        await self._go(sending)
                        handshake = await line_of(sending)
                        return await line_of(receiving), handshake
            finally:
                self._faults.close()
                self._crossing.close()

    async def _we_send(self, stack: Stack, seconds: float) -> tuple[float, float]:
        async with peer(self._namespace, "sink", FAR, seconds) as receiving:
            await line_of(receiving)
            await self._go()
            begun = perf_counter()
            _, writer = await stack.open_connection(FAR, PORT)
            handshake = perf_counter() - begun
            sending = asyncio.ensure_future(write_on(writer))
            try:
                return await line_of(receiving), handshake
            finally:
                sending.cancel()
                writer.transport.abort()

    async def _we_receive(self, stack: Stack, seconds: float) -> tuple[float, float]:
        counter = Counter()
        async with await stack.create_server(lambda: counter, NEAR, PORT):
            async with peer(self._namespace, "source", NEAR, seconds) as sending:
                await line_of(sending)
                await self._go(sending)
                handshake = await line_of(sending)
                await counter.begun.wait()
                await asyncio.sleep(seconds)
                return counter.bytes * 8, handshake


class Counter(asyncio.Protocol):
    """Counts what comes."""

    def __init__(self) -> None:
        self.bytes = 0
        self.begun = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        if not self.bytes:
            self.begun.set()
        self.bytes += len(data)


async def write_on(writer: asyncio.StreamWriter) -> None:
    """Write until cancelled."""
    piece = bytes(PIECE)
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(piece)
            await writer.drain()


@contextlib.asynccontextmanager
async def peer(namespace: Namespace, *arguments: object) -> AsyncIterator[Process]:
    """A Linux end, killed when the block is left."""
    process = await asyncio.create_subprocess_exec(*namespace.command(PEER, PORT, *arguments), stdin=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            if process.returncode is None:
                os.kill(process.pid, signal.SIGKILL)  # Process.kill reaps one that ended, and asyncio misses it then
        await process.wait()


async def line_of(process: Process) -> float:
    """The next figure that an end says."""
    assert process.stdout is not None
    return float(json.loads(await process.stdout.readline()))
