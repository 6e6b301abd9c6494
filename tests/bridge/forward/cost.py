"""What a datagram costs, in microseconds of one core: ``PYTHONPATH=src:. python tests/bridge/forward/cost.py``.

Up is `UdpForwarder.forward` on a parsed packet, sendto included; down is one wake-up with 32 datagrams waiting, recv
included, to a stack that throws them away. The kernel's loopback is in both figures.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable

from netbridge.stack import Stack
from netbridge.stack.ipv4 import emit_header
from netbridge.stack.link.base import Buffer, Link, LinkUser
from netbridge.stack.packet import UDP
from netbridge.stack.udp import wire
from netbridge.stack.vnet import NO_OFFLOAD
from tests.bridge.forward.fakes import CODESPACE, Bench, FakeUdp, ip_packet, packed

ROUNDS = 200
BATCH = 32


class Silent(FakeUdp):
    """Takes datagrams and forgets them."""

    def send(self, source: tuple[bytes, int], destination: tuple[bytes, int], payload: bytes | memoryview) -> bool:
        return True


class Sink(Link):
    """A link with offload that throws packets away."""

    offload = True

    def start(self, user: LinkUser) -> None:
        self.user = user

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        pass

    @property
    def ready(self) -> bool:
        return True

    def close(self) -> None:
        pass


def best(prepare: Callable[[], object], action: Callable[[], object]) -> float:
    """The best of all rounds, in microseconds."""
    lowest = 1e9
    for _ in range(ROUNDS):
        prepare()
        started = time.perf_counter()
        action()
        lowest = min(lowest, time.perf_counter() - started)
    return lowest * 1e6


async def main() -> None:
    bench = Bench()
    bench.udp._stack.udp = bench.stack.udp = Silent()  # type: ignore[misc]
    bench.stack.udp.forward = bench.udp.forward
    stack = Stack(Sink(), ["198.18.0.1/30"])
    stack.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.bind(("127.0.0.1", 0))
        host.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        port = host.getsockname()[1]
        bench.datagram("127.0.0.1", port, b"x")
        _, peer = host.recvfrom(10)
        flow = next(iter(bench.udp._flows.values()))
        host.setblocking(False)

        def drain() -> None:
            try:
                while True:
                    host.recv(1)
            except BlockingIOError:
                pass

        for size, count in ((64, BATCH), (1400, BATCH), (65507, 2)):
            source, destination = packed(CODESPACE[4]), packed("127.0.0.1")
            body = wire.emit(source, 4000, destination, port, b"z" * size)
            packet, _ = ip_packet(4, source, destination, UDP, body, ttl=63)
            packet.checksum_trusted = True
            payload = packet.payload[8:]
            whole = memoryview(NO_OFFLOAD + emit_header(source, destination, UDP, len(body)) + body)

            def up() -> None:
                for _ in range(count):  # noqa: B023
                    bench.udp.forward(packet, 4000, port, payload)  # noqa: B023

            def parsed() -> None:
                stack.udp.forward = bench.udp.forward
                for _ in range(count):  # noqa: B023
                    stack.packet_received(whole)  # noqa: B023

            def fill() -> None:
                for _ in range(count):  # noqa: B023
                    host.sendto(b"z" * size, peer)  # noqa: B023

            def down() -> None:
                bench.udp._read(flow)

            sys.stdout.write(
                f"{size:6} bytes: up {best(drain, up) / count:.1f}, through a stack {best(drain, parsed) / count:.1f},"
                f" down {best(fill, down) / count:.1f}",
            )
            bench.udp._stack = stack
            sys.stdout.write(f", through a stack {best(fill, down) / count:.1f} µs\n")
            bench.udp._stack = bench.stack
        numbers = iter(range(5000, 65000))

        def fresh() -> None:
            packet, _ = ip_packet(4, source, destination, UDP, body, ttl=63)
            bench.udp.forward(packet, next(numbers), port, payload)

        sys.stdout.write(f"first datagram of a flow, socket and all: {best(drain, fresh):.0f} µs\n")
    stack.udp.forward = None
    stack.close()
    bench.close()


if __name__ == "__main__":
    asyncio.run(main())
