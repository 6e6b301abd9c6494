"""Gigabytes between our stack and Linux's while packets are lost and overtaken: `make kernel`, or nothing.

Python costs some tens of microseconds a packet, whatever its size. So a part of the bytes goes in segments of 1,460
bytes, and the rest in segments of 64 KiB, where one lost packet is a lost 64 KiB.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time

import pytest

from netbridge.stack.link import Faults
from tests.stack.tcp.kernel import long_peer
from tests.stack.tcp.kernel.exchange import SERVICE, STACK, Line, config
from tests.world.namespace import Namespace

BYTES = int(float(os.environ.get("NETBRIDGE_KERNEL_BYTES", "0")))
"""In all, both ways together."""
SMALL = float(os.environ.get("NETBRIDGE_KERNEL_SMALL", "0.1"))
"""Part of them that goes in segments of an Ethernet's size."""
PEER = long_peer.__file__

pytestmark = [
    pytest.mark.net, pytest.mark.alone, pytest.mark.timeout(4 * 3600),
    pytest.mark.skipif(not BYTES, reason="takes many minutes: make kernel BYTES=10e9"),
]  # fmt: skip

HARM = Faults(loss=0.01, reorder=0.01, reorder_delay=0.002, delay=0.0005)


@pytest.mark.parametrize(("version", "mtu", "part"), [
    (4, 1500, SMALL / 2), (6, 1500, SMALL / 2), (4, 65520, (1 - SMALL) / 2), (6, 65520, (1 - SMALL) / 2),
])  # fmt: skip
def test_gigabytes_with_loss_and_reordering(version: int, mtu: int, part: float) -> None:
    size = int(BYTES * part / 2)
    if not size:
        pytest.skip(f"NETBRIDGE_KERNEL_SMALL leaves nothing for an MTU of {mtu}")
    began = time.monotonic()
    with Namespace() as namespace:
        harmed = asyncio.run(both_ways(namespace, version, mtu, size))
    seconds = time.monotonic() - began
    print(
        f"\nIPv{version}, MTU {mtu}: {size / 1e9:.3f} GB each way at once in {seconds:.0f} s,"
        f" {size * 16 / seconds / 1e6:.0f} Mbit/s; {harmed}",
    )


async def both_ways(namespace: Namespace, version: int, mtu: int, size: int) -> str:
    """Move `size` bytes each way, compare the sums, wait until nothing is left; what the line did."""
    taken: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    taken = asyncio.get_running_loop().create_future()
    async with Line(namespace, seed=7, up=HARM, down=HARM, tcp=config(), mtu=mtu) as line:
        async with await line.stack.start_server(
            lambda *both: taken.set_result(both), STACK[version], SERVICE, limit=1 << 20
        ):
            command = namespace.command(PEER, STACK[version], SERVICE, size)
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            reader, writer = await taken
        got, count = hashlib.sha256(), 0

        async def write() -> None:
            for piece in long_peer.pieces(size, 2):
                writer.write(piece)
                await writer.drain()
            writer.write_eof()

        async def read() -> None:
            nonlocal count
            while data := await reader.read(1 << 20):
                count += len(data)
                got.update(data)

        await asyncio.gather(write(), read())
        told, _ = await process.communicate()
        writer.close()
        await writer.wait_closed()
        assert (count, got.hexdigest()) == (size, long_peer.digest(size, 1)), "what Linux sent arrived changed"
        assert told.decode().split() == [str(size), long_peer.digest(size, 2)], "what we sent arrived changed"
        await line.emptied()
        up, down = line.faults.sent, line.faults.received
        assert up.lost, "the line lost nothing"
        assert down.reordered, "the line let nothing overtake"
        return f"{up.lost + down.lost:,} packets lost and {up.reordered + down.reordered:,} overtaken"
