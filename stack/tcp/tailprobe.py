"""The tail loss probe: who hears nothing for two round trips asks, with one segment (RFC 8985, section 7).

The end of what was sent has nothing behind it that could tell of its loss. A probe, which is the next new segment or
else a copy of the last one, makes the peer say what it holds, long before the retransmission timer would take
everything for lost. Not on a link that stalls: there the answer is only late.
"""

from __future__ import annotations

from math import inf

from .copies import Copies
from .segment import ACK
from .sendqueue import OPEN, Piece
from .seq import MASK

DELAYED_ACK = 0.2
"""WCDelAckT: the peer may wait so long for a second full segment before it acknowledges less than two."""
LEAST = 0.01
"""Seconds: on the shortest paths it is not the path that makes an acknowledgement late."""
LATE = 0.002
"""Seconds: a timer that is so late was not alone; acknowledgements wait to be read as well."""
FIRST = 1.0
"""Seconds, while no round trip is known."""


class TailProbe(Copies):
    """A send queue that asks."""

    __slots__ = ()

    def _arm_probe(self, now: float) -> None:
        """Set the timer, in place of the retransmission timer if that is later (section 7.2).

        Where round trips vary much, two of them are not yet too long.
        """
        if self.board is not None:
            return  # the timer is RACK's, and reports tell what is lost
        self.look_at = inf
        if self.nxt != self.una and self._probe_end < 0 and not self.persisting:
            rtt = self.rtt
            at = now + (rtt.srtt + max(rtt.srtt, 4 * rtt.rttvar, LEAST) if rtt.srtt else FIRST)
            if (self.nxt - self.una) & MASK < 2 * self.mss:
                at += DELAYED_ACK
            if at < self.deadline:
                self.look_at = at

    def look(self, now: float) -> None:
        """The time of `look_at` has come: there may be news about losses, or none for too long."""
        late = now - self.look_at > LATE
        self.look_at = inf
        if self.board is not None:
            self._probing = self.retransmit_now = True
        elif self.nxt != self.una:
            if late:
                self.look_at = now + LATE
            else:
                self._probing = self.retransmit_now = True

    def _send_probe(self, pieces: list[Piece], now: float) -> None:
        """Whatever the congestion window says, once (section 7.3)."""
        flight = self.flight
        if not flight or self._probe_end >= 0:
            return
        size = min(self.mss, self.queued)
        if self.unsent and size <= self.wnd - flight:
            self._probe_flight = 0
            if now > self._run_until:
                self._begin_run(now)
            payload = self._next_payload(size)
            self.queued -= len(payload)
            self._keep_sent(payload)
            pieces.append((self.nxt, ACK, payload))
            self.nxt = (self.nxt + len(payload)) & MASK
        else:
            self._probe_flight = flight
            end = self.base + flight
            self._put_copy(pieces, max(end - self.mss, self.base), end, now)
        self._probe_end = self.base + self.flight
        self.deadline = now + self.rtt.rto

    def _judge_probe(self, now: float) -> None:
        """The probe is acknowledged: what was it good for (section 7.4)?"""
        if self.base < self._probe_end:
            return
        if self._probe_flight and self.base == self._probe_end and self.flight:
            return  # a report of a needless copy may still come
        if self._probe_flight and self.phase == OPEN:
            # No report of a needless copy came along: it has mended the loss of what it copied.
            self.cc.reduce(min(self._probe_flight, self.cc.cwnd), now)
            self.cc.settle()
        self._probe_end = -1
        self._arm_probe(now)
