"""The memory that all connections of a stack share for what their readers have not taken.

Two things are bounded. What is held (`used`): beyond `limit` a connection that already holds something is offered no
more than `FLOOR`, and beyond `most` what exceeds `FLOOR` is not kept. And what windows may still bring (`widened`): a
window grows beyond its first size by at most a part of what is left of `limit`, the fewer the more others have grown
(the dynamic thresholds of shared-memory switches: Choudhury and Hahne, 1998). So a thousand readers that fall asleep at
once hold little more than a thousand first windows, and there is always something left for the next.
"""

from __future__ import annotations

FLOOR = 16 * 1024
"""Bytes a connection may always hold: whatever others do, it goes on."""
SHARE = 4
"""A window grows to at most the SHAREth part of what is left."""


class Budget:
    """Bytes held for readers by all connections: unread ones and those that came before their turn."""

    __slots__ = ("limit", "most", "used", "widened")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.most = 2 * limit
        self.used = 0
        """Bytes held now."""
        self.widened = 0
        """Bytes by which windows exceed their first size."""

    @property
    def tight(self) -> bool:
        """Whether more is held than should be."""
        return self.used > self.limit

    @property
    def wanted(self) -> bool:
        """Whether so much was granted that others get little."""
        return self.widened * 2 > self.limit

    def regrow(self, extra: int, wanted: int) -> int:
        """What is granted to a window that exceeds its first size by `extra` and could use `wanted` bytes more.

        Negative where it has to give back: others have grown since.
        """
        share = (self.limit - self.widened) // SHARE
        if extra > share:
            granted = -((extra - share + 1) // 2)
        elif self.used * 2 >= self.limit:
            granted = 0  # while much lies unread anywhere, a larger window would only hold more of it
        else:
            granted = min(wanted, share - extra)
        self.widened += granted
        return granted

    def narrow(self, size: int) -> None:
        """Give back what was granted."""
        self.widened -= size

    def refuses(self, size: int, held: int) -> bool:
        """Whether `size` bytes more are too many, for a connection that holds `held`."""
        return self.used + size > self.most and held + size > FLOOR
