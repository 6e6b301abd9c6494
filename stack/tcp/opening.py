"""The handshake: our SYN or SYN-ACK, the peer's, and what both agree on (RFC 9293, sections 3.5 and 3.10.7.3).

Agreed on is what both SYNs carry: window scaling and timestamps (RFC 7323), SACK (RFC 2018), and ECN by flags (RFC
3168, section 6.1.1).
"""

from __future__ import annotations

from math import inf

from .acknowledged import Acknowledged
from .config import LEAST_USER_TIMEOUT, MOST_USER_TIMEOUT
from .segment import ACK, CWR, ECE, MIN_MSS, RST, SYN, Options, Segment, emit_syn_options
from .seq import add
from .states import MAY_RECEIVE_DATA, Event, State

SYN_SENT = State.SYN_SENT
ECN_SETUP = ECE | CWR
"""Both on a SYN ask for ECN; on a SYN-ACK ECE alone agrees to it. Some hosts mirror both: that is no consent."""


class Opening(Acknowledged):
    """A control block that opens."""

    __slots__ = ()

    # -- in

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
        asked = self.ecn
        self._take_syn(seq, window, options)
        self._heard_at = now
        if flags & ACK:
            receiver = self.receiver
            receiver.show(min(receiver.buffer, 0xFFFF))  # as our SYN did
            sender.wl2 = ack
            self.ecn = asked and flags & ECN_SETUP == ECE
            self._syn_acked(ack, options, now)
            self.fire(Event.RCV_SYN_ACK)
            self._ack_now = True
            self._user.connected()
            if self.state in MAY_RECEIVE_DATA:
                self._take_text(receiver.nxt, flags, payload, now)  # fifth: data and FIN on it go on at the sixth step
        else:
            # Simultaneous open: answer with a SYN-ACK of the same ISS.
            self.ecn = asked and flags & ECN_SETUP == ECN_SETUP
            self.fire(Event.RCV_SYN)
            self._syn_again = True

    def _take_syn(self, seq: int, window: int, options: Options) -> None:
        """What the peer's SYN says. Its data, if there is any, is not taken: it comes again (section 3.10.7.2)."""
        sender, config = self.sender, self._config
        if options.stamp is None:
            self.stamps = None
        elif self.stamps is not None:
            self.stamps.recent = options.stamp[0]
        # What a segment may hold is less by the options that all of them carry (RFC 6691).
        mss = max(min(options.mss or self._default_mss, self.path_mss), MIN_MSS) - self.option_bytes
        if mss != sender.mss:
            most = sender.max_payload - self.option_bytes
            sender.set_mss(mss, max(most // mss * mss, mss) if sender.max_payload > sender.mss else mss)
            # Segments as large as the peer takes are about what it sends: two of them are acknowledged at once.
            self._ack_every = min(2 * mss, self._ack_every)
        sender.sack = config.sack and options.sack_permitted
        scaled = options.wscale is not None
        sender.scale = options.wscale or 0
        self.receiver.start(seq, config.wscale if scaled else 0)
        # The window of a SYN is never scaled (RFC 7323, section 2.2).
        sender.wnd = sender.max_wnd = window
        sender.wl1 = seq
        sender.wl2 = sender.iss
        self._quick = config.quick_acks
        if config.user_timeout_option and options.user_timeout:
            longest = max(config.user_timeout, options.user_timeout, LEAST_USER_TIMEOUT)
            self.user_timeout = min(longest, MOST_USER_TIMEOUT)  # RFC 5482, section 3.1

    def _syn_acked(self, ack: int, options: Options | None, now: float) -> None:
        """The peer has our SYN."""
        sender, stamps = self.sender, self.stamps
        sender.una = ack
        stamp = options.stamp if options is not None else None
        if self._syn_tries == 1:
            sender.rtt.acked(ack, now)
            self.receiver.round_trip(sender.rtt.srtt)
        elif stamps is not None and stamp is not None and (trip := stamps.round_trip(stamp[1], now)) is not None:
            # Which copy is answered the echo tells, so RFC 6298's 3 s (section 5.7) for want of a sample are not due.
            sender.rtt.stop_timing()
            sender.rtt.sample(trip)
            self.receiver.round_trip(trip)
        else:
            sender.rtt.syn_was_repeated()
        self._retry_at = inf
        self._syn_again = False

    # -- out

    def _transmit_syn(self, out: list[Segment], now: float) -> None:
        sender, receiver, stamps = self.sender, self.receiver, self.stamps
        self._syn_again = False
        self._syn_tries += 1
        if self._syn_tries == 1:
            sender.rtt.start_timing(add(sender.iss, 1), now)
            if stamps is not None:
                stamps.begin(now)
        else:
            sender.rtt.stop_timing()
        self._retry_at = now + sender.rtt.rto
        sender.nxt = add(sender.iss, 1)
        window = min(receiver.buffer, 0xFFFF)
        stamp = None if stamps is None else stamps.pair(now)
        config = self._config
        timeout = config.user_timeout if config.user_timeout_option else 0.0
        if self.state is SYN_SENT:
            options = emit_syn_options(self.mss, config.wscale, sack=config.sack, stamp=stamp, user_timeout=timeout)
            # Sent again it does not ask: whatever swallowed the first may have disliked its flags (section 6.1.1.1).
            self.ecn = self.ecn and self._syn_tries == 1
            out.append(Segment(sender.iss, 0, SYN | ECN_SETUP if self.ecn else SYN, window, b"", options))
            return
        scale = receiver.scale or None
        options = emit_syn_options(self.mss, scale, sack=sender.sack, stamp=stamp, user_timeout=timeout)
        receiver.show(window)
        flags = SYN | ACK | ECE if self.ecn else SYN | ACK
        out.append(Segment(sender.iss, receiver.nxt, flags, window, b"", options))
        if stamps is not None:
            stamps.acked = receiver.nxt
        self._ack_now = False
        self._ack_due = 0
        self._delayed_ack_at = inf
