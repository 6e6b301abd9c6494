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


@given(NUMBERS, st.integers(-(1 << 40), 1 << 40), st.integers(-(1 << 40), 1 << 40))
def test_steps_add_up_across_the_wrap(start: int, one: int, other: int) -> None:
    assert seq.add(seq.add(start, one), other) == seq.add(start, one + other)
    assert seq.add(seq.add(start, one), -one) == start


@given(NUMBERS, st.lists(st.integers(0, 0x7FFFFFFF), min_size=2, max_size=6))
def test_within_half_a_circle_they_order_as_plain_numbers_do(start: int, steps: list[int]) -> None:
    """Wherever the circle is cut: `lt`, `le` and `diff` of what lies in one half are those of the distances."""
    for one in steps:
        for other in steps:
            left, right = seq.add(start, one), seq.add(start, other)
            assert seq.lt(left, right) == (one < other)
            assert seq.le(left, right) == (one <= other)
            assert seq.diff(left, right) == one - other


@given(NUMBERS, st.integers(0, seq.MASK), st.integers(0, seq.MASK))
def test_within_holds_for_windows_of_any_size(low: int, size: int, offset: int) -> None:
    """However large: what is one before it is in it only where it is all of the circle."""
    assert seq.within(low, seq.add(low, offset), size) == (offset < size)
    assert not seq.within(low, seq.add(low, -1), min(size, seq.MASK))
