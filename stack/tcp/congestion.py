"""Congestion control behind a few hooks.

`NewReno` (RFC 5681, 6582, 6928) is what a stack uses on a link it knows nothing about. `Unlimited` is for a link that
is itself reliable and paced, such as packets inside one SSH connection: there the outer TCP already reacts to
congestion, a second control loop could only slow the flow's start, and the peer's window bounds what is in flight.
"""

from __future__ import annotations

from typing import Protocol

INITIAL_SEGMENTS = 10
"""RFC 6928."""
MAX_CWND = 1 << 30
"""More than any scaled window (RFC 7323, section 2.3), so the arithmetic stays small."""


class CongestionControl(Protocol):
    """How many bytes may be in flight. All arguments are bytes."""

    cwnd: int
    stalls: bool
    """Whether a timeout means that the link stood still, and not that it lost what was on it."""

    def acked(self, count: int, flight: int) -> None:
        """New data was acknowledged outside recovery; `flight` was outstanding before."""

    def enter_recovery(self, flight: int) -> None:
        """A segment is lost (RFC 5681, section 3.2)."""

    def duplicate(self) -> None:
        """A duplicate acknowledgement, of a peer without SACK: a segment left the network."""

    def partial(self, count: int) -> None:
        """A partial acknowledgement of `count` bytes in recovery, without SACK (RFC 6582, section 3.2, step 3)."""

    def leave_recovery(self, flight: int) -> None:
        """Everything that was outstanding at the loss is acknowledged."""

    def timeout(self, flight: int, *, again: bool) -> None:
        """The retransmission timer expired (RFC 5681, section 3.1), `again` for the same segment."""


class NewReno:
    """RFC 5681 slow start and congestion avoidance with RFC 6582's window arithmetic."""

    __slots__ = ("_avoidance", "_mss", "cwnd", "ssthresh")
    stalls = False

    def __init__(self, mss: int) -> None:
        self._mss = mss
        self.cwnd = INITIAL_SEGMENTS * mss
        self.ssthresh = MAX_CWND
        self._avoidance = 0

    def acked(self, count: int, flight: int) -> None:
        if flight * 2 < self.cwnd:
            return  # the application, not the window, limits the flow (RFC 7661's reason)
        if self.cwnd < self.ssthresh:
            self.cwnd = min(self.cwnd + count, MAX_CWND)
            return
        self._avoidance += count
        if self._avoidance >= self.cwnd:
            self._avoidance -= self.cwnd
            self.cwnd = min(self.cwnd + self._mss, MAX_CWND)

    def enter_recovery(self, flight: int) -> None:
        self.ssthresh = max(flight // 2, 2 * self._mss)
        self.cwnd = self.ssthresh

    def duplicate(self) -> None:
        self.cwnd = min(self.cwnd + self._mss, MAX_CWND)

    def partial(self, count: int) -> None:
        self.cwnd = max(self.cwnd - count + self._mss, self._mss)

    def leave_recovery(self, flight: int) -> None:
        self.cwnd = min(self.ssthresh, max(flight, self._mss) + self._mss)

    def timeout(self, flight: int, *, again: bool) -> None:
        if not again:  # what is in flight then is only the copy
            self.ssthresh = max(flight // 2, 2 * self._mss)
        self.cwnd = self._mss
        self._avoidance = 0


class Unlimited:
    """No control: the link below is reliable and has a window of its own.

    After a timeout one segment goes out as a question; the first acknowledgement opens everything again. So a link
    that only stood still for a while is not flooded with copies.
    """

    __slots__ = ("_mss", "cwnd")
    stalls = True

    def __init__(self, mss: int) -> None:
        self._mss = mss
        self.cwnd = MAX_CWND

    def acked(self, count: int, flight: int) -> None:
        self.cwnd = MAX_CWND

    def enter_recovery(self, flight: int) -> None:
        """One segment is sent again; the rest goes on."""

    def duplicate(self) -> None:
        """Nothing to inflate."""

    def partial(self, count: int) -> None:
        """Nothing to deflate."""

    def leave_recovery(self, flight: int) -> None:
        """Nothing to restore."""

    def timeout(self, flight: int, *, again: bool) -> None:
        self.cwnd = self._mss
