"""CUBIC (RFC 9438): the window grows by the time since the last congestion, so long round trips are no disadvantage.

After congestion the window falls to seven tenths, rises quickly to near where it was (W_max), stays there for a while,
and then looks for more. Where Reno would be faster (short round trips, small windows), it grows as Reno does. Sizes in
the formulas are segments, as in the RFC; `cwnd` and `ssthresh` are bytes.
"""

from __future__ import annotations

from .congestion import MAX_BURST, MAX_CWND, MOST_IN_FLIGHT, after_idle, initial_window
from .hystart import CSS_DIVISOR, HyStart

C = 0.4
"""Segments per second cubed (section 5)."""
BETA = 0.7
ALPHA = 3 * (1 - BETA) / (1 + BETA)
"""What makes growth by ALPHA a round trip and a fall to BETA as fast as Reno's 1 and 1/2 (section 4.3)."""


class Cubic:
    """RFC 9438 congestion avoidance; the first slow start ends by HyStart++."""

    __slots__ = (
        "_burst", "_epoch", "_fraction", "_hystart", "_k", "_last", "_mss", "_prior", "_reno", "_saved", "_w_max",
        "cwnd", "samples", "ssthresh",
    )  # fmt: skip
    stalls = False

    def __init__(self, mss: int) -> None:
        self._mss = mss
        self._burst = MAX_BURST * mss
        self.cwnd = initial_window(mss)
        self.ssthresh = MAX_CWND
        self._hystart: HyStart | None = HyStart()
        self.samples = True
        self._w_max = 0.0
        """The window at the last congestion; 0: nothing to go by."""
        self._prior = 0.0
        """cwnd_prior: the same before fast convergence."""
        self._epoch = -1.0
        """When this stage of congestion avoidance began, pauses not counted; negative: not yet."""
        self._k = 0.0
        """Seconds from there until the window is W_max again."""
        self._reno = 0.0
        """W_est: the window Reno would have."""
        self._last = 0.0
        self._fraction = 0.0
        """Bytes of growth that are not whole yet."""
        self._saved: tuple[int, int, float, float, float, float, float] | None = None

    def acked(self, count: int, now: float, srtt: float, full: bool) -> None:
        last, self._last = self._last, now
        if not full:
            if self._epoch >= 0:
                self._epoch += now - last  # time in which the window was not tried does not count (section 5.8)
        elif self.cwnd < self.ssthresh:
            grown = min(count, self._burst)
            if self._hystart is not None and self._hystart.slow:
                grown //= CSS_DIVISOR
            self.cwnd = min(self.cwnd + grown, MOST_IN_FLIGHT)
        else:
            self._avoid(count, now, srtt)

    def _avoid(self, count: int, now: float, srtt: float) -> None:
        """Congestion avoidance (sections 4.2 to 4.5)."""
        mss = self._mss
        cwnd = self.cwnd / mss
        if self._epoch < 0:
            self._epoch = now
            self._reno = cwnd
            self._fraction = 0.0
            if self._w_max > cwnd:
                self._k = ((self._w_max - cwnd) / C) ** (1 / 3)
            else:  # the first stage, or the first after a timeout (section 4.8)
                self._k = 0.0
                self._w_max = cwnd
        t = now - self._epoch
        self._reno += (ALPHA if self._reno < self._prior else 1.0) * count / self.cwnd
        if self._w_max + C * (t - self._k) ** 3 < self._reno:
            growth = max(self._reno - cwnd, 0.0) * mss  # Reno-friendly region (section 4.3)
        else:
            target = self._w_max + C * (t + srtt - self._k) ** 3
            target = min(max(target, cwnd), 1.5 * cwnd)
            growth = (target - cwnd) / cwnd * count
        growth += self._fraction
        whole = int(growth)
        self._fraction = growth - whole
        self.cwnd = min(self.cwnd + whole, MOST_IN_FLIGHT)

    def round_trip(self, rtt: float, acked: int, sent: int) -> None:
        if self._hystart is not None and self._hystart.round_trip(rtt, acked, sent):
            self._end_hystart()
            self.ssthresh = self.cwnd

    def _end_hystart(self) -> None:
        """Only the first slow start looks for its end itself (RFC 9406, section 4.3)."""
        self._hystart = None
        self.samples = False

    def reduce(self, flight: int, now: float) -> None:
        self._saved = (self.cwnd, self.ssthresh, self._w_max, self._prior, self._epoch, self._k, self._reno)
        cwnd = self.cwnd / self._mss
        # Fast convergence (section 4.7): it did not reach the last maximum, so make room for who is new.
        self._w_max = cwnd * (1 + BETA) / 2 if cwnd < self._w_max else cwnd
        self._prior = cwnd
        self._epoch = -1.0
        self._end_hystart()
        self.ssthresh = max(int(flight * BETA), 2 * self._mss)

    def settle(self) -> None:
        self.cwnd = self.ssthresh

    def timeout(self, flight: int, now: float, *, again: bool) -> None:
        if not again:
            self.reduce(flight, now)
            self._w_max = 0.0
        self._epoch = -1.0
        self.cwnd = self._mss

    def undo(self) -> None:
        """RFC 9438, section 4.9."""
        if self._saved is not None:
            cwnd, ssthresh, self._w_max, self._prior, self._epoch, self._k, self._reno = self._saved
            self.cwnd = max(self.cwnd, cwnd)
            self.ssthresh = max(self.ssthresh, ssthresh)
            self._saved = None

    def idle(self, seconds: float, rto: float) -> None:
        if self._epoch >= 0:
            self._epoch += seconds
        self._last += seconds
        self.cwnd, self.ssthresh = after_idle(self.cwnd, self.ssthresh, self._mss, seconds, rto)

    def resize(self, mss: int, max_payload: int) -> None:
        if self.cwnd == initial_window(self._mss):
            self.cwnd = initial_window(mss)
        scale = self._mss / mss
        self._w_max *= scale
        self._prior *= scale
        self._reno *= scale
        self._mss = mss
        self._burst = max(MAX_BURST * mss, max_payload)
