"""Proportional rate reduction: how much leaves for what arrives while losses are repaired (RFC 6937, RFC 9937).

The window falls to `ssthresh` over one round trip instead of at once: while more is on its way, what leaves is the
fitting part of what arrived. Once less is on its way than `ssthresh`, for many were lost, as much leaves as arrives,
and one segment more for each acknowledgement that shows that the repair works (the slow-start reduction bound).
"""

from __future__ import annotations


class Prr:
    """The accounts of one recovery, in bytes."""

    __slots__ = ("_delivered", "_flight", "_mss", "_ssthresh", "out")

    def __init__(self, flight: int, ssthresh: int, mss: int) -> None:
        """`flight`: what was outstanding when recovery began (RecoverFS)."""
        self._flight = max(flight, 1)
        self._ssthresh = ssthresh
        self._mss = mss
        self._delivered = 0
        self.out = 0
        """Sent during this recovery, new or again."""

    def allow(self, delivered: int, pipe: int, *, safe: bool) -> int:
        """What may leave now, when `delivered` more has arrived and `pipe` is on its way; `safe`: SND.UNA moved on and
        nothing more is lost.
        """
        self._delivered += delivered
        if pipe > self._ssthresh:
            count = -(-self._delivered * self._ssthresh // self._flight) - self.out
        else:
            limit = max(self._delivered - self.out, delivered)
            if safe:
                limit += self._mss
            count = min(self._ssthresh - pipe, limit)
        if not self.out:
            count = max(count, self._mss)  # the fast retransmit itself does not ask
        return max(count, 0)
