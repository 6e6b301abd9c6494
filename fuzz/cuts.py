"""A stream as it may arrive: the same bytes whole, byte by byte, and cut in the middle."""

from __future__ import annotations

MOST = 120
"""Pieces; a longer stream comes in pieces of two bytes or more, at another offset than its own words have."""


def cuts(data: bytes) -> list[list[bytes]]:
    """The pieces of each way."""
    size = len(data) // MOST + 1
    middle = len(data) // 2
    return [[data], [data[at : at + size] for at in range(0, len(data), size)], [data[:middle], data[middle:]]]
