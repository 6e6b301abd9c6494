"""What is remembered of one nameserver."""

from __future__ import annotations

DEAF = 3
"""Unanswered questions in a row after which a nameserver is asked last."""
DEAF_SECONDS = 15.0


class UpstreamError(OSError):
    """Nobody could be asked, or nobody answered in time."""


class Nameserver:
    """One nameserver, as it behaved until now."""

    __slots__ = ("_missed", "address", "deaf_until", "other_case_until", "plain_until", "port")

    def __init__(self, address: str, port: int) -> None:
        self.address = address
        """As text; an IPv6 one may carry a %scope."""
        self.port = port
        self.deaf_until = 0.0
        """Until when it is asked last, because it was silent."""
        self.plain_until = 0.0
        """Until when it is asked without EDNS, because it did not know it."""
        self.other_case_until = 0.0
        """Until when it is asked in the client's own spelling, because it answered in another case than ours."""
        self._missed = 0

    def __repr__(self) -> str:
        return f"<Nameserver {self.address} port {self.port}>"

    def was_heard(self) -> None:
        """It answered."""
        self._missed = 0
        self.deaf_until = 0.0

    def was_silent(self, now: float) -> None:
        """It did not answer in its time."""
        self._missed += 1
        if self._missed >= DEAF:
            self.deaf_until = now + DEAF_SECONDS
