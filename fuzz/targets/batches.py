"""Packets in one burst, one by one, and cut into segments bring the same bytes, calls and state; only ACKs may differ.

The same program of segments is told to three stacks side by side: in bursts as written, each packet in a burst of its
own, and each cut as a network card cuts super-segments. After each burst they are compared.

What may differ, and why:

- how many acknowledgements there are, and which numbers and windows they tell: one answers a whole burst (RFC 9293,
  section 3.8.6.3), and what is put off by one way was said by the other;
- how often something is sent again: duplicate acknowledgements are counted where they come (RFC 5681, section 3.2);
- how many resets and challenges answer pieces of what one answer was given to as a whole (RFC 5961, section 7); and
  whether any, where the first piece ends the connection and the others belong to none.
"""

from __future__ import annotations

import asyncio

from fuzz import repairs
from fuzz.bed import ListLink
from netbridge.stack import Stack
from netbridge.stack.tcp.flow import Flow
from netbridge.stack.tcp.segment import ACK, FIN, PSH, RST, SYN, TCP_HEADER
from netbridge.stack.tcp.seq import MASK, diff
from netbridge.stack.tcp.states import State
from netbridge.stack.vnet import GSO_NONE, GSO_TCPV4, NO_OFFLOAD, VNET

PEER, HOST = b"\xc6\x12\x00\x02", b"\xc6\x12\x00\x01"
PORT = 80
ISN = 0xFFFF_FFF0
MSS = 500
REPLY = bytes(index * 13 & 255 for index in range(3000))
"""What the server says at once."""
TEXT = bytes(index * 31 + (index >> 8) & 255 for index in range(60_000))
"""What the peer says; it fits the first window, which is what one way or the other might have moved on."""
STEPS = 40

_loop = asyncio.new_event_loop()


class User:
    """The server: speaks first, takes all, closes when the peer did."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.data = b""
        self.calls: list[str] = []

    def connected(self) -> None: ...

    def data_received(self, data: memoryview) -> int:
        self.data += bytes(data)
        return len(data)

    def eof_received(self) -> None:
        self.calls.append("eof")
        self.flow.shutdown()

    def acked(self) -> None: ...

    def probed(self, idle: float) -> None:
        self.calls.append("probed")

    def closed(self, error: OSError | None) -> None:
        self.calls.append(f"closed {error}")


class Side:
    """One of the stacks."""

    def __init__(self) -> None:
        self.link = ListLink(offload=True)
        self.stack = Stack(self.link, ["198.18.0.1/16"])
        self.stack.clock.now = lambda: 1000.0
        self.stack.start()
        self.stack.tcp.listen(None, PORT, self._opened)
        self.users: list[User] = []
        self.isn = 0
        self.replied = bytearray(len(REPLY))
        self.resets = 0

    def _opened(self, flow: Flow) -> User:
        self.users.append(User(flow))
        return self.users[-1]

    def takes(self, packets: list[bytes]) -> None:
        """One burst."""
        for packet in packets:
            self.stack.packet_received(memoryview(packet))
        self.stack.burst_ended()
        for packet in self.link.sent:
            start = 30 + (packet[42] >> 4) * 4
            if packet[43] & SYN:
                self.isn = int.from_bytes(packet[34:38], "big")
            self.resets += packet[43] & RST > 0
            at = diff(int.from_bytes(packet[34:38], "big"), self.isn) - 1
            if len(packet) > start:
                assert packet[start:] == REPLY[at : at + len(packet) - start]
                self.replied[at : at + len(packet) - start] = packet[start:]
        self.link.sent.clear()

    def begin(self) -> None:
        self.takes([_packet(0, 0, SYN, b"")])
        self.takes([_packet(1, self.isn + 1, ACK, b"")])
        (user,) = self.users
        user.flow.write(REPLY)
        self.takes([])

    def stands(self) -> tuple[object, ...]:
        """What has to be the same."""
        user = self.users[0]
        connection = user.flow.connection
        alive = connection.state is not State.CLOSED
        return (
            connection.state, user.data, tuple(user.calls), bytes(self.replied), len(self.users),
            alive and connection.receiver.nxt, alive and (connection.sender.una - self.isn) & MASK,
            alive and (connection.sender.nxt - self.isn) & MASK, alive and connection.receiver.sacks(100) == [],
            alive and self.resets > 0, connection._fin_early, sorted(connection.receiver.early.ranges()),
        )  # fmt: skip


def _packet(seq: int, ack: int, flags: int, payload: bytes) -> bytes:
    """From the peer; a large one as a super-segment."""
    options = b"\2\4" + MSS.to_bytes(2, "big") if flags & SYN else b""
    segment = TCP_HEADER.pack(
        40000, PORT, ISN + seq & MASK, ack & MASK, (20 + len(options)) << 2, flags, 60_000, 0, 0,
    ) + options + payload  # fmt: skip
    total = 20 + len(segment)
    ip = b"\x45\0" + total.to_bytes(2, "big") + b"\0\0\x40\0\x40\x06\0\0" + PEER + HOST
    vnet = NO_OFFLOAD if len(payload) <= MSS else VNET.pack(0, GSO_TCPV4, 40, MSS, 20, 16)
    return (NO_OFFLOAD if VNET.unpack(vnet)[1] == GSO_NONE else vnet) + repairs.ip(ip + segment)


def _cut(seq: int, ack: int, flags: int, payload: bytes) -> list[bytes]:
    """As segments; FIN and PSH belong to the last."""
    if len(payload) <= MSS or flags & (SYN | RST):
        return [_packet(seq, ack, flags, payload)]
    last = (len(payload) - 1) // MSS * MSS
    return [
        _packet(seq + at, ack, flags if at == last else flags & ~(FIN | PSH), payload[at : at + MSS])
        for at in range(0, len(payload), MSS)
    ]


class Peer:
    """What the program makes the peer say. Of what lies behind its FIN it says nothing: there a piece that ends with
    the FIN's number is believed, and a whole that goes on beyond it is not (only a liar sends both).
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._next = 1
        self._end = len(TEXT) - 20_000
        self._said = 1
        """Behind the last byte it said."""

    @property
    def done(self) -> bool:
        return self._at + 4 > len(self._data)

    def burst(self, may: int) -> list[tuple[int, int, int, bytes]]:
        """Sequence number, acknowledgement of up to `may` of ours, flags and payload of each segment."""
        told: list[tuple[int, int, int, bytes]] = []
        while not self.done and len(told) < 20:
            how, where, length, acked = self._data[self._at : self._at + 4]
            self._at += 4
            flags = (ACK, ACK, ACK | PSH, ACK | FIN, RST, SYN, ACK | SYN, FIN)[how & 7]
            place = how >> 3 & 7
            seq = self._next + (0, 0, 0, where * 8, -where * 8, 1, -1, where)[place]
            seq = min(max(seq, 1), self._end)
            payload = TEXT[seq - 1 : max(min(seq - 1 + length * 40, self._end - 1), seq - 1)]
            if flags & (SYN | RST):
                payload = b""
            elif flags & FIN and seq + len(payload) >= self._said:
                self._end = seq + len(payload)
            else:
                flags &= ~FIN
            self._said = max(self._said, seq + len(payload))
            told.append((seq, max(may - acked * 12, 1), flags, payload))
            if place < 3 and not flags & (SYN | RST):
                self._next = seq + len(payload)
            if how & 128:
                break
        return told


async def _run(data: bytes) -> object:
    sides = whole, single, cut = Side(), Side(), Side()
    try:
        for side in sides:
            side.begin()
        peer, bursts = Peer(data), 0
        while not peer.done and bursts < STEPS:
            bursts += 1
            told = peer.burst((whole.users[0].flow.connection.sender.nxt - whole.isn) & MASK)
            whole.takes([_packet(seq, whole.isn + ack, flags, payload) for seq, ack, flags, payload in told])
            for seq, ack, flags, payload in told:
                single.takes([_packet(seq, single.isn + ack, flags, payload)])
            cut.takes([one for seq, ack, flags, payload in told for one in _cut(seq, cut.isn + ack, flags, payload)])
            stood = whole.stands()
            assert single.stands() == stood, "one by one"
            assert cut.stands() == stood, "cut into segments"
            if stood[0] is State.CLOSED or len(whole.users) > 1:
                break  # what comes now belongs to no connection, or to another
        state, received, calls = whole.stands()[:3]
        assert isinstance(received, bytes)
        assert received == TEXT[: len(received)]
        return state, calls, min(bursts, 4), bool(received)
    finally:
        for side in sides:
            side.stack.close()


def run(data: bytes) -> object:
    return _loop.run_until_complete(_run(data))
