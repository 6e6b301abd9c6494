"""A framed link that outlives its channel: what is kept, what is dropped, and an other end that lies about it."""

from __future__ import annotations

import pytest

from netbridge.bridge.agent.frames import (
    ACK,
    COUNT,
    PACKET,
    PING,
    Decoder,
    FrameError,
    ack_frame,
    control_frame,
    frame_header,
)
from netbridge.bridge.agent.window import INITIAL, LAZY
from netbridge.bridge.link import MAX_PINGS, UNASKED
from netbridge.stack.link.base import LinkError

from .bench import Bench, FakeChannel, packet


def bench(*, cut: bool = False) -> Bench:
    """A link that is lasting."""
    bench = Bench()
    bench.link.lasting = True
    if cut:
        bench.link.channel_lost(None)
    return bench


def attach(bench: Bench) -> FakeChannel:
    """Another channel, as `AgentHandle.resume` does it."""
    channel = bench.channel = FakeChannel()
    bench.link.attach(channel)
    channel.start(bench.link)
    return channel


def test_a_channel_that_ends_cuts_the_link_off_and_ends_it_not() -> None:
    it = bench()
    assert it.link.ready
    it.link.channel_lost(OSError("gone"))
    assert [str(error) for error in it.cuts] == ["gone"]
    assert not it.link.ready
    assert not it.link.carrying
    assert it.lost == it.stack.lost == []
    assert it.channel.closed == 1
    assert it.link.counters.cut_off == 1
    it.link.channel_lost(None)
    it.link.cut(None)
    assert len(it.cuts) == 1


def test_a_link_that_is_not_lasting_ends_by_a_cut() -> None:
    it = Bench()
    it.link.cut(OSError("gone"))
    assert it.cuts == []
    assert [str(error) for error in it.lost] == ["gone"]


def test_nothing_is_written_to_a_dead_channel() -> None:
    it = bench(cut=True)
    it.channel.written.clear()
    it.turn_lasts = True
    it.link.send(bytes(40), b"small")
    it.link.send(bytes(40), bytes(9000))
    assert not it.link.ping()
    with pytest.raises(LinkError):
        it.link.send_control({"type": "routes"})
    it.receive(frame_header(PING, 8) + bytes(8), packet(bytes(LAZY * 2)))
    it.link.burst_ended()
    it.link.channel_ready()
    for callback in it.later:
        callback()
    assert it.channel.written == []
    assert it.stack.packets == []
    assert it.stack.readies == 0


def test_what_was_gathered_when_it_broke_comes_once() -> None:
    it = bench()
    it.turn_lasts = True
    it.link.send(bytes(40), b"one")
    it.link.channel_lost(None)
    for callback in it.later:
        callback()
    assert it.channel.written == []
    attach(it)
    it.link.resume(0)
    it.turn_lasts = False
    it.link.send(bytes(40), b"two")
    assert [payload[40:] for _, payload in it.channel.frames()] == [b"one", b"two"]
    assert it.link.counters.sent_again == 1


def test_what_the_stack_sends_meanwhile_is_kept_within_a_bound() -> None:
    it = bench(cut=True)
    sent = [bytes([number % 256]) * 1000 for number in range(2 * UNASKED // 1000)]
    for data in sent:
        it.link.send(data)
    kept = UNASKED // 1000
    assert it.link.counters.packets_out == kept
    assert it.link.counters.dropped == len(sent) - kept
    assert it.link.counters.in_flight == kept * 1000
    channel = attach(it)
    assert not it.link.ready
    it.link.resume(0)
    assert [payload for _, payload in channel.frames()] == sent[:kept]
    assert not it.link.ready  # it is more than the window
    it.receive(ack_frame(kept * 1000))
    assert it.link.ready


def test_an_other_end_that_resumes_and_takes_nothing_fills_no_memory() -> None:
    """Again and again, each time in between the stack has something to say unasked."""
    it = bench()
    for _ in range(20):
        it.link.channel_lost(None)
        for _ in range(UNASKED // 1000):
            it.link.send(bytes(1000))
        attach(it)
        it.link.resume(0)
    assert it.link.counters.in_flight <= INITIAL + 2 * UNASKED
    assert len(it.link._kept) * 1000 == it.link.counters.in_flight


def test_acknowledged_packets_are_not_kept() -> None:
    it = bench()
    for _ in range(5000):
        it.link.send(bytes(100))
        it.receive(ack_frame(it.link._window.sent))
    assert not it.link._kept
    it.link.close()
    assert not it.link._kept


def test_resuming_sends_the_rest_in_order_and_tells_the_stack() -> None:
    it = bench()
    for size in (50, 6000, 70):
        it.link.send(bytes(size))
    it.link.channel_lost(None)
    assert not it.link.ready  # the stack waits
    it.link.send(bytes(80))
    channel = attach(it)
    assert it.stack.readies == 0
    it.link.resume(50)
    assert [len(payload) for kind, payload in channel.frames() if kind == PACKET] == [6000, 70, 80]
    assert it.stack.readies == 1
    assert it.link.ready
    assert (it.link.counters.resumed, it.link.counters.sent_again) == (1, 3)
    it.receive(ack_frame(50 + 6000 + 70 + 80))
    assert it.link.counters.in_flight == 0
    assert it.lost == []


def test_what_was_taken_counts_on_over_channels() -> None:
    it = bench()
    it.receive(packet(bytes(LAZY)))
    assert it.channel.frames() == [(ACK, COUNT.pack(LAZY))]
    it.receive(packet(bytes(50)))
    it.link.channel_lost(None)
    assert it.link.taken == LAZY + 50
    channel = attach(it)
    it.link.resume(0)
    it.receive(packet(bytes(LAZY - 1)))
    assert channel.frames() == []  # what the resuming told counts as told
    it.receive(packet(bytes(10)))
    assert channel.frames() == [(ACK, COUNT.pack(LAZY + 50 + LAZY - 1 + 10))]


def test_half_a_frame_of_the_old_channel_is_forgotten() -> None:
    it = bench()
    whole = packet(b"x" * 100)
    it.receive(whole[:40])
    it.link.channel_lost(None)
    attach(it)
    it.link.resume(0)
    it.receive(whole)
    assert it.stack.packets == [b"x" * 100]


def test_questions_of_before_are_forgotten() -> None:
    it = bench()
    for _ in range(MAX_PINGS):
        assert it.link.ping()
    assert not it.link.ping()
    it.link.channel_lost(None)
    channel = attach(it)
    assert not it.link.ping()
    it.link.resume(0)
    assert it.link.ping()
    assert [kind for kind, _ in channel.frames()] == [PING]


def test_what_the_old_channel_still_says_is_for_nobody() -> None:
    """It was given up because nothing came; when its process ends at last, the link goes on over another one."""
    it = bench()
    old = it.channel
    it.link.cut(None)
    attach(it)
    it.link.resume(0)
    assert old.user is not None
    old.user.data_received(memoryview(bytearray(b"\xff" * 20)))
    old.user.burst_ended()
    old.user.channel_ready()
    old.user.channel_lost(OSError("the old one"))
    assert it.link.carrying
    assert len(it.cuts) == 1
    assert it.lost == []


def test_a_channel_that_was_no_good_is_given_up() -> None:
    it = bench(cut=True)
    channel = attach(it)
    it.link.detach(channel)
    assert channel.closed
    with pytest.raises(LinkError):
        it.link.send_control({"type": "resume"})
    assert it.link.counters.cut_off == 1  # it never was there
    other = attach(it)
    it.link.detach(channel)  # told late
    it.link.send_control({"type": "resume"})
    it.link.resume(0)
    assert it.link.carrying
    it.link.detach(other)  # who resumed it went away before he knew
    assert not it.link.carrying
    assert it.link.counters.cut_off == 2


# An other end that lies.


@pytest.mark.parametrize("total", [-1, 49, 1, 99, 101, 151, 1 << 63, 1 << 200])
def test_a_total_that_cannot_be_is_refused(total: int) -> None:
    it = bench()
    for _ in range(3):
        it.link.send(bytes(50))
    it.receive(ack_frame(50))
    it.link.channel_lost(None)
    attach(it)
    with pytest.raises(FrameError):
        it.link.resume(total)
    assert not it.link.carrying


def test_less_than_it_acknowledged_is_refused() -> None:
    it = bench()
    it.link.send(bytes(50))
    it.link.send(bytes(50))
    it.receive(ack_frame(50))
    it.link.channel_lost(None)
    attach(it)
    with pytest.raises(FrameError, match="50 acknowledged"):
        it.link.resume(0)


def test_an_acknowledgement_within_a_packet_is_no_place_to_go_on() -> None:
    it = bench()
    it.link.send(bytes(50))
    it.receive(ack_frame(20))
    it.link.channel_lost(None)
    attach(it)
    with pytest.raises(FrameError, match="no packet begins"):
        it.link.resume(20)


@pytest.mark.parametrize("early", [packet(bytes(40)), ack_frame(1), ack_frame(51), b"\x00\x00\x00\x00"])
def test_what_may_not_come_before_the_resumption_ends_the_link(early: bytes) -> None:
    it = bench()
    it.link.send(bytes(50))
    it.link.channel_lost(None)
    channel = attach(it)
    it.receive(control_frame({"type": "hello"}), early, control_frame({"type": "more"}))
    (error,) = it.lost
    assert "broke the protocol" in str(error)
    assert it.messages == [{"type": "hello"}]
    assert it.stack.packets == []
    assert channel.closed == 1
    it.link.attach(FakeChannel())
    it.link.channel_lost(None)
    assert len(it.cuts) == 1


def test_a_breach_of_the_protocol_ends_a_lasting_link_too() -> None:
    it = bench()
    it.receive(ack_frame(1))
    assert it.cuts == []
    assert "broke the protocol" in str(it.lost[0])
    assert not it.link.carrying


def test_frames_decode_as_they_were_written() -> None:
    """Frames that are sent again are the very bytes of the first time."""
    it = bench()
    for size in (10, 4000, 65_000):
        it.link.send(bytes(10), b"z" * size)
    first = b"".join(bytes(buffer) for buffers in it.channel.written for buffer in buffers)
    it.link.channel_lost(None)
    channel = attach(it)
    it.link.resume(0)
    again = b"".join(bytes(buffer) for buffers in channel.written for buffer in buffers)
    assert again == first
    assert [kind for kind, _ in Decoder().feed(memoryview(again))] == [PACKET] * 3
