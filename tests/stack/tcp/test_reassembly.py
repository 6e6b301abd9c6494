"""The reassembly queue against a model that keeps byte by byte."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

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


class ByteByByte(RuleBasedStateMachine):
    """A queue and a dictionary of bytes, told the same."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Reassembly()
        self.bytes: dict[int, int] = {}
        self.latest: int | None = None
        self.least = 0

    @rule(
        ahead=st.integers(0, 300), size=st.integers(1, 80), letter=st.integers(0, 255),
        limit=st.sampled_from((50, 200, 1 << 20)),
    )  # fmt: skip
    def insert(self, ahead: int, size: int, letter: int, limit: int) -> None:
        """What is there already stays; each hole is filled whole, or neither it nor what comes after."""
        start = self.least + ahead
        kept = self.queue.insert(start, bytes([letter]) * size, limit)
        self.latest = start
        missing = [at for at in range(start, start + size) if at not in self.bytes]
        whole = True
        while missing:
            hole = [at for number, at in enumerate(missing) if at == missing[0] + number]
            if len(self.bytes) + len(hole) > limit:
                whole = False
                break
            self.bytes.update(dict.fromkeys(hole, letter))
            missing = missing[len(hole) :]
        assert kept == whole

    @rule(ahead=st.integers(0, 100))
    def take(self, ahead: int) -> None:
        """What continues there, one block at a time, and nothing behind it any more."""
        position = self.least = self.least + ahead
        while (data := self.queue.take(position)) is not None:
            assert data == bytes(self.bytes[position + number] for number in range(len(data)))
            position += len(data)
        assert position not in self.bytes
        self.least = position
        self.bytes = {at: byte for at, byte in self.bytes.items() if at > position}

    @invariant()
    def it_holds_the_same(self) -> None:
        assert self.queue.size == len(self.bytes)
        assert bool(self.queue) == bool(self.bytes)
        starts = [at for at in self.bytes if at - 1 not in self.bytes]
        ends = [at + 1 for at in self.bytes if at + 1 not in self.bytes]
        ranges = self.queue.ranges()
        assert sorted(ranges) == list(zip(sorted(starts), sorted(ends), strict=True))
        if self.latest in self.bytes:
            assert self.latest in range(*ranges[0]), "the latest comes first (RFC 2018, section 4)"


TestByteByByte = ByteByByte.TestCase
TestByteByByte.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@given(st.sets(st.integers(0, 60)), st.integers(0, 60), st.integers(1, 30))
def test_what_is_held_already_is_found_as_byte_by_byte(held: set[int], at: int, length: int) -> None:
    queue = Reassembly()
    for one in held:
        queue.insert(one, b"x", 100)
    known = [one for one in range(at, at + length) if one in held]
    if not known:
        assert queue.repeated(at, length) is None
    else:
        end = next(one for one in range(known[0], at + length + 1) if one not in held or one == at + length)
        assert queue.repeated(at, length) == (known[0], end)


def test_what_is_told_of_it_is_the_latest_and_then_the_nearest() -> None:
    queue = Reassembly()
    for number in range(1, 100):
        queue.insert(1000 * number, b"x" * 10, 1 << 20)
    queue.insert(50_010, b"y" * 10, 1 << 20)
    assert queue.ranges(3) == [(50_000, 50_020), (99_000, 99_010), (98_000, 98_010)]
    assert len(queue.ranges()) == 99
    assert set(queue.ranges()[8:]) >= {(1000, 1010), (2000, 2010)}
