"""Frames kept until they are acknowledged, against the simplest model: a list of all frames there ever were."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbridge.bridge.agent import kept as module
from netbridge.bridge.agent.frames import HEADER, HEADER_LEN, MAX_PACKET, PACKET, Decoder, FrameError
from netbridge.bridge.agent.kept import FILL, SPARE, Kept

BATCH = st.lists(st.one_of(st.integers(0, 60), st.just(0), st.just(MAX_PACKET)), min_size=1, max_size=6)
STEPS = st.lists(st.one_of(BATCH, st.floats(0, 1)), max_size=60)


class Model:
    """Kept, and beside it every frame with the total after it."""

    def __init__(self) -> None:
        self.kept = Kept()
        self.frames: list[tuple[int, bytes]] = []
        self.total = 0
        self.acknowledged = 0

    def put(self, sizes: list[int]) -> None:
        """One batch, the way the stream fills a buffer: while it is not full."""
        view, used = self.kept.room()
        payload = 0
        for size in sizes:
            if used >= module.FILL:
                break
            data = bytes([len(self.frames) % 256]) * size
            view[used : used + HEADER_LEN] = HEADER.pack(PACKET << 24 | size)
            view[used + HEADER_LEN : used + HEADER_LEN + size] = data
            used += HEADER_LEN + size
            payload += size
            self.frames.append((self.total + payload, data))
        self.total += payload
        self.kept.add(used, payload)

    def acknowledge(self, total: int) -> None:
        self.kept.acknowledge(total)
        self.acknowledged = total

    def boundaries(self) -> list[int]:
        """The totals from which the other end may want to go on."""
        return sorted({self.acknowledged, *(end for end, _ in self.frames if end >= self.acknowledged)})

    def expected(self, total: int) -> list[bytes]:
        """All packets beyond `total`; empty ones count for nothing there, so they may come or not."""
        return _without_leading_empty([data for end, data in self.frames if end > total])

    def after(self, total: int) -> list[bytes]:
        found: list[bytes] = []
        for piece in self.kept.after(total):  # each piece holds whole frames
            at = 0
            while at < len(piece):
                length = HEADER.unpack_from(piece, at)[0] & 0xFFFFFF
                found.append(bytes(piece[at + HEADER_LEN : at + HEADER_LEN + length]))
                at += HEADER_LEN + length
            assert at == len(piece)
        return _without_leading_empty(found)


def _without_leading_empty(packets: list[bytes]) -> list[bytes]:
    first = next((number for number, data in enumerate(packets) if data), len(packets))
    return packets[first:]


@given(STEPS, st.sampled_from([40, 100, 1000, FILL]))
def test_like_a_list_of_all_frames(steps: list[list[int] | float], fill: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FILL", fill)
        model = Model()
        for step in steps:
            if isinstance(step, list):
                model.put(step)
            else:  # the other end acknowledges what it took: always whole frames
                boundaries = model.boundaries()
                model.acknowledge(boundaries[int(step * (len(boundaries) - 1))])
        boundaries = model.boundaries()
        for total in boundaries:
            assert model.after(total) == model.expected(total)
        for total in {end + 1 for end in boundaries} - set(boundaries):
            with pytest.raises(FrameError, match="no packet begins"):
                model.kept.after(total)
        for total in (-1, -(1 << 70), model.total + 1, 1 << 80):
            with pytest.raises(FrameError, match="no packet begins"):
                model.kept.after(total)


@given(STEPS)
def test_what_is_held_is_bounded_by_what_is_not_acknowledged(steps: list[list[int] | float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FILL", 1000)
        model = Model()
        for step in steps:
            if isinstance(step, list):
                model.put(step)
            else:
                model.acknowledge(model.total)
            waiting = sum(len(data) + HEADER_LEN for end, data in model.frames if end > model.acknowledged)
            empty = sum(HEADER_LEN for _, data in model.frames if not data)
            assert len(model.kept._buffers) <= 2 + (waiting + empty) // 1000
            assert len(model.kept._free) <= SPARE


def test_who_keeps_up_works_in_one_or_two_buffers() -> None:
    model = Model()
    seen = set()
    rng = random.Random(5)
    for _ in range(2000):
        model.put([rng.randint(1, 3000) for _ in range(4)])
        seen.add(id(model.kept.room()[0].obj))
        model.acknowledge(model.total)
        model.frames.clear()
    assert len(seen) <= 2


def test_an_acknowledgement_does_not_touch_frames_that_were_not_taken() -> None:
    """They share a buffer with others that were: it stays as a whole."""
    model = Model()
    model.put([10, 20, 30])
    model.acknowledge(10)
    assert model.after(10) == model.expected(10)
    assert model.after(30) == model.expected(30)
    model.put([40])
    model.acknowledge(30)
    assert [len(packet) for packet in model.after(30)] == [30, 40]
    model.acknowledge(100)
    assert model.after(100) == []
    model.put([50])
    assert [len(packet) for packet in model.after(100)] == [50]


def test_the_pieces_are_what_is_written_again() -> None:
    model = Model()
    model.put([10, 20])
    model.put([30])
    data = b"".join(bytes(piece) for piece in model.kept.after(10))
    assert [(kind, len(payload)) for kind, payload in Decoder().feed(memoryview(data))] == [(PACKET, 20), (PACKET, 30)]
