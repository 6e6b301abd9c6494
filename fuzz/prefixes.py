"""The ways in which an input is fed piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from netbridge.stack.errors import WireError

FRONT = 160
"""Bytes of a packet that may be headers, one after another; behind them nothing but the length is looked at."""


def prefixes(data: bytes | memoryview) -> Iterator[memoryview]:
    """What is left of a packet that was cut short: at every byte of its headers, and just before its end."""
    view = memoryview(data)
    for end in range(min(len(data), FRONT)):
        yield view[:end]
    if len(data) > FRONT:
        yield view[:-1]


def refused_or_read(data: bytes | memoryview, read: Callable[[memoryview], object]) -> int:
    """Give every prefix to a parser: it is read, or refused by WireError and nothing else; how many were read."""
    taken = 0
    for prefix in prefixes(data):
        try:
            read(prefix)
            taken += 1
        except WireError:
            pass
    return taken
