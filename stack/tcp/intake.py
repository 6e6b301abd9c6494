"""What an arriving segment brings: payload and FIN, and when that is acknowledged.

An acknowledgement waits for a second segment or a few milliseconds (RFC 9293, section 3.8.6.3), except that it leaves
at once for whatever tells the peer of a loss (RFC 5681, section 4.2) and where the peer cannot go on without it.
"""

from __future__ import annotations

from math import inf

from .segment import FIN
from .seq import HALF, MASK, add
from .states import MAY_RECEIVE_DATA, Event, State
from .tcb import ControlBlock

TIME_WAIT = State.TIME_WAIT


class Intake(ControlBlock):
    """A control block that takes data."""

    __slots__ = ()

    def _take_text(self, seq: int, flags: int, payload: memoryview, now: float) -> None:
        """RFC 9293, section 3.10.7.4, seventh and eighth: payload and FIN of an acceptable segment."""
        receiver = self.receiver
        before = (receiver.nxt - seq) & MASK
        if before & HALF:
            before = 0
        elif before:
            # The front is old; what is wholly old was not acceptable.
            self._note_duplicate(seq, receiver.nxt)
            payload = payload[before:]
            seq = receiver.nxt
            self._ack_now = True
        room = (receiver.adv - seq) & MASK
        fin = flags & FIN
        if len(payload) > room:
            payload = payload[:room]
            fin = 0
            self._ack_now = True
        if fin and not self._fin_received:
            self.fin_seq = add(seq, len(payload))
        if payload:
            if seq == receiver.nxt:
                self._take_payload(payload, now)
            else:
                self._take_early(seq, payload)
        # Eighth: FIN, once everything before it is here.
        if fin and self.fin_seq == receiver.nxt and self.state in MAY_RECEIVE_DATA:
            self._take_fin(now)
        elif fin:
            self._fin_early = True
            self._ack_now = True

    def _take_payload(self, payload: memoryview, now: float) -> None:
        """Payload that begins at RCV.NXT."""
        self._ack_due += len(payload)
        receiver = self.receiver
        # While there is a hole, and when it is filled, the peer hears of it at once (RFC 5681, section 4.2).
        hole = receiver.early.size
        if hole:
            self._repeats = 0
            self._note_repeated(receiver.nxt, len(payload))
        receiver.deliver(payload, now)
        if hole or self._ack_due >= self._ack_every:
            self._ack_now = True
        elif self._delayed_ack_at == inf:
            if self._config.quick_acks:
                self._acknowledge_soon(now)
            else:
                self._delayed_ack_at = now + self._config.delayed_ack
        if self._fin_early and self.fin_seq == receiver.nxt and self.state in MAY_RECEIVE_DATA:
            self._take_fin(now)

    def _take_early(self, seq: int, payload: memoryview) -> None:
        """Payload beyond RCV.NXT: a duplicate ACK tells of the hole (RFC 5681, section 4.2)."""
        self._counters.early += 1
        receiver = self.receiver
        if receiver.early.size:
            self._note_repeated(seq, len(payload))
        if not receiver.keep_early(seq, payload):
            self._counters.early_refused += 1
        if not self.sender.sack:
            self._repeats += 1
        self._ack_now = True

    def _acknowledge_soon(self, now: float) -> None:
        """After `delayed_ack`; but at once when data begins to come, or comes again after a pause: in slow start the
        peer has to hear of each segment (quick-ACK, as Linux has it).

        That is over after `quick_acks`, or once the user answers, which shows a dialogue: there the acknowledgement
        rides on the answer (`Connection.transmit`).
        """
        if now - self._heard_at > self.sender.rtt.rto:
            self._quick = self._config.quick_acks
        if self._ack_now:
            return
        if self._quick > 0:
            self._quick -= 1
            self._ack_now = True
        else:
            self._delayed_ack_at = now + self._config.delayed_ack

    def _take_fin(self, now: float) -> None:
        self._fin_received = True
        receiver = self.receiver
        receiver.nxt = add(receiver.nxt, 1)
        if receiver.window & HALF:
            receiver.adv = receiver.nxt  # a FIN is taken at a closed window as well
        receiver.forget_early()
        self._ack_now = True
        self.fire(Event.RCV_FIN)
        if self.state is TIME_WAIT:
            self._enter_time_wait(now)
        self._tell_eof()

    # -- what came twice (RFC 2883)

    def _note_duplicate(self, left: int, right: int) -> None:
        """The peer sent again what is here already: the next acknowledgement says so in its first block (section 4).

        What a burst brings twice in a row is one report; of several places the latest is told.
        """
        if self.sender.sack:
            known = self._duplicate
            if known is not None and known[1] == left:
                left = known[0]
            self._duplicate = (left, right)

    def _note_repeated(self, seq: int, length: int) -> None:
        """As `_note_duplicate`, for payload from RCV.NXT on, some of which may wait in the reassembly queue."""
        if self.sender.sack:
            block = self.receiver.repeated(seq, length)
            if block is not None:
                self._note_duplicate(*block)
