"""Congestion control behind a few hooks.

`NewReno` (RFC 5681, 6928) is what a stack uses on a link it knows nothing about; :mod:`.cubic` is for fast paths with
long round trips. `Unlimited` is for a link that is itself reliable and paced, such as packets inside one SSH
connection: there the outer TCP already reacts to congestion, a second control loop could only slow the flow's start,
and the peer's window bounds what is in flight.

A control says how much may be in flight. What leaves while losses are repaired is not its business (:mod:`.prr`).
"""

from __future__ import annotations

from typing import Protocol

INITIAL_SEGMENTS = 10
"""RFC 6928."""
MAX_CWND = 1 << 30
"""More than any scaled window (RFC 7323, section 2.3), so the arithmetic stays small."""
MOST_IN_FLIGHT = 16 * 1024 * 1024
"""Bytes that a window grows to. What is in flight is held in memory, and that the peer takes it is its word alone: one
that showed a gigabyte, and fell silent once the window had grown to it, made one connection hold as much. This much is
what our own windows show at most."""
MAX_BURST = 8
"""L of RFC 3465 and RFC 9406: slow start grows by at most so many segments for one acknowledgement, however much that
covers. By bytes, so that who acknowledges each byte alone gains nothing."""


def initial_window(mss: int) -> int:
    """RFC 6928: ten segments; fewer of those that exceed an Ethernet's."""
    return min(INITIAL_SEGMENTS * mss, max(2 * mss, 14600))


class CongestionControl(Protocol):
    """How many bytes may be in flight. Sizes are bytes, times seconds."""

    cwnd: int
    ssthresh: int
    stalls: bool
    """Whether a late acknowledgement means that the link stood still, and not that it lost what was on it."""
    samples: bool
    """Whether it wants `round_trip` to be called now."""

    def acked(self, count: int, now: float, srtt: float, full: bool) -> None:
        """New data was acknowledged outside recovery; `full`: the window, and not the application, was the limit."""

    def round_trip(self, rtt: float, acked: int, sent: int) -> None:
        """A round trip of data sent once; the positions up to which data is acknowledged and sent."""

    def reduce(self, flight: int, now: float) -> None:
        """Congestion: set `ssthresh` for `flight` (RFC 5681, section 3.2). The window falls as losses are repaired."""

    def settle(self) -> None:
        """The losses are repaired, or there were none (ECN): the window becomes `ssthresh`."""

    def timeout(self, flight: int, now: float, *, again: bool) -> None:
        """The retransmission timer expired (RFC 5681, section 3.1), `again` for the same segment."""

    def undo(self) -> None:
        """What was last taken for congestion was none: as before, or better."""

    def idle(self, seconds: float, rto: float) -> None:
        """Nothing was in flight for so long, more than `rto` (RFC 5681, section 4.1)."""

    def resize(self, mss: int, max_payload: int) -> None:
        """Segments have another size from now on."""


class NewReno:
    """RFC 5681: slow start and congestion avoidance."""

    __slots__ = ("_acked", "_burst", "_mss", "_saved", "cwnd", "ssthresh")
    stalls = False
    samples = False

    def __init__(self, mss: int) -> None:
        self._mss = mss
        self._burst = MAX_BURST * mss
        self.cwnd = initial_window(mss)
        self.ssthresh = MAX_CWND
        self._acked = 0
        """Acknowledged in congestion avoidance since the window last grew."""
        self._saved = (0, 0)

    def acked(self, count: int, now: float, srtt: float, full: bool) -> None:
        if not full:
            return  # a window that was not tried is not known to be good (RFC 7661)
        if self.cwnd < self.ssthresh:
            self.cwnd = min(self.cwnd + min(count, self._burst), MOST_IN_FLIGHT)
            return
        self._acked += count
        if self._acked >= self.cwnd:
            self._acked -= self.cwnd
            self.cwnd = min(self.cwnd + self._mss, MOST_IN_FLIGHT)

    def round_trip(self, rtt: float, acked: int, sent: int) -> None:
        """Of no use here."""

    def reduce(self, flight: int, now: float) -> None:
        self._saved = (self.cwnd, self.ssthresh)
        self.ssthresh = max(flight // 2, 2 * self._mss)
        self._acked = 0

    def settle(self) -> None:
        self.cwnd = self.ssthresh

    def timeout(self, flight: int, now: float, *, again: bool) -> None:
        if not again:  # what is in flight then is only the copy
            self.reduce(flight, now)
        self.cwnd = self._mss

    def undo(self) -> None:
        cwnd, ssthresh = self._saved
        self.cwnd = max(self.cwnd, cwnd)
        self.ssthresh = max(self.ssthresh, ssthresh)

    def idle(self, seconds: float, rto: float) -> None:
        self.cwnd, self.ssthresh = after_idle(self.cwnd, self.ssthresh, self._mss, seconds, rto)

    def resize(self, mss: int, max_payload: int) -> None:
        if self.cwnd == initial_window(self._mss):
            self.cwnd = initial_window(mss)
        self._mss = mss
        self._burst = max(MAX_BURST * mss, max_payload)  # what left in one piece is acknowledged in one


def after_idle(cwnd: int, ssthresh: int, mss: int, seconds: float, rto: float) -> tuple[int, int]:
    """The window after a pause: half for each RTO, but not below the first one, and slow start back to three quarters.

    RFC 5681, section 4.1, falls to the first window at once; RFC 7661 shows why to remember where it was.
    """
    first = initial_window(mss)
    ssthresh = max(ssthresh, cwnd * 3 // 4)
    while seconds > rto and cwnd > first:
        cwnd = max(cwnd // 2, first)
        seconds -= rto
    return cwnd, ssthresh


class Unlimited:
    """No control: the link below is reliable and has a window of its own.

    After a timeout one segment goes out as a question; the first acknowledgement opens everything again. So a link
    that only stood still for a while is not flooded with copies.
    """

    __slots__ = ("_mss", "cwnd")
    stalls = True
    samples = False
    ssthresh = MAX_CWND

    def __init__(self, mss: int) -> None:
        self._mss = mss
        self.cwnd = MAX_CWND

    def acked(self, count: int, now: float, srtt: float, full: bool) -> None:
        self.cwnd = MAX_CWND

    def round_trip(self, rtt: float, acked: int, sent: int) -> None:
        """Of no use here."""

    def reduce(self, flight: int, now: float) -> None:
        """What is lost is sent again; the rest goes on."""

    def settle(self) -> None:
        self.cwnd = MAX_CWND

    def timeout(self, flight: int, now: float, *, again: bool) -> None:
        self.cwnd = self._mss

    def undo(self) -> None:
        self.cwnd = MAX_CWND

    def idle(self, seconds: float, rto: float) -> None:
        """A pause changes nothing."""

    def resize(self, mss: int, max_payload: int) -> None:
        self._mss = mss
