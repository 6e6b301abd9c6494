"""What one segment costs our stack, in microseconds: `python bench/segment_cost.py [--against COMMIT]`.

    echo    a segment of 64 bytes that acknowledges the one before, answered by one of 64 bytes
    bulk    a segment of 1,460 bytes in order, every second one acknowledged
    burst   a super-segment of 64 KiB, acknowledged

Set up as a bridge does: no congestion control, no timestamps, no quick ACKs, checksums left to the kernel. There is no
kernel here: packets are ready before the clock starts, and what is sent is counted and dropped. With `--against`, the
sources of another commit are measured in turn with these, round by round, as figures of two runs on a busy machine tell
nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
ROUNDS = 7
REPEATS = 3
MSS = 1460
COUNT = {"echo": 5000, "bulk": 5000, "burst": 1500}
SIZE = {"echo": 64, "bulk": 1460, "burst": 64240}
EACH_BURST = {"echo": 1, "bulk": 2, "burst": 1}
"""Packets that arrive together."""
NEAR, PEER, FAR = bytes((198, 18, 91, 1)), bytes((198, 18, 91, 2)), bytes((10, 7, 0, 9))
_VNET = struct.Struct("<BBHHHH")
_HEADERS = struct.Struct("!BBHHHBBH4s4sHHIIBBHHH")

if TYPE_CHECKING:
    from netbridge.stack.tcp.flow import Flow
    from netbridge.stack.tcp.request import TcpRequest


def checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(seq: int, ack: int, flags: int, size: int, options: bytes = b"") -> memoryview:
    """From the peer to a host behind the stack; its checksum is trusted, as a kernel leaves it unfinished."""
    length = 40 + len(options) + size
    offset = (20 + len(options)) << 2
    fields = (0x45, 0, length, 0, 0x4000, 64, 6)
    ports = (40_000, 80, seq & 0xFFFF_FFFF, ack & 0xFFFF_FFFF, offset, flags, 0xFFFF, 0, 0)
    value = checksum(_HEADERS.pack(*fields, 0, PEER, FAR, *ports)[:20])
    gso = 1 if size > MSS else 0
    vnet = _VNET.pack(1, gso, 40, MSS if gso else 0, 20, 16)
    return memoryview(vnet + _HEADERS.pack(*fields, value, PEER, FAR, *ports) + options + bytes(size))


def once() -> dict[str, float]:
    """Microseconds a segment of each kind, by the netbridge that is imported."""
    from netbridge.stack import Stack
    from netbridge.stack.link import Link, LinkUser
    from netbridge.stack.tcp.config import TcpConfig
    from netbridge.stack.tcp.congestion import Unlimited

    class Nowhere(Link):
        offload = True
        packets = 0

        def start(self, user: LinkUser) -> None: ...

        def send(self, header: Any, payload: Any = b"") -> None:
            self.packets += 1

        @property
        def ready(self) -> bool:
            return True

        def close(self) -> None: ...

    class User:
        flow: Flow
        answer = b""

        def connected(self) -> None: ...

        def data_received(self, data: memoryview) -> int:
            if self.answer:
                self.flow.write(self.answer)
            return len(data)

        def probed(self, idle: float) -> None: ...

        def eof_received(self) -> None: ...

        def acked(self) -> None: ...

        def closed(self, error: OSError | None) -> None: ...

    known = {field.name for field in dataclasses.fields(TcpConfig)}
    off = {name: False for name in ("timestamps", "ecn", "quick_acks", "send_budget") if name in known}
    config: TcpConfig = TcpConfig(congestion=Unlimited, **off)

    async def measure(kind: str) -> float:
        link, user = Nowhere(), User()
        stack = Stack(link, ["198.18.91.1/30"], tcp=config)
        stack.start()

        def accept(request: TcpRequest) -> None:
            user.flow = request.accept(user)

        stack.tcp.forward = accept
        best = float("inf")
        options = bytes((2, 4, MSS >> 8, MSS & 0xFF, 1, 3, 3, 7))
        stack.packet_received(packet(0, 0, 2, 0, options))
        stack.burst_ended()
        iss = user.flow.connection.sender.iss
        stack.packet_received(packet(1, iss + 1, 16, 0))
        stack.burst_ended()
        size, count, each = SIZE[kind], COUNT[kind], EACH_BURST[kind]
        user.answer = bytes(size) if kind == "echo" else b""
        seq, ack = 1, iss + 1
        for _ in range(REPEATS):
            packets = []
            for _ in range(count):
                packets.append(packet(seq, ack, 24, size))
                seq += size
                ack += size if user.answer else 0
            sent = link.packets
            receive: Callable[[memoryview], None] = stack.packet_received
            begun = time.process_time()  # others on this machine do not count
            if each == 1:
                for one in packets:
                    receive(one)
                    stack.burst_ended()
            else:
                for at in range(0, count, 2):
                    receive(packets[at])
                    receive(packets[at + 1])
                    stack.burst_ended()
            best = min(best, time.process_time() - begun)
            assert link.packets - sent == count // each, f"{kind}: {link.packets - sent} answers to {count}"
        assert user.flow.connection.receiver.nxt == seq & 0xFFFF_FFFF, f"{kind}: not everything was taken"
        stack.close()
        return best / count * 1e6

    return {kind: round(asyncio.run(measure(kind)), 3) for kind in COUNT}


def of(sources: Path) -> dict[str, float]:
    """The figures of a checkout, in a process of its own."""
    done = subprocess.run(
        (sys.executable, str(Path(__file__).resolve()), "--once"), check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(sources / "src"), "PYTHONSAFEPATH": "1"}, timeout=120,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(against: str = "", rounds: int = ROUNDS) -> dict[str, Any]:
    """The least of the rounds, as others on this machine only add; and its ratio to that of another commit."""
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        if against:
            git = ("git", "-C", str(ROOT), "worktree")
            subprocess.run((*git, "add", "--quiet", "--detach", str(other), against), check=True)
        from bench.priority import first_served

        try:
            mine, theirs = [], []
            with first_served():
                for _ in range(rounds):
                    mine.append(of(ROOT))
                    if against:
                        theirs.append(of(other))
        finally:
            if against:
                subprocess.run((*git, "remove", "--force", str(other)), check=True)
    result: dict[str, Any] = {kind: min(one[kind] for one in mine) for kind in COUNT}
    if against:
        result["against"] = {kind: min(one[kind] for one in theirs) for kind in COUNT}
        result["ratio"] = {kind: round(result[kind] / result["against"][kind], 3) for kind in COUNT}
    return result


def text(result: dict[str, Any]) -> str:
    """One line a kind."""
    lines = []
    for kind in COUNT:
        line = f"{kind:<6} {result[kind]:7.2f} µs a segment"
        if "against" in result:
            line += f", before {result['against'][kind]:7.2f}, ratio {result['ratio'][kind]:.2f}"
        lines.append(line)
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="What one segment costs our stack.")
    parser.add_argument("--against", default="", help="a commit to compare with")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--once", action="store_true", help="one round by the netbridge on the path, as JSON")
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(once()))
    else:
        print(text(measure(arguments.against, arguments.rounds)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
