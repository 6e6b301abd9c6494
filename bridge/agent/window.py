"""How much may be in flight on the link, and when to acknowledge.

The stream below (SSH, pipes) takes bytes as long as its buffers have room, many megabytes at times, and everything
written there has to be waited for by whatever comes next: a key press behind 8 MiB on a 10 Mbit/s line waits 7 s. So
the sender bounds what it has written and the far end has not taken yet.

The bound follows the measured path, as BBR's does (Cardwell and others, ACM Queue 14(5), 2016): the highest rate at
which bytes were acknowledged lately times twice the lowest delay of an acknowledgement plus 10 ms. Twice, so that
the pipe stays full while acknowledgements are on their way back; 10 ms, since on a fast link the lowest delay is
that of a lone small packet, and a queue of 10 ms harms nobody. The delay is one of data: from a packet's writing
until its ACK. When all samples come from a full pipe the lowest delay includes the queue we made ourselves; so from
time to time the window is lowered to one super-segment for one round trip, and the delay measured anew (BBR's
PROBE_RTT).
"""

from __future__ import annotations

from .frames import FrameError

FLOOR = 96 * 1024
"""A super-segment and a half; the last packet may overshoot by its size. 80 ms at 10 Mbit/s; a faster path's window is
above the floor anyway."""
INITIAL = 512 * 1024
"""Before the first measurement. Doubles each round trip where the path allows."""
CAP = 16 << 20
"""The memory one direction may hold; 16 MiB fill 1.3 Gbit/s at 100 ms."""
GAIN = 2.0
QUEUE = 0.010
"""Seconds of queue allowed beyond the path's own delay."""
FILTER = 5.0
"""The highest rate of this and the last period of so many seconds counts. BBR's 10 round trips would be too short:
an idle second would forget the rate."""
PROBE = 64 * 1024
"""The window while the delay is measured: one super-segment."""
PROBE_EVERY = 20.0
"""Seconds between two measurements of the delay with an (almost) empty pipe."""

COALESCE = 256 * 1024
"""Within a burst an ACK goes out after so many bytes, so that a long burst does not stall a small window."""
LAZY = 16 * 1024
"""At a burst's end fewer bytes than this wait: key presses need no ACK each. Far below FLOOR, so nothing stalls."""


class SendWindow:
    """The sender's account of PACKET payload bytes, with time as an argument (seconds, monotonic)."""

    __slots__ = (
        "_acked_time", "_delay", "_delay_time", "_mark", "_mark_acked", "_mark_acked_time", "_mark_time", "_probing",
        "_rate", "_rate_before", "_rate_time", "acked", "cap", "sent", "size",
    )  # fmt: skip

    def __init__(self, initial: int = INITIAL, cap: int = CAP) -> None:
        self.sent = 0
        """PACKET payload bytes written since the link began."""
        self.acked = 0
        """Of those, how many the peer has taken."""
        self.size = initial
        """Bytes that may be in flight."""
        self.cap = cap
        self._mark = 0  # an ACK of this many bytes ends the running sample; 0: none running
        self._mark_time = 0.0
        self._mark_acked = 0
        self._mark_acked_time = 0.0
        self._acked_time = 0.0
        self._rate = 0.0
        self._rate_before = 0.0
        self._rate_time = 0.0
        self._delay = 0.0
        self._delay_time = 0.0
        self._probing = False

    @property
    def open(self) -> bool:
        """True while another packet may be sent. The last one may overshoot by its own size."""
        return self.sent - self.acked < self.size

    @property
    def in_flight(self) -> int:
        """Bytes sent and not acknowledged."""
        return self.sent - self.acked

    @property
    def delay(self) -> float:
        """The lowest delay of an acknowledgement lately, seconds; 0 when unknown."""
        return self._delay

    @property
    def rate(self) -> float:
        """The highest rate of acknowledged bytes lately, bytes a second."""
        return max(self._rate, self._rate_before)

    def add(self, count: int, now: float) -> None:
        """`count` payload bytes of one PACKET, or of a batch written at once, were sent."""
        if self.sent - self.acked < LAZY:  # idle until now
            self._acked_time = now
        self.sent += count
        if not self._mark and self.sent - self.acked >= 2 * LAZY:  # fewer bytes may wait for their ACK at the far end
            self._mark = self.sent
            self._mark_time = now
            self._mark_acked = self.acked
            self._mark_acked_time = self._acked_time

    def acknowledge(self, total: int, now: float) -> bool:
        """Take an ACK of `total` bytes; True when the window opened by it. Untrusted; raises FrameError."""
        if not self.acked <= total <= self.sent:
            raise FrameError("acknowledgement of %d bytes; %d sent, %d acknowledged" % (total, self.sent, self.acked))
        was_open = self.open
        self.acked = total
        self._acked_time = now
        if self._mark and total >= self._mark:
            self._sample(total, now)
            self._mark = 0
        return not was_open and self.open

    def restart(self, total: int, now: float) -> None:
        """The link was broken and goes on: the other end has taken `total` bytes, and is sent the rest again.

        Untrusted; raises FrameError. What is measured begins anew, since it may be another path.
        """
        if not self.acked <= total <= self.sent:
            raise FrameError("%d bytes are said to be taken; %d sent, %d acknowledged" % (total, self.sent, self.acked))
        self.acked = total
        self._acked_time = now
        self.size = INITIAL
        self._mark = 0
        self._rate = self._rate_before = self._delay = 0.0
        self._probing = False

    def _sample(self, total: int, now: float) -> None:
        delay = max(now - self._mark_time, 1e-5)
        if self._probing:  # the pipe was nearly empty: a good delay, and a rate that says nothing
            self._delay, self._delay_time = delay, now
            self._probing = False
        else:
            if now - self._rate_time > FILTER:
                self._rate_before, self._rate, self._rate_time = self._rate, 0.0, now
            # Over the time since the ACK before the mark, not since the mark: one ACK may tell of much that was sent
            # before it (the delivery rate of draft-cheng-iccrg-delivery-rate-estimation, section 2.2).
            interval = max(now - self._mark_acked_time, 1e-5)
            self._rate = max(self._rate, (total - self._mark_acked) / interval)
            if not self._delay or delay <= self._delay:
                self._delay, self._delay_time = delay, now
            elif now - self._delay_time > PROBE_EVERY:
                self._probing = True
                self.size = PROBE
                return
        self.size = int(min(max(self.rate * (GAIN * self._delay + QUEUE), FLOOR), self.cap))


class AckCounter:
    """The receiver's account: what was taken, and whether the peer should hear of it now."""

    __slots__ = ("told", "taken")

    def __init__(self) -> None:
        self.taken = 0
        """PACKET payload bytes taken since the link began."""
        self.told = 0
        """What the last ACK said."""

    def due(self, *, burst_ended: bool) -> bool:
        """Whether to send an ACK of `taken` now (and set `told`)."""
        return self.taken - self.told >= (LAZY if burst_ended else COALESCE)
