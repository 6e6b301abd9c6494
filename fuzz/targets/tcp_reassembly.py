"""What comes early is given in order as it was said, each byte once, within its bounds; ranges tell what is held."""

from __future__ import annotations

from netbridge.stack.tcp import reassembly
from netbridge.stack.tcp.reassembly import BLOCK_COST, MAX_LATEST, Reassembly

TEXT = bytes(index * 37 + (index >> 8) & 255 for index in range(1 << 16))
LIMIT = 6_000
BLOCKS = 12
"""In place of 2,048, so that an input of some bytes comes up to it."""
BEGIN = (1 << 32) - 500
"""Positions go on where sequence numbers wrap."""


def run(data: bytes) -> object:
    """Each 3 bytes are a piece: where it begins, behind what was taken, and its length; an odd length takes."""
    usual, reassembly.MAX_BLOCKS = reassembly.MAX_BLOCKS, BLOCKS
    try:
        return _run(data)
    finally:
        reassembly.MAX_BLOCKS = usual


def _run(data: bytes) -> object:
    early = Reassembly()
    taken, held = 0, set[int]()
    said: set[int] = set()
    refused = took = repeated = 0
    for at in range(0, len(data) - 2, 3):
        start, length = taken + (data[at] << 4) + 1, data[at + 1] * 3 + 1
        if taken + LIMIT + 5000 > len(TEXT):
            break
        found = early.repeated(BEGIN + start, length)
        if found is not None:
            repeated += 1
            assert set(range(found[0] - BEGIN, found[1] - BEGIN)) <= held
            assert start <= found[0] - BEGIN < found[1] - BEGIN <= start + length
            assert not held & set(range(start, found[0] - BEGIN))
        else:
            assert not held & set(range(start, start + length))
        said |= set(range(start, start + length))
        refused += not early.insert(BEGIN + start, TEXT[start : start + length], LIMIT)
        held = _held(early)
        assert held <= said
        if data[at + 2] & 1:
            # What lay in front of it comes: all that is held from here on is given.
            taken += data[at + 2] << 3
            while (block := early.take(BEGIN + taken)) is not None:
                took += 1
                assert block == TEXT[taken : taken + len(block)]
                assert block
                taken += len(block)
            held = _held(early)
            assert not held or min(held) > taken
    return bool(refused), bool(took), bool(repeated), bool(early.evicted), len(early.ranges(3))


def _held(early: Reassembly) -> set[int]:
    """The positions that are held, as `ranges` tells them."""
    ranges = early.ranges()
    held = {position - BEGIN for start, end in ranges for position in range(start, end)}
    assert len(held) == sum(end - start for start, end in ranges) == early.size <= LIMIT
    assert len(set(ranges)) == len(ranges)
    assert len(early) <= BLOCKS
    assert bool(early) == bool(held)
    assert early.cost == early.size + BLOCK_COST * len(early)
    assert early.ranges(2) == ranges[:2]
    assert len(early._latest) <= MAX_LATEST
    return held
