"""Sequence numbers: arithmetic modulo 2**32 (RFC 9293, section 3.4); the TCP room compares by nothing else."""

from __future__ import annotations

MASK = 0xFFFF_FFFF
HALF = 0x8000_0000


def add(seq: int, count: int) -> int:
    """`seq` moved on by `count` (which may be negative)."""
    return (seq + count) & MASK


def diff(left: int, right: int) -> int:
    """Signed distance left - right, from -2**31 to 2**31 - 1."""
    return ((left - right + HALF) & MASK) - HALF


def lt(left: int, right: int) -> bool:
    """Whether `left` comes before `right`."""
    return bool((left - right) & HALF)


def le(left: int, right: int) -> bool:
    """Whether `left` comes before or is `right`."""
    return not (right - left) & HALF


def within(low: int, seq: int, size: int) -> bool:
    """Whether low <= seq < low + size."""
    return ((seq - low) & MASK) < size
