from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from netbridge.stack.link import FaultLink, Faults
from netbridge.stack.vnet import NO_OFFLOAD, VNET_LEN
from tests.stack.fake import RecordingLink, RecordingUser, dissect, raw, rebuilt
from tests.stack.link.test_offload import super_segment


class Clock:
    """Time that moves when told, and calls what is due on the way."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()

    def schedule(self, seconds: float, function: Callable[[], None]) -> None:
        # Equal times run in reverse order: the device must not depend on it.
        heapq.heappush(self.calls, (self.now + seconds, -next(self.order), function))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.calls and self.calls[0][0] <= end:
            self.now, _, function = heapq.heappop(self.calls)
            function()
        self.now = end


def device(
    seed: int = 1, *, sent: Faults = Faults(), received: Faults = Faults(),
) -> tuple[FaultLink, RecordingLink, Clock]:
    inner, clock = RecordingLink(), Clock()
    link = FaultLink(inner, seed=seed, sent=sent, received=received, clock=lambda: clock.now, schedule=clock.schedule)
    link.start(RecordingUser())
    return link, inner, clock


def packet(index: int) -> bytes:
    return NO_OFFLOAD + index.to_bytes(4, "big") + bytes(96)


def indexes(packets: list[bytes]) -> list[int]:
    return [int.from_bytes(data[10:14], "big") for data in packets]


def fate(seed: int, faults: Faults, count: int = 500) -> list[tuple[float, bytes]]:
    link, inner, clock = device(seed, sent=faults)
    seen: list[tuple[float, bytes]] = []
    inner.send = lambda header, payload=b"": seen.append((clock.now, bytes(header)))  # type: ignore[method-assign]
    for index in range(count):
        link.send(packet(index))
        clock.advance(0.001)
    clock.advance(100.0)
    return seen


STORM = Faults(loss=0.1, duplicate=0.1, corrupt=0.1, reorder=0.1, delay=0.02, jitter=0.01, rate=200_000)


def test_the_same_seed_is_the_same_fate() -> None:
    assert fate(7, STORM) == fate(7, STORM)
    assert fate(7, STORM) != fate(8, STORM)


def test_without_faults_everything_passes_at_once() -> None:
    link, inner, clock = device()
    for index in range(10):
        link.send(packet(index)[:12], packet(index)[12:])
    assert inner.sent == [packet(index) for index in range(10)]
    assert not clock.calls


def test_more_loss_loses_the_same_packets_and_others() -> None:
    few = set(indexes([data for _, data in fate(3, Faults(loss=0.05))]))
    many = set(indexes([data for _, data in fate(3, Faults(loss=0.3))]))
    assert many < few
    assert 0.6 < len(many) / 500 < 0.8


def test_delay_and_jitter_keep_the_order() -> None:
    seen = fate(1, Faults(delay=0.5, jitter=0.1))
    assert indexes([data for _, data in seen]) == list(range(500))
    assert all(0.5 <= at - index * 0.001 <= 0.6001 for index, (at, _) in enumerate(seen))


def test_reordering_lets_others_overtake() -> None:
    order = indexes([data for _, data in fate(1, Faults(reorder=0.05, reorder_delay=0.005))])
    assert sorted(order) == list(range(500))
    late = [earlier for earlier, later in itertools.pairwise(order) if later < earlier]
    assert 10 < len(late) < 50


def test_duplicates_and_flipped_bits_are_counted() -> None:
    link, inner, _ = device(5, sent=Faults(duplicate=0.2, corrupt=0.2))
    for _ in range(500):
        link.send(packet(0))
    assert len(inner.sent) == 500 + link.sent.duplicated == link.sent.passed
    damaged = [data for data in inner.sent if data != packet(0)]
    original = int.from_bytes(packet(0), "big")
    assert all((int.from_bytes(data, "big") ^ original).bit_count() == 1 for data in damaged)
    assert all(data[:10] == NO_OFFLOAD for data in damaged)
    assert 60 < link.sent.corrupted < 140
    assert len(set(damaged)) > 50


@pytest.mark.parametrize(("layer", "field"), [(IP, "tos"), (IPv6, "tc")])
def test_marks_are_for_those_who_understand_them(layer: Any, field: str) -> None:
    """RFC 3168, section 5: ECT(0) and ECT(1) become CE, and an IPv4 header checksum stays right."""
    for codepoint, passed in ((0, 0), (1, 3), (2, 3), (3, 3)):
        link, inner, _ = device(sent=Faults(mark=1.0))
        link.send(NO_OFFLOAD + raw(layer(**{field: 0xB8 | codepoint}) / TCP() / b"data"))
        (data,) = inner.sent
        assert getattr(dissect(data[VNET_LEN:]), field) == 0xB8 | passed
        assert rebuilt(dissect(data[VNET_LEN:])) == data[VNET_LEN:]
        assert link.sent.marked == (codepoint in (1, 2))


def test_marks_change_no_other_fate() -> None:
    plain, marked = fate(5, STORM), fate(5, dataclasses.replace(STORM, mark=0.5))
    assert [at for at, _ in plain] == [at for at, _ in marked]


def test_the_rate_spaces_packets_and_its_queue_is_bounded() -> None:
    link, inner, clock = device(sent=Faults(rate=11_000, queue=2_250))
    for index in range(100):
        link.send(packet(index))  # 110 bytes: 10 ms each
    assert link.sent.overflowed == 80
    clock.advance(0.1001)
    assert len(inner.sent) == 10
    clock.advance(10.0)
    assert indexes(inner.sent) == list(range(20))
    link.send(packet(99))
    clock.advance(0.02)
    assert len(inner.sent) == 21


def test_both_directions_have_their_own_weather() -> None:
    link, inner, clock = device(received=Faults(loss=1.0))
    link.packet_received(memoryview(packet(1)))
    link.send(packet(2))
    assert isinstance(link.user, RecordingUser)
    assert link.user.packets == []
    assert indexes(inner.sent) == [2]
    link.set_faults(received=Faults(delay=1.0), sent=Faults(loss=1.0))
    link.packet_received(memoryview(packet(3)))
    link.send(packet(4))
    clock.advance(1.0)
    assert indexes(link.user.packets) == [3]
    assert link.user.bursts == 1
    assert indexes(inner.sent) == [2]


def test_nothing_comes_after_the_end() -> None:
    link, inner, clock = device(sent=Faults(delay=1.0), received=Faults(delay=1.0))
    link.send(packet(1))
    link.packet_received(memoryview(packet(2)))
    link.close()
    clock.advance(2.0)
    assert inner.sent == []
    assert isinstance(link.user, RecordingUser)
    assert link.user.packets == []


def test_super_segments_are_cut_where_asked_or_needed() -> None:
    segment = super_segment(4, bytes(5000), 1448)
    for options, count in (({}, 1), ({"offload": False}, 4), ({"sent": Faults(corrupt=1e-9)}, 4)):
        inner, clock = RecordingLink(offload=True), Clock()
        link = FaultLink(inner, clock=lambda clock=clock: clock.now, schedule=clock.schedule, **options)  # type: ignore[misc]
        link.start(RecordingUser())
        link.send(segment)
        assert len(inner.sent) == count
        assert link.offload == (options.get("offload") is not False)


async def test_by_default_time_is_the_event_loops() -> None:
    import asyncio

    inner = RecordingLink()
    link = FaultLink(inner, sent=Faults(delay=0.01))
    link.start(RecordingUser())
    link.send(packet(1))
    assert inner.sent == []
    await asyncio.sleep(0.05)
    assert indexes(inner.sent) == [1]
