"""Whatever is acknowledged or said to be taken, a link that broke goes on with the next packet, once each, in order.

The input is a program for the session's link: packets both ways, acknowledgements, PONGs, cuts, resumptions, some with
numbers that cannot be. Those end the link by its own error; what is kept is what was sent and not acknowledged.
"""

from __future__ import annotations

from typing import Any

from fuzz.line import ListChannel, ListUser
from netbridge.bridge.agent.frames import ACK, COUNT, PACKET, PONG, Decoder, FrameError, ack_frame, frame_header
from netbridge.bridge.agent.window import CAP
from netbridge.bridge.errors import BridgeError
from netbridge.bridge.link import MAX_PINGS, UNASKED, FramedLink

STEPS = 60
LARGEST = 70_000


class _Ends:
    """The session's link, and what the agent would know."""

    def __init__(self) -> None:
        self.channel = ListChannel()
        self.ended: list[Exception | None] = []
        self.soon: list[Any] = []
        self.link = FramedLink(
            self.channel, on_control=lambda message: None, on_lost=self.ended.append, soon=self.soon.append,
        )
        self.link.lasting = True
        self.user = ListUser()
        self.link.start(self.user)
        self.sent: list[tuple[int, bytes]] = []
        """Bytes sent up to and with each packet, and the packet."""
        self.given: list[bytes] = []
        self.resumed = 0

    @property
    def total(self) -> int:
        return self.sent[-1][0] if self.sent else 0

    def boundary(self, choice: int, wild: int) -> int:
        """A number of bytes: of a packet's end that may still be named, or (wild) any."""
        if wild & 3 == 3:
            return (self.total + choice - 128) & (1 << 64) - 1 if wild & 4 else choice << (wild & 0x38)
        ends = [0, *(end for end, _ in self.sent)]
        ends = [end for end in ends if end >= self.link._window.acked]
        return ends[choice % len(ends)]

    def send(self, size: int, mark: int) -> None:
        packet = bytes(10) + bytes([mark]) * size
        before = self.link.counters.packets_out
        self.link.send(packet[:40], packet[40:])
        if self.link.counters.packets_out > before:
            self.sent.append((self.total + len(packet), packet))

    def settle(self) -> None:
        """The event loop's turn ends."""
        waiting, self.soon = self.soon, []
        for callback in waiting:
            callback()


def run(data: bytes) -> object:
    ends = _Ends()
    labels = []
    for at in range(0, min(len(data) - 2, 3 * STEPS), 3):
        label = _step(ends, *data[at : at + 3])
        if ends.ended:
            break
        _check(ends)
        labels.append(label)
    ends.settle()
    if ends.ended:
        (error,) = ends.ended
        assert isinstance(error, OSError | BridgeError) or error is None
        assert not ends.link._kept
        assert ends.channel.closed
        assert ends.user.lost == [error]
    assert ends.user.packets == ends.given[: len(ends.user.packets)]
    counters = ends.link.counters
    return bool(ends.ended), ends.resumed > 1, min(counters.sent_again, 3), counters.dropped > 0, *labels[-1:]


def _step(ends: _Ends, what: int, first: int, second: int) -> str:
    link, channel = ends.link, ends.channel
    match what % 9:
        case 0 | 1:
            ends.send(min(first << (second & 15), LARGEST), what)
        case 2:
            packet = bytes([what]) * (10 + first)
            _hear(ends, frame_header(PACKET, len(packet)) + packet)
        case 3:
            _hear(ends, ack_frame(ends.boundary(first, second)))
        case 4:
            number = link._pings[0][0] if link._pings and not second & 1 else first
            _hear(ends, frame_header(PONG, 8) + COUNT.pack(number))
        case 5:
            link.cut(ConnectionResetError() if first & 1 else None)
            return "cut"
        case 6:
            return _resume(ends, first, second)
        case 7:
            link.burst_ended()
            channel.room = bool(first & 1)
            assert link.ready <= channel.room
            ends.settle()
        case 8:
            link.ping(lambda seconds: None)
            assert len(link._pings) <= MAX_PINGS
    return ""


def _hear(ends: _Ends, frame: bytes) -> None:
    if not ends.link._attached:
        return  # nobody speaks on a channel that is gone
    if frame[0] == PACKET:
        ends.given.append(frame[4:])
    ends.link.data_received(memoryview(frame))


def _resume(ends: _Ends, first: int, second: int) -> str:
    link = ends.link
    ends.settle()
    total = ends.boundary(first, second)
    honest = link._window.acked <= total and total in {0, *(end for end, _ in ends.sent)}
    ends.channel = channel = ListChannel()
    link.cut(None)
    link.attach(channel)
    taken = link.taken
    try:
        link.resume(total)
    except FrameError as error:
        assert not honest
        link.fail(ConnectionAbortedError(str(error)))
        return "refused"
    assert honest
    assert taken == link.taken
    again = [packet for end, packet in ends.sent if end > total]
    assert _packets(channel) == again
    ends.resumed += 1
    return "resumed"


def _packets(channel: ListChannel) -> list[bytes]:
    found = []
    for kind, payload in Decoder().feed(memoryview(b"".join(channel.written))):
        assert kind in {PACKET, ACK, 4}
        if kind == PACKET:
            found.append(bytes(payload))
    return found


def _check(ends: _Ends) -> None:
    window = ends.link._window
    assert window.sent == ends.total
    assert 0 <= window.acked <= window.sent
    kept = [end for end, _, _ in ends.link._kept]
    assert kept == [end for end, _ in ends.sent if end > window.acked]
    assert window.in_flight <= CAP + UNASKED + LARGEST + 100
    assert ends.link._unasked <= UNASKED
