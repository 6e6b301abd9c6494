"""Two stacks on one link, in real time: megabytes both ways, over good links and bad ones."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from netbridge.stack.link.fault import FaultLink, Faults
from netbridge.stack.link.memory import memory_link
from netbridge.stack.stack import Stack
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import NewReno, Unlimited
from netbridge.stack.tcp.flow import Flow
from tests.stack.fake import packed
from tests.stack.tcp.peer import User


class Source(User):
    """Writes `left` bytes as room is made, and reads with a limit that it lifts by and by."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.left = memoryview(data)
        self.flow: Any = None
        self.over = asyncio.get_running_loop().create_future()
        self.parts: list[bytes] = []

    def connected(self) -> None:
        super().connected()
        asyncio.get_running_loop().call_soon(self.feed)

    def data_received(self, data: memoryview) -> int:
        self.parts.append(bytes(data))
        return len(data)

    def acked(self) -> None:
        self.feed()

    def feed(self) -> None:
        while self.left and self.flow.room > 0 and not self.flow.queued:
            piece, self.left = self.left[: self.flow.room], self.left[self.flow.room :]
            self.flow.write(bytes(piece))
        if not self.left and "done" not in self.calls:
            self.calls.append("done")
            self.flow.shutdown()

    def closed(self, error: OSError | None) -> None:
        super().closed(error)
        if not self.over.done():
            self.over.set_result(None)


async def transfer(
    config: TcpConfig, *, version: int, offload: bool, size: int, faults: Faults | None = None
) -> tuple[Stack, Stack]:
    """Send `size` bytes one way and half as many the other; everything must arrive and nothing be left."""
    one, other = memory_link(offload=offload)
    own = ["10.0.0.1/24", "fd00::1/64"]
    far = ["10.0.0.2/24", "fd00::2/64"]
    link = one if faults is None else FaultLink(one, seed=version, sent=faults, received=faults, offload=False)
    up, down = bytes(range(256)) * (size // 256), bytes(reversed(range(256))) * (size // 512)
    servers: list[Source] = []

    def opened(flow: Flow) -> Source:
        server = Source(down)
        servers.append(server)
        server.flow = flow
        return server

    async with Stack(link, own, tcp=config) as left, Stack(other, far, tcp=config) as right:
        right.tcp.listen(None, 80, opened)
        client = Source(up)
        at = 0 if version == 4 else 1
        local, remote = (packed(addresses[at].partition("/")[0]) for addresses in (own, far))
        client.flow = left.tcp.connect(local, (remote, 80), client)
        async with asyncio.timeout(20):
            await client.over
            await servers[0].over
        for side, expected in ((client, down), (servers[0], up)):
            assert side.error is None
            assert side.calls[-1] == "closed"
            assert b"".join(side.parts) == expected
        for stack in (left, right):
            assert not stack.tcp.flows
            assert stack.tcp.budget.used == 0
        return left, right


QUICK = TcpConfig(time_wait=0.05, min_rto=0.02)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("congestion", [NewReno, Unlimited])
async def test_two_stacks_exchange_megabytes(version: int, offload: bool, congestion: Any) -> None:
    config = TcpConfig(time_wait=0.05, congestion=congestion)
    for stack in await transfer(config, version=version, offload=offload, size=3_000_000):
        # With a congestion window the end is asked about where this machine is slow to answer (RFC 8985, section 7).
        assert stack.tcp.counters.retransmitted <= (0 if congestion is Unlimited else 8)
        assert stack.counters.malformed == stack.tcp.counters.bad_checksum == 0


@pytest.mark.parametrize("version", [4, 6])
async def test_two_stacks_over_a_path_that_loses_and_reorders(version: int) -> None:
    faults = Faults(loss=0.01, duplicate=0.01, reorder=0.01, reorder_delay=0.003, delay=0.001)
    stacks = await transfer(QUICK, version=version, offload=False, size=400_000, faults=faults)
    assert any(stack.tcp.counters.retransmitted for stack in stacks)


async def test_two_stacks_over_a_path_that_corrupts() -> None:
    """A flipped bit is a lost packet, whatever it hits."""
    faults = Faults(corrupt=0.06, delay=0.001)
    patient = replace(QUICK, time_wait=1.0)  # the last acknowledgement may be hit as well
    stacks = await transfer(patient, version=4, offload=False, size=1_000_000, faults=faults)
    assert any(stack.tcp.counters.bad_checksum for stack in stacks)


@pytest.mark.parametrize("version", [4, 6])
async def test_two_stacks_over_a_path_that_marks(version: int) -> None:
    """Congestion without a loss: marks slow the senders down, and nothing has to be sent again for them (RFC 3168)."""
    config = replace(QUICK, ecn_request=True)
    faults = Faults(mark=0.05, delay=0.001)
    stacks = await transfer(config, version=version, offload=False, size=400_000, faults=faults)
    assert all(stack.tcp.counters.marked for stack in stacks)
