from __future__ import annotations

import asyncio

from netbridge.stack.link import LinkError, memory_link
from netbridge.stack.link.memory import HIGH, LIMIT
from netbridge.stack.vnet import NO_OFFLOAD, VNET_LEN
from tests.stack.fake import RecordingUser
from tests.stack.link.test_offload import super_segment


async def settle() -> None:
    for _ in range(500):
        await asyncio.sleep(0)


async def test_packets_arrive_in_order_later_and_in_one_piece() -> None:
    one, other = memory_link()
    left, right = RecordingUser(), RecordingUser()
    one.start(left)
    other.start(right)
    header = bytearray(NO_OFFLOAD + b"head")
    for index in range(200):
        header[-1] = index
        one.send(header, b"payload")
    other.send(NO_OFFLOAD, b"back")
    assert right.packets == left.packets == []
    await settle()
    assert right.packets == [NO_OFFLOAD + b"hea" + bytes([index]) + b"payload" for index in range(200)]
    assert left.packets == [NO_OFFLOAD + b"back"]
    assert right.bursts == 4  # in batches


async def test_what_was_sent_before_the_other_end_started_waits() -> None:
    one, other = memory_link()
    user = RecordingUser()
    one.start(RecordingUser())
    one.send(NO_OFFLOAD, b"early")
    await settle()
    other.start(user)
    await settle()
    assert user.packets == [NO_OFFLOAD + b"early"]


async def test_without_offload_super_segments_are_cut() -> None:
    one, other = memory_link(offload=False)
    user = RecordingUser()
    one.start(RecordingUser())
    other.start(user)
    one.send(super_segment(4, bytes(5000), 1448))
    await settle()
    assert len(user.packets) == 4
    assert all(packet[:VNET_LEN] == NO_OFFLOAD and len(packet) <= 1510 for packet in user.packets)


async def test_the_queue_is_bounded_and_says_when_it_has_room() -> None:
    one, other = memory_link()
    left, right = RecordingUser(), RecordingUser()
    one.start(left)
    packet = bytes(64 * 1024)
    while one.ready:
        one.send(NO_OFFLOAD, packet)
    assert HIGH < one._queued < HIGH + len(packet) * 2
    while not one.dropped:
        one.send(NO_OFFLOAD, packet)
    assert one._queued < LIMIT + len(packet) * 2
    assert left.readies == 0
    other.start(right)
    await settle()
    assert one.ready
    assert left.readies == 1


async def test_either_end_ends_both_once() -> None:
    one, other = memory_link()
    left, right = RecordingUser(), RecordingUser()
    one.start(left)
    other.start(right)
    one.send(NO_OFFLOAD, b"lost")
    one.close()
    other.close()
    one.send(NO_OFFLOAD, b"late")
    await settle()
    assert left.lost == [None]
    (error,) = right.lost
    assert isinstance(error, LinkError)
    assert right.packets == []


async def test_closing_while_packets_are_delivered() -> None:
    one, other = memory_link()

    class Closer(RecordingUser):
        def packet_received(self, packet: memoryview) -> None:
            super().packet_received(packet)
            other.close()

    closer = Closer()
    one.start(RecordingUser())
    other.start(closer)
    for _ in range(3):
        one.send(NO_OFFLOAD, b"x")
    await settle()
    assert len(closer.packets) == 1
