"""An other end that causes answers and never takes them: what waits for it stays bounded, and the link survives."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from netbridge.bridge.agent.frames import MAX_PACKET, PACKET, PING, ack_frame, frame_header
from netbridge.bridge.agent.window import INITIAL
from netbridge.bridge.link import UNASKED, FramedLink
from netbridge.bridge.transport.base import Buffer, Channel, ChannelUser
from netbridge.bridge.transport.outgoing import MOST_WAITING
from netbridge.stack import Stack
from netbridge.stack.icmp.wire import emit
from netbridge.stack.ipv4 import emit_header

HERE, THERE = bytes((198, 18, 0, 1)), bytes((198, 18, 0, 2))


class Stuck(Channel):
    """A channel whose other end reads nothing: what is written waits."""

    def __init__(self, *, ready: bool) -> None:
        self.waiting = 0
        self.is_ready = ready

    def start(self, user: ChannelUser) -> None:
        pass

    def write(self, buffers: Sequence[Buffer]) -> None:
        self.waiting += sum(map(len, buffers))

    @property
    def ready(self) -> bool:
        return self.is_ready

    def close(self) -> None:
        pass

    async def wait_closed(self) -> int | None:
        return 0


def echo_request(size: int) -> bytes:
    message = emit(4, THERE, HERE, 8, 0, 1, 1, bytes(size))
    packet = bytes(10) + emit_header(THERE, HERE, 1, len(message)) + message
    return frame_header(PACKET, len(packet)) + packet


# Bytes in all: more than a channel may keep, so that without a bound here the channel's own would end in an exception.
@pytest.mark.parametrize(("size", "count"), [(60000, 2 * MOST_WAITING // 60000), (56, 20000)])
async def test_pings_whose_answers_nobody_takes(size: int, count: int) -> None:
    channel = Stuck(ready=True)
    link = FramedLink(channel, on_control=print, on_lost=print, soon=lambda callback: callback())
    async with Stack(link, ["198.18.0.1/30"]):
        ping = memoryview(echo_request(size))
        for _ in range(count):
            link.data_received(ping)
        link.burst_ended()
        assert channel.waiting <= INITIAL + UNASKED + 2 * MAX_PACKET
        assert link.counters.dropped

        # When it takes them after all, the next ping is answered.
        link.data_received(memoryview(ack_frame(link.counters.bytes_out)))
        answers = link.counters.packets_out
        link.data_received(ping)
        assert link.counters.packets_out > answers


async def test_a_peer_that_acknowledges_what_it_has_not_read() -> None:
    """The window is wide open then; the channel still says that nothing moves."""
    channel = Stuck(ready=False)
    link = FramedLink(channel, on_control=print, on_lost=print, soon=lambda callback: callback())
    async with Stack(link, ["198.18.0.1/30"]):
        for _ in range(200):
            link.data_received(memoryview(echo_request(60000)))
            link.data_received(memoryview(ack_frame(link.counters.bytes_out)))
        assert channel.waiting <= UNASKED + 16 * 200
        assert link.counters.dropped


@pytest.mark.parametrize("size", [0, 1, 16, 19, 20])
async def test_a_runt_on_the_tun_ends_nothing(size: int) -> None:
    """A raw socket over there can send packets shorter than an IP header; the agent hands over what the TUN gives."""
    lost: list[Exception | None] = []
    link = FramedLink(Stuck(ready=True), on_control=print, on_lost=lost.append, soon=lambda callback: callback())
    async with Stack(link, ["198.18.0.1/30"]) as stack:
        link.data_received(memoryview(frame_header(PACKET, 10 + size) + bytes(10) + b"\x45" * size))
        assert not lost
        assert stack.counters.malformed == 1


async def test_questions_of_a_peer_that_reads_nothing_stay_unanswered() -> None:
    channel = Stuck(ready=False)
    link = FramedLink(channel, on_control=print, on_lost=print, soon=lambda callback: callback())
    async with Stack(link, ["198.18.0.1/30"]):
        before = channel.waiting
        link.data_received(memoryview((frame_header(PING, 8) + bytes(8)) * 1000))
        assert channel.waiting == before
        assert link.counters.pongs_withheld == 1000


async def test_what_is_sent_after_the_end_of_the_link_is_counted() -> None:
    link = FramedLink(Stuck(ready=True), on_control=print, on_lost=print, soon=lambda callback: callback())
    link.send(bytes(10), bytes(20))
    link.close()
    link.send(bytes(10), bytes(20))
    assert (link.counters.packets_out, link.counters.too_late, link.counters.oversized) == (1, 1, 0)
