"""What a segment does to a connection: RFC 9293's SEGMENT ARRIVES (section 3.10.7), and RFC 5961 against blind ones.

Two ways lead in. A segment that is next in an established connection and has no flag but ACK needs no further thought
(header prediction): its acknowledgement and its payload are taken. Every other goes through the steps of the RFC, in
their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from .segment import ACK, FIN, MIN_MSS, RST, SYN, URG, Block, Options, Segment
from .seq import HALF, MASK, add
from .states import MAY_RECEIVE_DATA, SYNCHRONIZED, Event, State
from .tcb import ControlBlock

CLOSED = State.CLOSED
SYN_SENT = State.SYN_SENT
SYN_RECEIVED = State.SYN_RECEIVED
ESTABLISHED = State.ESTABLISHED
CLOSE_WAIT = State.CLOSE_WAIT
FIN_WAIT_1 = State.FIN_WAIT_1
FIN_WAIT_2 = State.FIN_WAIT_2
TIME_WAIT = State.TIME_WAIT
CLOSING_DOWN = frozenset({State.CLOSING, State.LAST_ACK})
PREDICTED = SYN | FIN | RST | URG | ACK
"""Header prediction: of these flags only ACK is set on a segment that needs no further thought."""

SHORTEST_KEEPALIVE = 0.9
"""Seconds: keepalives come after whole ones, data sent again after less."""


class Arrival(ControlBlock):
    """A control block that takes segments."""

    __slots__ = ()

    def receive(
        self, seq: int, ack: int, flags: int, window: int, payload: memoryview, options: Options | None, now: float
    ) -> None:
        """One segment arrived. `window` is the raw field; `options` may be None without any, but for a SYN."""
        receiver = self.receiver
        if (
            self.state is ESTABLISHED
            and flags & PREDICTED == ACK
            and seq == receiver.nxt
            and len(payload) <= (receiver.adv - seq) & MASK
            and options is None
        ):
            self._heard_at = now
            sender = self.sender
            window <<= sender.scale
            if payload and ack == sender.una and window == sender.wnd:
                # The acknowledgement says nothing new, and no segment before was newer.
                sender.wl1 = seq
                sender.wl2 = ack
                if sender.persisting:
                    sender.retries = 0
                self._probes = 0
            elif not self._take_ack(seq, ack, window, len(payload), now):
                return
            if payload:
                self._take_payload(payload, now)
            return
        if self.state is SYN_SENT:
            self._receive_in_syn_sent(seq, ack, flags, window, payload, options, now)
        elif self.state is not CLOSED:
            self._receive(seq, ack, flags, window, payload, options.sacks if options is not None else (), now)

    def _receive_in_syn_sent(
        self, seq: int, ack: int, flags: int, window: int, payload: memoryview, options: Options | None, now: float
    ) -> None:
        """RFC 9293, section 3.10.7.3."""
        sender = self.sender
        if flags & ACK and ack != add(sender.iss, 1):
            if not flags & RST:
                self._reset = Segment(ack, 0, RST, 0)
            return
        if flags & RST:
            if flags & ACK:
                self._end(ConnectionRefusedError("the peer refused the connection"))
            return
        if not flags & SYN or options is None:
            return
        self._take_syn(seq, window, options)
        self._heard_at = now
        if flags & ACK:
            receiver = self.receiver
            receiver.show(min(receiver.buffer, 0xFFFF))  # as our SYN did
            sender.wl2 = ack
            self._syn_acked(ack, now)
            self.fire(Event.RCV_SYN_ACK)
            self._ack_now = True
            self._user.connected()
            if payload and self.state is not CLOSED:
                self._take_payload(payload[: receiver.window], now)
        else:
            # Simultaneous open: answer with a SYN-ACK of the same ISS.
            self.fire(Event.RCV_SYN)
            self._syn_again = True

    def _syn_acked(self, ack: int, now: float) -> None:
        """The peer has our SYN."""
        sender = self.sender
        sender.una = ack
        if self._syn_tries == 1:
            sender.rtt.acked(ack, now)
            self.receiver.round_trip(sender.rtt.srtt)
        else:
            sender.rtt.syn_was_repeated()
        self._retry_at = inf
        self._syn_again = False

    def _receive(
        self, seq: int, ack: int, flags: int, window: int, payload: memoryview, sacks: Sequence[Block], now: float
    ) -> None:
        """RFC 9293, section 3.10.7.4, for the states from SYN-RECEIVED on; RFC 5961 for what could be blind."""
        receiver, sender = self.receiver, self.sender
        if flags & SYN and seq == receiver.irs and self.state is SYN_RECEIVED and not flags & RST:
            if not flags & ACK:
                self._syn_again = True  # our SYN-ACK was lost
                return
            # Simultaneous open (section 3.5, figure 8): the SYN is known already, and its window is never scaled.
            flags &= ~SYN
            seq = receiver.nxt
            window >>= sender.scale
            self._ack_now = True
        length = len(payload) + (1 if flags & FIN else 0) + (1 if flags & SYN else 0)
        # First: sequence number. A FIN alone is taken at a closed window as well: BSD sends it there, Linux takes it.
        if not receiver.acceptable(seq, 0 if flags & RST else length) and not (
            length == 1 and flags & FIN and seq == receiver.nxt
        ):
            if flags & RST:
                self._counters.out_of_window += 1
                return
            if self.state is TIME_WAIT and flags & FIN:
                self._life_until = now + self._config.time_wait
            # A closed window still hears acknowledgements, resets and urgent data (same section).
            behind = (receiver.nxt - seq) & MASK  # an acknowledgement on any old number may be a blind one (RFC 5961)
            if flags & ACK and not flags & SYN and behind <= receiver.buffer and self.state in SYNCHRONIZED:
                self._take_ack(seq, ack, window << sender.scale, 1, now, sacks)
            idle, self._heard_at = now - self._heard_at, now
            # Keepalives, window probes and data sent again are always answered, others at a rate (RFC 5961, section 7).
            old = (seq - receiver.nxt) & HALF
            if seq == add(receiver.nxt, -1) or receiver.window == 0 or (old and payload):
                self._ack_now = True
                # A kernel that did not hear of an opened window asks in the same words.
                if not length and not receiver.was_closed and idle >= SHORTEST_KEEPALIVE:
                    self._user.probed(idle)
            else:
                self._counters.out_of_window += 1
                self._challenge(now)
            return
        # Second: RST (RFC 5961, section 3.2).
        if flags & RST:
            if seq == receiver.nxt:
                if self.state in CLOSING_DOWN and not sender.sent and not sender.unsent:
                    self._end(None)  # only the ACK of our FIN is missing: the peer is through
                elif self.state is CLOSE_WAIT and self._probes and not sender.sent and not sender.unsent:
                    # We asked whether it lives, and there is no socket any more: the application closed, with a FIN,
                    # and its kernel has forgotten it (Linux: after a minute). That took nothing back.
                    self._forgotten(now)
                elif self.state is not TIME_WAIT:  # RFC 1337
                    self._end(ConnectionResetError("the peer reset the connection"))
            else:
                self._challenge(now)
            return
        # Fourth: SYN (RFC 5961, section 4.2).
        if flags & SYN:
            self._challenge(now)
            return
        # Fifth: ACK.
        if not flags & ACK:
            self._counters.without_ack += 1
            return
        self._heard_at = now
        if self.state is SYN_RECEIVED:
            if ack != add(sender.iss, 1):
                self._reset = Segment(ack, 0, RST, 0)
                return
            sender.wnd = sender.max_wnd = window << sender.scale
            sender.wl1, sender.wl2 = seq, ack
            self._syn_acked(ack, now)
            self.fire(Event.ACK_OF_SYN)
            if sender.fin_queued:
                self.fire(Event.CLOSE)
            self._user.connected()
            if self.state is CLOSED:
                return
        if not self._take_ack(seq, ack, window << sender.scale, length, now, sacks):
            return
        if self.state is CLOSED:
            return
        # Sixth: URG is in line. Seventh: the payload, cut to the window.
        if self.state in MAY_RECEIVE_DATA:
            before = (receiver.nxt - seq) & MASK
            if before & HALF:
                before = 0
            elif before:
                # The front is old; what is wholly old was not acceptable.
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
                    self._counters.early += 1
                    if not receiver.keep_early(seq, payload):
                        self._counters.early_refused += 1
                    self._ack_now = True  # a duplicate ACK tells of the hole (RFC 5681, section 4.2)
            # Eighth: FIN, once everything before it is here.
            if fin and self.fin_seq == receiver.nxt and self.state in MAY_RECEIVE_DATA:
                self._take_fin(now)
            elif fin:
                self._fin_early = True
                self._ack_now = True

    def _challenge(self, now: float) -> None:
        self._counters.challenges += 1
        if now - self._challenge_at >= self._config.challenge_interval:
            self._challenge_at = now
            self._ack_now = True
        else:
            self._counters.challenges_withheld += 1

    def _take_ack(
        self, seq: int, ack: int, window: int, length: int, now: float, sacks: Sequence[Block] = ()
    ) -> bool:
        """The ACK field and the window; False when the segment is to be dropped."""
        sender = self.sender
        covered = (ack - sender.una) & MASK
        if covered & HALF:
            # Older than SND.UNA: fine within the largest window ever seen, else a blind guess (RFC 5961, section 5.2).
            if ((sender.una - ack) & MASK) > sender.max_wnd:
                self._challenge(now)
                return False
        elif covered:
            if covered > (sender.largest - sender.una) & MASK:
                self._challenge(now)
                return False
            sender.acked(ack, now)
            if sacks and sender.take_sacks(sacks):
                sender.duplicate()
            sender.update_window(seq, ack, window, now)
            if self._life_until < inf and self.state is not TIME_WAIT:
                self._life_until = now + self._config.orphan  # an orphan may take its time while it gets on
            if sender.fin_sent and ack == sender.largest and not sender.unsent:
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

    def _take_payload(self, payload: memoryview, now: float) -> None:
        self._ack_due += len(payload)
        # While there is a hole, and when it is filled, the peer hears of it at once (RFC 5681, section 4.2).
        hole = bool(self.receiver.early)
        self.receiver.deliver(payload, now)
        if hole or self._ack_due >= self._ack_every:
            self._ack_now = True
        elif self._delayed_ack_at == inf:
            self._delayed_ack_at = now + self._config.delayed_ack
        if self._fin_early and self.fin_seq == self.receiver.nxt and self.state in MAY_RECEIVE_DATA:
            self._take_fin(now)

    def _take_syn(self, seq: int, window: int, options: Options) -> None:
        sender = self.sender
        mss = max(min(options.mss or self._default_mss, self.mss), MIN_MSS)
        sender.set_mss(
            mss, max(sender.max_payload // mss * mss, mss) if sender.max_payload > sender.mss else mss
        )
        sender.sack = self._config.sack and options.sack_permitted
        scaled = options.wscale is not None
        sender.scale = options.wscale or 0
        self.receiver.start(seq, self._config.wscale if scaled else 0)
        # The window of a SYN is never scaled (RFC 7323, section 2.2).
        sender.wnd = sender.max_wnd = window
        sender.wl1 = seq
        sender.wl2 = sender.iss

    def _take_fin(self, now: float) -> None:
        self._fin_received = True
        receiver = self.receiver
        receiver.nxt = add(receiver.nxt, 1)
        if receiver.window & HALF:
            receiver.adv = receiver.nxt  # a FIN is taken at a closed window as well
        self._ack_now = True
        self.fire(Event.RCV_FIN)
        if self.state is TIME_WAIT:
            self._enter_time_wait(now)
        self._tell_eof()

    def _fin_acked(self, now: float) -> None:
        if self.state not in (FIN_WAIT_1, State.CLOSING, State.LAST_ACK):
            return
        self.fire(Event.ACK_OF_FIN)
        if self.state is FIN_WAIT_2:
            if self._life_until < inf:
                self._life_until = now + self._config.fin_wait_2
        elif self.state is TIME_WAIT:
            self._enter_time_wait(now)
        else:
            self._end(None)
