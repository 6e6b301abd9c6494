"""The reassembly queue against a model that keeps byte by byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netbridge.stack.tcp.reassembly import MAX_BLOCKS, Reassembly, unwrap

TEXT = bytes(range(256)) * 4


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 120)), max_size=40))
def test_it_keeps_exactly_what_a_byte_map_keeps(pieces: list[tuple[int, int]]) -> None:
    queue, model = Reassembly(), set[int]()
    for start, size in pieces:
        queue.insert(start, TEXT[start : start + size], 1 << 20)
        model.update(range(start, start + size))
    assert queue.size == len(model)
    taken: dict[int, int] = {}
    position = 0
    while queue:
        if (data := queue.take(position)) is None:
            position += 1
            continue
        taken.update(zip(range(position, position + len(data)), data, strict=True))
        position += len(data)
    assert set(taken) == model
    assert all(byte == TEXT[at] for at, byte in taken.items())
    assert queue.size == 0


def test_bytes_are_bounded() -> None:
    queue = Reassembly()
    assert queue.insert(10, b"x" * 100, 100)
    assert not queue.insert(200, b"y", 100)
    assert queue.size == 100
    assert queue.insert(10, b"x" * 100, 100)  # known already: nothing was lost


def test_gaps_are_bounded_and_the_nearest_are_kept() -> None:
    queue = Reassembly()
    kept = [queue.insert(number, b"x", 1 << 20) for number in range(10_000, 0, -2)]
    assert kept.index(False) == MAX_BLOCKS
    assert queue.evicted == len(kept) - MAX_BLOCKS
    assert len(queue) == MAX_BLOCKS
    assert queue.take(2) == b"x"


def test_unwrap_goes_on_beyond_the_wrap() -> None:
    assert unwrap(0xFFFFFFF0, 5) == 0x100000005
    assert unwrap(0x1_0000_0005, 7) == 0x1_0000_0007
