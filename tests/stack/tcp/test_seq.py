"""Sequence arithmetic, above all at the wrap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netbridge.stack.tcp import seq

NUMBERS = st.one_of(st.integers(0, seq.MASK), st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF]))


@given(NUMBERS, st.integers(1, 0x7FFFFFFF))
def test_what_is_ahead_is_greater(start: int, step: int) -> None:
    later = seq.add(start, step)
    assert seq.lt(start, later)
    assert not seq.lt(later, start)
    assert seq.le(start, later)
    assert seq.diff(later, start) == step
    assert seq.diff(start, later) == -step


@given(NUMBERS)
def test_a_number_is_equal_to_itself(number: int) -> None:
    assert seq.le(number, number)
    assert not seq.lt(number, number)
    assert seq.diff(number, number) == 0


@given(NUMBERS, st.integers(0, 1 << 30), st.integers(0, 1 << 30))
def test_within_is_half_open(low: int, size: int, offset: int) -> None:
    assert seq.within(low, seq.add(low, offset), size) == (offset < size)
