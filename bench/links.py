"""Measure each link of the library beside what carries it: `python bench/links.py [--seconds N] [--only KIND,KIND]`.

Two stacks in one process, joined by the link over loopback, one TCP transfer each way; then the same by the carrier
alone. Both ends of everything share one core, so figures are low; the ratio of a row, taken within seconds, is what
compares. Needs no root.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parent.parent
    sys.path[0] = str(ROOT)
    sys.path.insert(1, str(ROOT / "src"))

from bench.report import grid

from netbridge.stack import Stack, memory_link
from netbridge.stack.link.calls import BATCH
from tests.stack.link.pairs import KINDS, End, carrier, missing, pair

CHUNK = 1 << 16
AHEAD = 4 << 20
"""Bytes that may be under way: aioquic's streams take whatever they are given."""
NAMES = ["memory", *KINDS]


async def moved(
    seconds: float, write: Callable[[bytes], Awaitable[object]], read: Callable[[], Awaitable[bytes]],
    size: int = CHUNK,
) -> float:  # fmt: skip
    """Mbit/s from `write` to `read` for a while, what came while connections were still growing left out."""
    data, sent, received = bytes(size), 0, 0
    started, begin = time.perf_counter(), 0
    room = asyncio.Event()

    async def send() -> None:
        nonlocal sent
        while True:
            await write(data)
            sent += size
            while sent - received > AHEAD:
                room.clear()
                await room.wait()
            await asyncio.sleep(0)  # a carrier that takes everything at once gives nobody else a turn

    sending = asyncio.ensure_future(send())
    try:
        warm = started + seconds / 4
        while (now := time.perf_counter()) < started + seconds:
            async with asyncio.timeout(30):
                received += len(await read())
            room.set()
            if not begin and now >= warm:
                begin, started = received, now - seconds / 4
                since = now
        return (received - begin) * 8 / (time.perf_counter() - since) / 1e6
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


@contextlib.asynccontextmanager
async def linked(kind: str) -> AsyncIterator[tuple[Any, Any, str]]:
    """Streams at both ends of a connection between two stacks on a link, and what the link came to."""
    accepted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def serve(*streams: Any) -> None:
        accepted.set_result(streams)
        await over.wait()

    async with contextlib.AsyncExitStack() as stack:
        near, far = memory_link() if kind == "memory" else await stack.enter_async_context(pair(kind))
        one = await stack.enter_async_context(Stack(near, ["10.0.0.1/24"]))
        other = await stack.enter_async_context(Stack(far, ["10.0.0.2/24"]))
        await other.start_server(serve, "10.0.0.2", 80)
        here = await one.open_connection("10.0.0.2", 80)
        try:
            yield here, await accepted, f"MTU {near.mtu}{', offload' if near.offload else ''}"
        finally:
            over.set()


def ways(streams: Any) -> tuple[Callable[[bytes], Awaitable[object]], Callable[[], Awaitable[bytes]]]:
    reader, writer = streams

    async def write(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    return write, lambda: reader.read(1 << 18)


async def measure(kind: str, seconds: float) -> dict[str, Any]:
    """One row: Mbit/s up (to the far end) and down, of the link and of its carrier alone."""
    row: dict[str, Any] = {"link": kind}
    async with linked(kind) as (near, far, about):
        row["about"] = about
        (write, read), (far_write, far_read) = ways(near), ways(far)
        row["up"] = await moved(seconds, write, far_read)
    async with linked(kind) as (near, far, _):
        (write, read), (far_write, far_read) = ways(near), ways(far)
        row["down"] = await moved(seconds, far_write, read)
    if kind == "memory":
        return row
    for key, down in (("bare_up", False), ("bare_down", True)):
        async with carrier(kind) as ends:
            size = CHUNK if kind == "messages" else BATCH  # as large as a link's own writes; a message has a bound
            row[key] = await moved(seconds, *await bare(kind, ends, down=down), size)
    return row


async def bare(kind: str, ends: tuple[End, End], *, down: bool) -> tuple[Any, Any]:
    near, far = ends
    if kind in ("quic", "libp2p"):  # whose stream the other end knows of once something was said
        await near.write(b"hello")
        await far.read()
    return (far.write, near.read) if down else (near.write, far.read)


def measured(only: list[str], seconds: float) -> list[dict[str, Any]]:
    """All rows; a link that cannot be measured says why."""
    import uvloop

    rows: list[dict[str, Any]] = []
    for kind in only:
        print(f"measuring {kind} …", file=sys.stderr, flush=True)
        if reason := missing(kind):
            rows.append({"link": kind, "failed": reason})
            continue
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                rows.append(runner.run(measure(kind, seconds)))
        except Exception as error:
            rows.append({"link": kind, "failed": f"{type(error).__name__}: {error}"[:200]})
    return rows


def text(rows: list[dict[str, Any]]) -> str:
    """The table."""
    lines = [["link", "up Mbit/s", "alone", "ratio", "down Mbit/s", "alone", "ratio", ""]]
    for row in rows:
        if "failed" in row:
            lines.append([row["link"], *["–"] * 6, row["failed"]])
            continue
        cells = []
        for way in ("up", "down"):
            alone = row.get(f"bare_{way}")
            cells += [f"{row[way]:,.0f}"]
            cells += [f"{alone:,.0f}", f"{row[way] / alone:.2f}"] if alone else ["–", "–"]
        lines.append([row["link"], *cells, row["about"]])
    return grid(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure each link beside what carries it.")
    parser.add_argument("--only", default="", help=f"comma-separated: {', '.join(NAMES)}")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each transfer (default 2)")
    parser.add_argument("--json", action="store_true", help="rows as JSON on standard output")
    arguments = parser.parse_args()
    only = [name for name in arguments.only.split(",") if name] or NAMES
    if unknown := set(only) - set(NAMES):
        parser.error(f"no such link: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    rows = measured(only, arguments.seconds)
    print(json.dumps(rows) if arguments.json else text(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
