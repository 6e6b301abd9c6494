"""The framed link between a fake channel and a fake stack: what is written, when it waits, and how it ends."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbridge.bridge.agent.frames import (
    ACK,
    CONTROL,
    COUNT,
    MAX_PACKET,
    PACKET,
    PING,
    PONG,
    ack_frame,
    control_frame,
    frame_header,
)
from netbridge.bridge.agent.window import CAP, COALESCE, INITIAL, LAZY
from netbridge.bridge.link import MAX_PINGS
from netbridge.stack.link.base import LinkError

from .bench import Bench, packet


def test_a_packet_is_written_as_header_and_the_very_payload() -> None:
    bench = Bench()
    header, payload = bytearray(range(64)), b"p" * 1400
    bench.link.send(header, payload)
    (buffers,) = bench.channel.written
    assert buffers[1] is payload
    header[:] = bytes(64)  # the caller uses it again
    assert bench.channel.frames() == [(PACKET, bytes(range(64)) + payload)]
    bench.link.send(bytes(40))
    assert bench.channel.frames() == [(PACKET, bytes(40))]
    assert bench.link.counters.packets_out == 2
    assert bench.link.counters.bytes_out == 64 + 1400 + 40 == bench.link.counters.in_flight


def test_packets_are_delivered_as_views_of_what_was_read() -> None:
    bench = Bench()
    data = bytearray(packet(b"a" * 40) + packet(b"b" * 50))
    bench.link.data_received(memoryview(data))
    assert bench.stack.packets == [b"a" * 40, b"b" * 50]
    assert all(view is data for view in bench.stack.views)


@given(st.lists(st.binary(min_size=30, max_size=3000), max_size=20), st.randoms(use_true_random=False))
def test_packets_survive_any_cuts(packets: list[bytes], rng: random.Random) -> None:
    bench = Bench()
    data = b"".join(map(packet, packets))
    while data:
        cut = rng.randint(1, 4000)
        bench.receive(data[:cut])
        data = data[cut:]
    assert bench.stack.packets == packets


def test_it_is_not_ready_while_the_window_is_full_and_says_so_once_it_is_not() -> None:
    bench = Bench()
    for _ in range(INITIAL // 65536):
        assert bench.link.ready
        bench.link.send(bytes(54), bytes(65536 - 54))
    assert not bench.link.ready
    bench.link.send(bytes(54))  # an acknowledgement goes all the same
    bench.receive(ack_frame(0))
    assert bench.stack.readies == 0
    bench.receive(ack_frame(INITIAL))  # less might not do: the window follows the time this test took
    assert bench.stack.readies == 1
    assert bench.link.ready
    bench.receive(ack_frame(INITIAL + 54))
    assert bench.stack.readies == 1  # nobody waits
    assert 0 < bench.link.counters.window <= CAP


def test_it_is_not_ready_while_the_channel_is_not() -> None:
    bench = Bench()
    bench.channel.room = False
    assert not bench.link.ready
    bench.receive(ack_frame(0))
    assert bench.stack.readies == 0
    bench.channel.room = True
    bench.link.channel_ready()
    assert bench.stack.readies == 1


def test_what_was_taken_is_acknowledged_within_a_burst_and_at_its_end() -> None:
    bench = Bench()
    big = packet(bytes(65536))
    bench.link.data_received(memoryview(big * 4))
    assert bench.channel.frames() == [(ACK, COUNT.pack(COALESCE))]
    bench.link.data_received(memoryview(big))
    assert bench.channel.frames() == []
    bench.link.burst_ended()
    assert bench.channel.frames() == [(ACK, COUNT.pack(COALESCE + 65536))]
    bench.receive(packet(bytes(LAZY - 1)))
    assert bench.channel.frames() == []
    bench.receive(packet(bytes(30)))
    assert bench.channel.frames() == [(ACK, COUNT.pack(COALESCE + 65536 + LAZY + 29))]
    assert bench.stack.bursts == 3


def test_pings_are_answered_and_ours_are_timed() -> None:
    bench = Bench()
    bench.receive(frame_header(PING, 8) + b"12345678")
    assert bench.channel.frames() == [(PONG, b"12345678")]
    times: list[float] = []
    assert bench.link.ping(times.append)
    ((kind, payload),) = bench.channel.frames()
    assert kind == PING
    bench.receive(frame_header(PONG, 8) + payload)
    assert len(times) == 1
    assert bench.link.rtt == times[0] < 5
    assert all(bench.link.ping() for _ in range(MAX_PINGS))
    assert not bench.link.ping()


def test_control_messages_go_both_ways_also_without_a_stack() -> None:
    bench = Bench(started=False)
    bench.receive(control_frame({"type": "hello", "protocol": 1}), packet(bytes(40)))
    assert bench.messages == [{"type": "hello", "protocol": 1}]
    assert bench.link.counters.unwanted == 1
    bench.link.send_control({"type": "stop"})
    assert bench.channel.frames() == [(CONTROL, b'{"type":"stop"}')]


@pytest.mark.parametrize(
    ("junk", "why"),
    [
        (b"\x00\x00\x00\x00", "unknown frame type 0"), (b"\x09\x00\x00\x01", "unknown frame type 9"),
        (frame_header(PACKET, MAX_PACKET + 1), "frame of type 1"), (ack_frame(1), "acknowledgement of 1 bytes"),
        (frame_header(PONG, 8) + bytes(8), "a PONG without its PING"),
        (frame_header(PONG, 8) + b"12345678", "a PONG without its PING"),
        (frame_header(CONTROL, 2) + b"{}", "object with a type"),
        (b"Connection closed by peer\n", "unknown frame type"),
    ],
)  # fmt: skip
def test_a_broken_protocol_ends_link_and_channel(junk: bytes, why: str) -> None:
    bench = Bench()
    bench.receive(packet(b"x" * 40) + junk + packet(b"y" * 40))
    assert bench.stack.packets == [b"x" * 40]
    (error,) = bench.stack.lost
    assert isinstance(error, LinkError)
    assert str(error).startswith("link_lost: ")
    assert why in str(error)
    assert bench.lost == [error]
    assert bench.channel.closed == 1
    with pytest.raises(LinkError):
        bench.link.send_control({"type": "stop"})
    bench.channel.written.clear()
    bench.link.send(bytes(40))
    assert not bench.link.ping()
    bench.receive(packet(bytes(40)))
    assert bench.channel.written == []


def test_the_end_of_the_channel_is_a_loss_and_told_once() -> None:
    bench = Bench()
    bench.link.channel_lost(None)
    bench.link.channel_lost(OSError("again"))
    bench.link.close()
    assert len(bench.stack.lost) == len(bench.lost) == 1
    assert isinstance(bench.stack.lost[0], LinkError)


def test_a_close_is_no_loss() -> None:
    bench = Bench()
    bench.link.close()
    assert bench.stack.lost == bench.lost == [None]


def test_a_packet_no_frame_can_carry_is_dropped_and_counted() -> None:
    bench = Bench()
    bench.link.send(bytes(54), bytes(MAX_PACKET))
    assert bench.channel.written == []
    assert bench.link.counters.oversized == 1


def test_a_stack_that_closes_the_link_from_within_a_packet_gets_no_more() -> None:
    bench = Bench()
    take = bench.stack.packet_received

    def close(packet: memoryview) -> None:
        take(packet)
        bench.link.close()

    bench.stack.packet_received = close  # type: ignore[method-assign]
    bench.receive(packet(bytes(40)), packet(bytes(40)), packet(bytes(40)))
    assert len(bench.stack.packets) == 1
    assert bench.stack.lost == [None]


def test_small_frames_of_one_turn_leave_together_and_in_order() -> None:
    bench = Bench()
    bench.turn_lasts = True
    bench.link.send(bytes(40), b"one")
    bench.link.send(bytes(40), b"two")
    assert bench.channel.written == []
    bench.link.send_control({"type": "stop"})
    bench.link.send(bytes(40), b"three")
    large = b"x" * 8000
    bench.link.send(bytes(40), large)
    assert len(bench.channel.written) == 2
    kinds = [kind for kind, _ in bench.channel.frames()]
    assert kinds == [PACKET, PACKET, CONTROL, PACKET, PACKET]
    bench.link.send(bytes(40), b"four")
    for callback in bench.later:
        callback()
    assert bench.channel.frames()[-1] == (PACKET, bytes(40) + b"four")


def test_what_was_gathered_leaves_before_the_end() -> None:
    bench = Bench()
    bench.turn_lasts = True
    bench.link.send(bytes(40), b"a reset")
    bench.link.close()
    assert bench.channel.frames() == [(PACKET, bytes(40) + b"a reset")]
    for callback in bench.later:
        callback()
