"""The retransmission timeout (RFC 6298) and the one round trip being timed for it.

Karn's rule: a segment that was sent twice is never timed, and the timeout that was doubled stays so until something is.
Without timestamps one sample a round trip is taken, as section 3 allows; with them each acknowledgement is one, and
counts so much less (RFC 7323, appendix G).
"""

from __future__ import annotations

INITIAL_RTO = 1.0
"""RFC 6298, section 2.1."""
MIN_RTO = 0.2
"""RFC 6298 rounds up to 1 s; deployed stacks use 200 ms on top of the round trip, by which an acknowledgement may be
delayed."""
MAX_RTO = 60.0
"""RFC 6298, section 2.5: at least 60 s."""
AFTER_LOST_SYN = 3.0
"""RFC 6298, section 5.7: where the handshake already needed a copy, the round trip may exceed the initial second."""


class RtoEstimator:
    """SRTT, RTTVAR and RTO in seconds."""

    __slots__ = ("_minimum", "_timed_at", "_timed_seq", "base", "min_rtt", "rto", "rttvar", "srtt")

    def __init__(self, initial: float = INITIAL_RTO, minimum: float = MIN_RTO) -> None:
        self._minimum = minimum
        self.srtt = 0.0
        """Smoothed round trip; 0 before the first sample."""
        self.rttvar = 0.0
        self.min_rtt = MAX_RTO
        """The shortest round trip of the connection."""
        self.base = max(initial, minimum)
        """The timeout before any back-off."""
        self.rto = self.base
        """The timeout in force, doubled at each expiry."""
        self._timed_seq = 0
        self._timed_at = -1.0

    @property
    def timing(self) -> bool:
        """Whether a round trip is being timed."""
        return self._timed_at >= 0

    def start_timing(self, end_seq: int, now: float) -> None:
        """Time the segment that ends before `end_seq`."""
        self._timed_seq = end_seq
        self._timed_at = now

    def stop_timing(self) -> None:
        """Something was retransmitted: the sample would be ambiguous (Karn)."""
        self._timed_at = -1.0

    def covers(self, ack: int) -> bool:
        """Whether the acknowledgement covers the timed segment."""
        return self._timed_at >= 0 and not (ack - self._timed_seq) & 0x8000_0000

    def acked(self, ack: int, now: float) -> None:
        """An acknowledgement of new data came: take the sample if it covers the timed segment."""
        if self._timed_at >= 0 and not (ack - self._timed_seq) & 0x8000_0000:
            self.sample(now - self._timed_at)
            self._timed_at = -1.0

    def syn_was_repeated(self) -> None:
        """The handshake is done, but how long it took nobody can tell (section 5.7)."""
        self._timed_at = -1.0
        self.base = self.rto = max(AFTER_LOST_SYN, self._minimum)

    def sample(self, rtt: float, expected: int = 1) -> None:
        """Feed one measured round trip in seconds (sections 2.2 and 2.3), of so many `expected` in one round trip."""
        if rtt < self.min_rtt:
            self.min_rtt = rtt
        if self.srtt == 0.0:
            self.srtt = rtt
            self.rttvar = rtt / 2
        else:
            self.rttvar += (abs(self.srtt - rtt) - self.rttvar) / (4 * expected)
            self.srtt += (rtt - self.srtt) / (8 * expected)
        self.base = self.rto = min(self.srtt + max(self._minimum, 4 * self.rttvar), MAX_RTO)

    def back_off(self) -> None:
        """The timer expired (section 5.5)."""
        self.rto = min(self.rto * 2, MAX_RTO)
