"""What a segment does to a connection: RFC 9293's SEGMENT ARRIVES (section 3.10.7), and RFC 5961 against blind ones.

Two ways lead in. A segment that is next in an established connection and has no flag but ACK needs no further thought
(header prediction): its acknowledgement and its payload are taken. Every other goes through the steps of the RFC, in
their order.

Here are the order of the steps and what is not to be taken; what the others bring is in :mod:`.opening` (SYN),
:mod:`.acknowledged` (ACK) and :mod:`.intake` (payload, FIN).
"""

from __future__ import annotations

from .opening import ECN_SETUP, Opening
from .segment import ACK, CE, CWR, ECE, FIN, RST, SYN, URG, Options, Segment, Stamp
from .seq import HALF, MASK, add
from .states import MAY_RECEIVE_DATA, SYNCHRONIZED, Event, State

CLOSED = State.CLOSED
SYN_SENT = State.SYN_SENT
SYN_RECEIVED = State.SYN_RECEIVED
ESTABLISHED = State.ESTABLISHED
CLOSE_WAIT = State.CLOSE_WAIT
TIME_WAIT = State.TIME_WAIT
CLOSING_DOWN = frozenset({State.CLOSING, State.LAST_ACK})
PREDICTED = SYN | FIN | RST | URG | ACK | ECE | CWR | CE
"""Header prediction: of these flags only ACK is set on a segment that needs no further thought."""

SHORTEST_KEEPALIVE = 0.9
"""Seconds: keepalives come after whole ones, data sent again after less."""


class Arrival(Opening):
    """A control block that takes segments."""

    __slots__ = ()

    def receive(
        self, seq: int, ack: int, flags: int, window: int, payload: memoryview, options: Options | Stamp | None,
        now: float,
    ) -> None:  # fmt: skip
        """One segment arrived. `flags` may hold `CE` besides the header's; `window` is the raw field; `options` are
        the bare stamp where there is nothing else, and may be None without any, but for a SYN.
        """
        receiver = self.receiver
        stamps = self.stamps
        if (
            self.state is ESTABLISHED
            and flags & PREDICTED == ACK
            and seq == receiver.nxt
            and len(payload) <= (receiver.adv - seq) & MASK
            and (
                options is None
                if stamps is None
                else isinstance(options, tuple) and not (options[0] - stamps.recent) & HALF
            )
        ):
            sender = self.sender
            window <<= sender.scale
            if payload and ack == sender.una and window == sender.wnd:
                # The acknowledgement says nothing new, and no segment before was newer.
                sender.wl1 = seq
                sender.wl2 = ack
                if sender.persisting:
                    sender.retries = 0
                self._probes = 0
            elif not self._take_ack(seq, ack, window, len(payload), now, (), options):
                return
            if stamps is not None and isinstance(options, tuple):
                stamps.take(options[0], seq, now)
            if payload:
                self._take_payload(payload, now)
            self._heard_at = now
            return
        if isinstance(options, tuple):
            options = Options(stamp=options)
        if self.state is SYN_SENT:
            self._receive_in_syn_sent(seq, ack, flags, window, payload, options, now)
        elif self.state is not CLOSED:
            self._receive(seq, ack, flags, window, payload, options, now)

    def _receive(
        self, seq: int, ack: int, flags: int, window: int, payload: memoryview, options: Options | None, now: float
    ) -> None:
        """RFC 9293, section 3.10.7.4, for the states from SYN-RECEIVED on; RFC 5961 for what could be blind."""
        receiver, sender, stamps = self.receiver, self.sender, self.stamps
        sacks, stamp = ((), None) if options is None else (options.sacks, options.stamp)
        if flags & SYN and seq == receiver.irs and self.state is SYN_RECEIVED and not flags & RST:
            if not flags & ACK:
                self._syn_again = True  # our SYN-ACK was lost
                self.ecn = self.ecn and flags & ECN_SETUP == ECN_SETUP  # the peer thinks better of it
                if stamps is not None and stamp is not None and not stamps.outdated(stamp[0], now):
                    stamps.take(stamp[0], seq, now)
                return
            if ack == add(sender.iss, 1):
                # Simultaneous open (section 3.5, figure 8): the SYN is known already, and its window is never scaled.
                flags &= ~(SYN | ECN_SETUP)
                seq = receiver.nxt
                window >>= sender.scale
                self._ack_now = True
        length = len(payload) + (1 if flags & FIN else 0) + (1 if flags & SYN else 0)
        if stamps is not None and not flags & RST and not self._stamp_holds(seq, flags, payload, stamp, now):
            return
        # First: sequence number. A FIN alone is taken at a closed window as well: BSD sends it there, Linux takes it.
        if not receiver.acceptable(seq, 0 if flags & RST else length) and not (
            length == 1 and flags & FIN and seq == receiver.nxt
        ):
            self._refuse(seq, ack, flags, window, payload, options, now)
            return
        # Second: RST.
        if flags & RST:
            self._take_reset(seq, now)
            return
        # Fourth: SYN (RFC 5961, section 4.2).
        if flags & SYN:
            self._challenge(now)
            return
        # Fifth: ACK.
        if not flags & ACK:
            self._counters.without_ack += 1
            return
        if self.state is SYN_RECEIVED:
            if ack != add(sender.iss, 1):
                self._reset = Segment(ack, 0, RST, 0)
                return
            sender.wnd = window << sender.scale
            sender.max_wnd = max(sender.max_wnd, sender.wnd)  # the SYN's is one that was seen (section 3.8.6.2.1)
            sender.wl1, sender.wl2 = seq, ack
            self._syn_acked(ack, options, now)
            self.fire(Event.ACK_OF_SYN)
            if sender.fin_queued:
                self.fire(Event.CLOSE)
            self._user.connected()
            if self.state is CLOSED:
                return
        flight = sender.flight
        if not self._take_ack(seq, ack, window << sender.scale, length, now, sacks, stamp):
            return
        if stamps is not None and stamp is not None:
            stamps.take(stamp[0], seq, now)  # RFC 7323, section 5.3, R3; not before a blind one was found out
        if self.ecn:
            self._take_marks(flags, payload, flight, now)
        # Sixth: URG is in line. Seventh and eighth: the payload, cut to the window, and the FIN.
        if self.state in MAY_RECEIVE_DATA:
            self._take_text(seq, flags, payload, now)
        self._heard_at = now

    def _stamp_holds(self, seq: int, flags: int, payload: memoryview, stamp: Stamp | None, now: float) -> bool:
        """Whether a segment that is no reset has the timestamp that was agreed on, and no old one."""
        if stamp is None:
            # RFC 7323, section 3.2. A SYN may be that of a peer that started anew: it is challenged.
            if not flags & SYN:
                self._counters.without_stamp += 1
            return flags & SYN != 0
        if self.stamps is None or not self.stamps.outdated(stamp[0], now):
            return True
        self._counters.outdated += 1
        # PAWS (section 5.3, R1): an acknowledgement, dropped.
        if payload and not flags & SYN:
            self._tell_of_old(seq, len(payload))
            self._ack_now = True
        else:
            self._challenge(now)
        return False

    def _refuse(
        self, seq: int, ack: int, flags: int, window: int, payload: memoryview, options: Options | None, now: float
    ) -> None:
        """A segment whose sequence number is not acceptable: an acknowledgement, dropped."""
        receiver = self.receiver
        if flags & RST:
            self._counters.out_of_window += 1
            return
        if self.state is TIME_WAIT and flags & FIN and add(seq, len(payload) + 1) == receiver.nxt:
            # The peer's FIN again: our acknowledgement of it was lost (section 3.10.7.4, eighth).
            self._life_until = now + self._config.time_wait
            if self.stamps is not None and options is not None and options.stamp is not None:
                self.stamps.recent = options.stamp[0]  # what a new connection's has to exceed (RFC 6191)
        # A closed window still hears acknowledgements, resets and urgent data (same section).
        behind = (receiver.nxt - seq) & MASK  # an acknowledgement on any old number may be a blind one (RFC 5961)
        if flags & ACK and not flags & SYN and behind <= receiver.buffer and self.state in SYNCHRONIZED:
            sacks, stamp = ((), None) if options is None else (options.sacks, options.stamp)
            held = self._take_ack(seq, ack, window << self.sender.scale, 1, now, sacks, stamp)
            if not held and not payload:
                # Challenged, and no more: two ends that each believe the other to have sent what it did not, as who
                # forges a byte to both makes them, would answer each other's answers for ever.
                return
        idle, self._heard_at = now - self._heard_at, now
        # Keepalives, window probes and data sent again are always answered, others at a rate (RFC 5961, section 7).
        old = (seq - receiver.nxt) & HALF
        if seq == add(receiver.nxt, -1) or receiver.window == 0 or (old and payload):
            if old and payload:
                self._tell_of_old(seq, len(payload))
            self._ack_now = True
            # A kernel that did not hear of an opened window asks in the same words.
            if not len(payload) and not flags & (FIN | SYN) and not receiver.was_closed and idle >= SHORTEST_KEEPALIVE:
                self._user.probed(idle)
        else:
            self._counters.out_of_window += 1
            self._challenge(now)

    def _tell_of_old(self, seq: int, length: int) -> None:
        """Data below RCV.NXT came again (RFC 2883, section 4)."""
        nxt = self.receiver.nxt
        if (seq - nxt) & HALF:
            end = add(seq, length)
            self._note_duplicate(seq, end if (end - nxt) & HALF else nxt)

    def _take_reset(self, seq: int, now: float) -> None:
        """A RST in the window (RFC 5961, section 3.2)."""
        sender = self.sender
        if seq != self.receiver.nxt:
            self._challenge(now)
        elif self.state in CLOSING_DOWN and not sender.sent and not sender.unsent:
            self._end(None)  # only the ACK of our FIN is missing: the peer is through
        elif self.state is CLOSE_WAIT and self._probes and not sender.sent and not sender.unsent:
            # We asked whether it lives, and there is no socket any more: the application closed, with a FIN,
            # and its kernel has forgotten it (Linux: after a minute). That took nothing back.
            self._forgotten(now)
        elif self.state is not TIME_WAIT:  # RFC 1337
            self._end(ConnectionResetError("the peer reset the connection"))

    def _take_marks(self, flags: int, payload: memoryview, flight: int, now: float) -> None:
        """ECN on a segment that was taken, before which so much was in flight (RFC 3168, section 6.1)."""
        if payload and self.state in MAY_RECEIVE_DATA:  # text behind the peer's FIN is ignored, marks and all
            if flags & CWR:
                self._echo = 0  # the peer sends less: its word for it ends our echo (section 6.1.3)
                self._ack_now = True  # and it may send too little now to make us acknowledge
            if flags & CE:
                self._counters.marked += 1
                self._ack_now = self._ack_now or not self._echo
                self._echo = ECE
        if flags & ECE and flight:
            self.sender.ece(flight, now)

    def gives_way_to(self, seq: int, options: Options | Stamp) -> bool:
        """In TIME-WAIT: whether a SYN may begin a new connection of the same ports (RFC 6191, section 2; RFC 9293,
        section 3.6.1): it must be newer than the old one's last segment, by its timestamp or by its number.
        """
        newer = bool((self.receiver.nxt - seq) & HALF)
        stamp = options if isinstance(options, tuple) else options.stamp
        if stamp is None or not self._config.timestamps:
            return newer
        if self.stamps is None:
            return True  # no segment of the old one carries a timestamp, so none is taken for one of the new
        ahead = (stamp[0] - self.stamps.recent) & MASK
        return not ahead & HALF if ahead else newer
