"""What connections that do nothing cost, and how many of them one stack holds."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

from netbridge.stack.tcp.flow import Flow
from netbridge.stack.tcp.output import HeaderWriter
from netbridge.stack.tcp.segment import ACK, SYN, emit_syn_options
from netbridge.stack.tcp.seq import MASK
from tests.stack.fake import GATEWAY4, packed
from tests.stack.tcp.peer import Peer, User

OURS = packed(GATEWAY4)
OFFER = emit_syn_options(1460, 7, sack=True)
FIRST = 0xFFFF_FFFE
CROWD = 50_000 if os.environ.get("NETBRIDGE_TEST_LONG") else 5_000


class Crowd:
    """Peers of 10.0.0.0/8 that connect and then keep still."""

    def __init__(self) -> None:
        self.peer = Peer(sources=["10.0.0.0/8"], offload=True)
        self.flows: list[Flow] = []
        self._user = User()
        self.peer.tcp.listen(None, 80, self._opened, backlog=100_000)

    def _opened(self, flow: Flow) -> User:
        self.flows.append(flow)
        self._user.calls.clear()
        return self._user

    def asks(self, number: int) -> int:
        """One more SYN; the listener's ISN."""
        self._says(number, FIRST, 0, SYN, OFFER)
        (answer,) = self.peer.link.sent
        self.peer.link.sent.clear()
        return int.from_bytes(answer[34:38], "big")

    def connects(self, number: int) -> None:
        self._says(number, FIRST + 1, self.asks(number) + 1, ACK)

    def speaks(self, number: int, isn: int) -> None:
        self._says(number, FIRST + 1, isn, ACK, payload=b"x")

    def _says(self, number: int, seq: int, ack: int, flags: int, options: bytes = b"", payload: bytes = b"") -> None:
        writer = HeaderWriter(bytes([10]) + number.to_bytes(3, "big"), 1024, OURS, 80, offload=True)
        packet = writer.write(seq & MASK, ack & MASK, flags, 512, options, payload, 1460) + payload
        self.peer.stack.packet_received(memoryview(packet))
        self.peer.stack.burst_ended()


@contextmanager
def heap() -> Iterator[list[int]]:
    """Bytes that what happens inside leaves on Python's heap."""
    gc.collect()
    tracemalloc.start()
    grown: list[int] = []
    try:
        yield grown
        gc.collect()
        grown.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()


async def test_what_a_handshake_and_an_idle_connection_cost() -> None:
    crowd = Crowd()
    crowd.asks(1)
    with heap() as grown:
        isns = {number: crowd.asks(number) for number in range(2, 1002)}
        gc.collect()
        waiting = tracemalloc.get_traced_memory()[0]
        for number, isn in isns.items():
            crowd._says(number, FIRST + 1, isn + 1, ACK)
        isns.clear()
    assert len(crowd.flows) == 1000
    print(f"{waiting / 1000:.0f} bytes in SYN-RECEIVED, {grown[0] / 1000:.0f} idle and established")
    assert waiting / 1000 <= 1024
    assert grown[0] / 1000 <= 4096
    crowd.peer.close()


async def test_a_connection_that_was_busy_costs_no_more_than_one_that_never_was() -> None:
    crowd = Crowd()
    with heap() as grown:
        for number in range(1, 501):
            crowd.connects(number)
        for flow in crowd.flows:
            connection = flow.connection
            isn = connection.sender.nxt
            crowd._user.room = 0
            crowd.speaks(int.from_bytes(flow.remote[0][1:], "big"), isn)
            flow.write(bytes(5000))
            crowd._user.room = 1 << 60
            flow.drain()
            number = int.from_bytes(flow.remote[0][1:], "big")
            crowd._says(number, FIRST + 2, isn + 5000, ACK)
            assert not connection.sender.flight
            crowd.peer.link.sent.clear()
            crowd._user.data = b""
    assert grown[0] / 500 <= 4096
    crowd.peer.close()


async def test_a_crowd_of_idle_connections() -> None:
    crowd = Crowd()
    for number in range(CROWD):
        crowd.connects(number)
    assert len(crowd.peer.tcp.flows) == CROWD
    crowd.speaks(CROWD - 1, crowd.flows[-1].connection.sender.nxt)
    crowd.speaks(1, crowd.flows[1].connection.sender.nxt)
    assert crowd._user.data == b"xx"
    crowd.peer.close()
    assert not crowd.peer.tcp.flows
