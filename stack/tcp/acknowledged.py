"""What an arriving segment acknowledges, and challenge ACKs for those that may be forged (RFC 5961)."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from .intake import Intake
from .segment import Block, Options, Stamp
from .seq import HALF, MASK
from .states import Event, State

TIME_WAIT = State.TIME_WAIT


class Acknowledged(Intake):
    """A control block that takes acknowledgements."""

    __slots__ = ()

    def _challenge(self, now: float) -> None:
        """Acknowledge what is here, so that a peer that means it can prove it; at a rate (RFC 5961, section 7)."""
        self._counters.challenges += 1
        if now - self._challenge_at >= self._config.challenge_interval and self._challenges.allows(now):
            self._challenge_at = now
            self._ack_now = True
        else:
            self._counters.challenges_withheld += 1

    def _take_ack(
        self, seq: int, ack: int, window: int, length: int, now: float, sacks: Sequence[Block] = (),
        stamp: Options | Stamp | None = None,
    ) -> bool:  # fmt: skip
        """The ACK field and the window; False when the segment is to be dropped. `stamp`: the timestamps, if any."""
        sender = self.sender
        covered = (ack - sender.una) & MASK
        if covered & HALF:
            # Older than SND.UNA: fine within the largest window ever seen, else a blind guess (RFC 5961, section 5.2);
            # and what lies before the first byte that was ever acknowledged is one, too.
            if (sender.una - ack) & MASK > min(sender.max_wnd, sender.base):
                self._challenge(now)
                return False
        elif covered:
            if covered > (sender.nxt - sender.una) & MASK:
                self._challenge(now)
                return False
            # Only what advances SND.UNA is timed (RFC 7323, section 4.1).
            if self.stamps is not None and isinstance(stamp, tuple):
                sender.acked(ack, now, self.stamps.round_trip(stamp[1], now))
            else:
                sender.acked(ack, now)
            if sacks and sender.take_sacks(sacks):
                sender.duplicate()
            sender.update_window(seq, ack, window, now)
            if self._life_until < inf and self.state is not TIME_WAIT:
                self._life_until = now + self._config.orphan  # an orphan may take its time while it gets on
            if sender.fin_sent and ack == sender.nxt and not sender.unsent:
                self._fin_acked(now)
            self._user.acked()
        else:
            if (
                sacks and sender.take_sacks(sacks)
                if sender.sack
                else sender.una != sender.nxt and not length and window == sender.wnd
            ):
                sender.duplicate()
            elif sender.persisting:
                sender.retries = 0  # the peer answers: its closed window is never given up on (RFC 6429)
            opened = window > sender.wnd
            sender.update_window(seq, ack, window, now)
            if opened:
                self._user.acked()
        self._probes = 0
        return True

    def _fin_acked(self, now: float) -> None:
        if self.state in (State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK):
            self.fire(Event.ACK_OF_FIN)
            self._closed_halfway(now)

    def _closed_halfway(self, now: float) -> None:
        """The peer has our FIN."""
        if self.state is State.FIN_WAIT_2:
            if self._life_until < inf:
                self._life_until = now + self._config.fin_wait_2
        elif self.state is TIME_WAIT:
            self._enter_time_wait(now)
        else:
            self._end(None)
