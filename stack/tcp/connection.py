"""One TCP connection: RFC 9293's event processing (section 3.10) over a `Sender` and a `Receiver`. No I/O, no clock.

What happens is told to a `ConnectionUser`; what is to be sent is asked for with `transmit(now)`, until it returns
nothing; when to call `handle_timeout(now)` is told by `next_timeout()`. Whoever pumps the connection does so after
every call that can change it: `receive`, `write`, `shutdown`, `abort`, `drain`, `handle_timeout`.

The way of the data: payload of a segment in order goes to `ConnectionUser.data_received` as a view, before any copy is
made; a chunk given to `write` leaves as one packet and is held by reference until it is acknowledged.

Not here, on purpose: the listener and its queue, addresses and checksums (:mod:`.endpoint`, :mod:`.output`). The
urgent pointer is never used: urgent data is delivered in line (RFC 6093, section 5).
"""

from __future__ import annotations

from math import inf
from typing import Protocol

from .config import TcpConfig
from .receiver import Budget, Receiver
from .segment import ACK, DEFAULT_MSS_V4, FIN, MIN_MSS, RST, SYN, URG, Segment, SynOptions, emit_syn_options
from .sender import Sender
from .seq import HALF, MASK, add
from .states import MAY_RECEIVE_DATA, MAY_SEND_DATA, SYNCHRONIZED, TRANSITIONS, Event, State

CLOSED = State.CLOSED
SYN_SENT = State.SYN_SENT
SYN_RECEIVED = State.SYN_RECEIVED
ESTABLISHED = State.ESTABLISHED
FIN_WAIT_1 = State.FIN_WAIT_1
FIN_WAIT_2 = State.FIN_WAIT_2
TIME_WAIT = State.TIME_WAIT

WRITABLE = MAY_SEND_DATA | {SYN_SENT, SYN_RECEIVED}
CLOSING_DOWN = frozenset({State.CLOSING, State.LAST_ACK})
KEPT_ALIVE = frozenset({ESTABLISHED, State.CLOSE_WAIT, FIN_WAIT_2})
"""States that may last as long as both sides like: an idle peer is asked whether it still lives."""
PREDICTED = SYN | FIN | RST | URG | ACK
"""Header prediction: of these flags only ACK is set on a segment that needs no further thought."""
MAX_QUANTUM = 1 << 30


class ConnectionUser(Protocol):
    """Who uses a connection. The calls come from inside `receive`, `drain`, `handle_timeout`: do not re-enter."""

    def connected(self) -> None:
        """The handshake is complete."""

    def data_received(self, data: memoryview) -> int:
        """Take bytes in order; returns how many were taken. The rest is offered again by `Connection.drain`."""

    def eof_received(self) -> None:
        """The peer sends no more, and everything it sent was taken."""

    def acked(self) -> None:
        """Data was acknowledged or the window opened: there may be room to write."""

    def closed(self, error: OSError | None) -> None:
        """The connection is over: None after an orderly end, else why not. Called once."""


class Connection:
    """The state of one connection. Its key and addresses are its owner's business."""

    __slots__ = (
        "_ack_due", "_ack_every", "_ack_now", "_challenge_at", "_config", "_default_mss", "_delayed_ack_at",
        "_end_told_later", "_eof_told",
        "_fin_early", "_fin_received", "_heard_at", "_keepalive", "_life_until", "_probe", "_probes", "_reset",
        "_retry_at", "_syn_again", "_syn_tries", "_user", "fin_seq", "mss", "receiver", "sender", "state",
    )  # fmt: skip

    def __init__(
        self, config: TcpConfig, budget: Budget, user: ConnectionUser, *, iss: int, mss: int, max_payload: int,
        default_mss: int = DEFAULT_MSS_V4,
    ) -> None:  # fmt: skip
        """`mss`: what we take, and at most send, in a segment; `max_payload`: the largest payload the link takes;
        `default_mss`: what a peer takes that does not say.
        """
        self._config = config
        self._user = user
        self.state = CLOSED
        self.mss = mss
        self._default_mss = default_mss
        self._ack_every = min(2 * mss, config.receive_window // 2)
        """Bytes after which an acknowledgement is sent at once: two segments (RFC 9293, section 3.8.6.3), or half of
        the smallest window if that is less, lest the peer wait for the timer with its window full."""
        self.sender = Sender(iss, mss, max_payload, config.congestion(mss), config.min_rto)
        self.receiver = Receiver(config, budget, user.data_received)
        self.fin_seq = 0
        self._fin_received = False
        self._fin_early = False
        """A FIN came before some of the data in front of it."""
        self._end_told_later = False
        """The connection is over, in order, but its user has not taken all data yet."""
        self._eof_told = False
        self._ack_now = False
        self._ack_due = 0
        """Bytes received and not yet acknowledged."""
        self._delayed_ack_at = inf
        self._syn_again = False
        self._syn_tries = 0
        self._retry_at = inf
        """When the SYN or SYN-ACK is sent again."""
        self._life_until = inf
        """End of TIME-WAIT, of FIN-WAIT-2, or of an orphan's patience."""
        self._heard_at = inf
        self._keepalive = config.keepalive
        self._probes = 0
        self._probe = False
        self._challenge_at = -inf
        self._reset: Segment | None = None

    def __repr__(self) -> str:
        return (
            f"<Connection {self.state.value} una={self.sender.una} nxt={self.sender.nxt} wnd={self.sender.wnd}"
            f" rcv={self.receiver.nxt} flight={self.sender.flight} queued={self.sender.queued}>"
        )

    def fire(self, event: Event) -> None:
        """Move by the table; the only place that changes the state."""
        self.state = TRANSITIONS[self.state, event]

    # -- opening

    def open(self) -> None:
        """Active open: a SYN is to be sent (RFC 9293, section 3.10.1)."""
        self.fire(Event.OPEN)
        self._syn_again = True

    def accept(self, seq: int, window: int, options: SynOptions) -> None:
        """Passive open by the peer's SYN: a SYN-ACK is to be sent (RFC 9293, section 3.10.7.2)."""
        self.fire(Event.ACCEPT)
        self._take_syn(seq, window, options)
        self._syn_again = True

    def _take_syn(self, seq: int, window: int, options: SynOptions) -> None:
        sender = self.sender
        mss = max(min(options.mss or self._default_mss, self.mss), MIN_MSS)
        if mss != sender.mss:
            sender.max_payload = max(sender.max_payload // mss * mss, mss) if sender.max_payload > sender.mss else mss
            sender.mss = mss
            sender.cc = self._config.congestion(mss)
        scaled = options.wscale is not None
        sender.scale = options.wscale or 0
        self.receiver.start(seq, self._config.wscale if scaled else 0)
        # The window of a SYN is never scaled (RFC 7323, section 2.2).
        sender.wnd = sender.max_wnd = window
        sender.wl1 = seq
        sender.wl2 = sender.iss

    # -- the user's calls

    def write(self, data: bytes) -> None:
        """Queue data; it is kept by reference until acknowledged. Ignored once this side closed or the peer is gone."""
        if data and not self.sender.fin_queued and self.state in WRITABLE:
            self.sender.write(data)

    def shutdown(self) -> None:
        """No more data will be written: a FIN follows what is queued (RFC 9293, section 3.10.4)."""
        if self.sender.fin_queued or self.state is CLOSED or self.state is TIME_WAIT:
            return
        if self.state is SYN_SENT:
            self._end(None)
            return
        self.sender.fin_queued = True
        if self.state is not SYN_RECEIVED:
            self.fire(Event.CLOSE)

    def abandon(self, now: float) -> None:
        """The user is gone for good: what is queued may go out, but neither that nor the peer's FIN is awaited long."""
        self.shutdown()
        if self.state is FIN_WAIT_2:
            self._life_until = min(self._life_until, now + self._config.fin_wait_2)
        elif self.state not in (CLOSED, TIME_WAIT):
            self._life_until = min(self._life_until, now + self._config.orphan)

    def abort(self) -> bool:
        """Reset the connection (RFC 9293, section 3.10.5); `closed` will not be called. False when it was already."""
        if self.state is CLOSED:
            waited = self._end_told_later
            self._end_told_later = False
            self.receiver.release()
            return waited
        if self.state not in (SYN_SENT, TIME_WAIT):
            self._reset = Segment(self.sender.largest, self.receiver.nxt, RST | ACK, 0)
        self._end(None, tell=False)
        return True

    def give_way(self) -> None:
        """In TIME-WAIT: a new connection takes the ports, so this one is over (RFC 9293, section 3.6.1)."""
        self._end(None)

    def drain(self, now: float) -> None:
        """The user has room again: offer it what waits, and tell the peer if that opened the window enough."""
        if self.state is CLOSED and not self._end_told_later:
            return
        if self.receiver.backlog_bytes:
            self.receiver.drain(now)
        if self._fin_received:
            self._tell_eof()
        if self._end_told_later and not self.receiver.backlog_bytes:
            self._end_told_later = False
            self.receiver.release()
            self._user.closed(None)
        if self.state in MAY_RECEIVE_DATA and self.receiver.update_due(self.mss):
            self._ack_now = True

    # -- segments in

    def receive(
        self, seq: int, ack: int, flags: int, window: int, payload: memoryview, options: SynOptions | None, now: float
    ) -> None:
        """One segment arrived. `window` is the raw field; `options` are given for a SYN."""
        receiver = self.receiver
        if (
            self.state is ESTABLISHED
            and flags & PREDICTED == ACK
            and seq == receiver.nxt
            and len(payload) <= (receiver.adv - seq) & MASK
        ):
            self._heard_at = now
            if not self._take_ack(seq, ack, window << self.sender.scale, len(payload), now):
                return
            if payload:
                self._take_payload(payload, now)
            return
        if self.state is SYN_SENT:
            self._receive_in_syn_sent(seq, ack, flags, window, payload, options, now)
        elif self.state is not CLOSED:
            self._receive(seq, ack, flags, window, payload, now)

    def _receive_in_syn_sent(
        self, seq: int, ack: int, flags: int, window: int, payload: memoryview, options: SynOptions | None, now: float
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
            receiver.adv = add(receiver.nxt, min(receiver.buffer, 0xFFFF))  # as our SYN showed
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
        else:
            sender.rtt.syn_was_repeated()
        self._retry_at = inf
        self._syn_again = False

    def _receive(self, seq: int, ack: int, flags: int, window: int, payload: memoryview, now: float) -> None:
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
                return
            if self.state is TIME_WAIT and flags & FIN:
                self._life_until = now + self._config.time_wait
            # A closed window still hears acknowledgements, resets and urgent data (same section).
            if flags & ACK and not flags & SYN and not (receiver.nxt - seq) & HALF and self.state in SYNCHRONIZED:
                self._take_ack(seq, ack, window << sender.scale, 1, now)
            self._heard_at = now
            # Keepalives, window probes and data sent again are always answered, others at a rate (RFC 5961, section 7).
            old = (seq - receiver.nxt) & HALF
            if seq == add(receiver.nxt, -1) or receiver.window == 0 or (old and payload):
                self._ack_now = True
            else:
                self._challenge(now)
            return
        # Second: RST (RFC 5961, section 3.2).
        if flags & RST:
            if seq == receiver.nxt:
                if self.state in CLOSING_DOWN and not sender.sent and not sender.unsent:
                    self._end(None)  # only the ACK of our FIN is missing: the peer is through
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
        if not self._take_ack(seq, ack, window << sender.scale, length, now):
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
                    receiver.keep_early(seq, payload)
                    self._ack_now = True  # a duplicate ACK tells of the hole (RFC 5681, section 4.2)
            # Eighth: FIN, once everything before it is here.
            if fin and self.fin_seq == receiver.nxt and self.state in MAY_RECEIVE_DATA:
                self._take_fin(now)
            elif fin:
                self._fin_early = True
                self._ack_now = True

    def _challenge(self, now: float) -> None:
        if now - self._challenge_at >= self._config.challenge_interval:
            self._challenge_at = now
            self._ack_now = True

    def _take_ack(self, seq: int, ack: int, window: int, length: int, now: float) -> bool:
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
            sender.update_window(seq, ack, window, now)
            if self._life_until < inf and self.state is not TIME_WAIT:
                self._life_until = now + self._config.orphan  # an orphan may take its time while it gets on
            if sender.fin_sent and ack == sender.largest and not sender.unsent:
                self._fin_acked(now)
            self._user.acked()
        else:
            if not length and sender.una != sender.nxt and window == sender.wnd:
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

    def _take_fin(self, now: float) -> None:
        self._fin_received = True
        receiver = self.receiver
        receiver.nxt = add(receiver.nxt, 1)
        if receiver.window & HALF:
            receiver.adv = receiver.nxt
        self._ack_now = True
        self.fire(Event.RCV_FIN)
        if self.state is TIME_WAIT:
            self._enter_time_wait(now)
        self._tell_eof()

    def _tell_eof(self) -> None:
        if not self._eof_told and not self.receiver.backlog_bytes:
            self._eof_told = True
            self._user.eof_received()

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

    def _enter_time_wait(self, now: float) -> None:
        self.sender.release()
        self._life_until = now + self._config.time_wait

    def _end(self, error: OSError | None, *, tell: bool = True) -> None:
        if self.state is not CLOSED:
            self.fire(Event.TIMEOUT_2MSL if self.state is TIME_WAIT and error is None and tell else Event.ABORT)
        self.sender.release()
        if error is None and tell and self.receiver.backlog_bytes:
            self._end_told_later = True  # an orderly end: the user first gets what it has not read
            tell = False
        else:
            self.receiver.release()
        self._ack_now = self._syn_again = self._probe = False
        self._delayed_ack_at = self._retry_at = self._life_until = inf
        self._keepalive = 0.0
        if tell:
            self._user.closed(error)

    # -- segments out

    def transmit(self, now: float, quantum: int = MAX_QUANTUM) -> list[Segment]:
        """The segments to send now; at most about `quantum` bytes of payload (0: acknowledgements alone)."""
        out: list[Segment] = []
        if self._reset is not None:
            out.append(self._reset)
            self._reset = None
        state = self.state
        if state is CLOSED:
            return out
        if self._syn_again:
            self._transmit_syn(out, now)
        sender, receiver = self.sender, self.receiver
        if state is not SYN_SENT and state is not SYN_RECEIVED:
            if sender.unsent or sender.retransmit_now or (sender.fin_queued and not sender.fin_sent):
                for seq, flags, payload in sender.transmit(now, quantum):
                    out.append(Segment(seq, receiver.nxt, flags, receiver.advertise(self.mss), payload))
                    self._acknowledged()
            if self._probe:
                self._probe = False
                out.append(Segment(sender.probe_seq(), receiver.nxt, ACK, receiver.advertise(self.mss)))
                self._acknowledged()
        if self._ack_now:
            # SND.NXT may have gone back for a retransmission; to a peer that has all, a lower number would look old.
            out.append(Segment(sender.largest, receiver.nxt, ACK, receiver.advertise(self.mss)))
            self._acknowledged()
        return out

    @property
    def wants_to_send(self) -> bool:
        """Whether data waits that `transmit` with a quantum would send."""
        state = self.state
        if state is CLOSED or state is SYN_RECEIVED or state is SYN_SENT:
            return False
        return self.sender.wants_to_send

    def _acknowledged(self) -> None:
        self._ack_now = False
        self._ack_due = 0
        self._delayed_ack_at = inf

    def _transmit_syn(self, out: list[Segment], now: float) -> None:
        sender, receiver = self.sender, self.receiver
        self._syn_again = False
        self._syn_tries += 1
        if self._syn_tries == 1:
            sender.rtt.start_timing(add(sender.iss, 1), now)
        else:
            sender.rtt.stop_timing()
        self._retry_at = now + sender.rtt.rto
        sender.nxt = sender.largest = add(sender.iss, 1)
        if self.state is SYN_SENT:
            options = emit_syn_options(self.mss, self._config.wscale)
            window = min(receiver.buffer, 0xFFFF)
            out.append(Segment(sender.iss, 0, SYN, window, b"", options))
            return
        options = emit_syn_options(self.mss, receiver.scale or None)
        window = min(receiver.buffer, 0xFFFF)
        receiver.adv = add(receiver.nxt, window)
        out.append(Segment(sender.iss, receiver.nxt, SYN | ACK, window, b"", options))
        self._acknowledged()

    # -- time

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called, in the clock of `now`; inf: not at all."""
        at = self.sender.deadline
        at = min(at, self._delayed_ack_at, self._retry_at, self._life_until)
        if self._keepalive and self.state in KEPT_ALIVE:
            wait = self._config.keepalive_interval * self._probes if self._probes else 0.0
            at = min(at, self._heard_at + self._keepalive + wait)
        return at

    def handle_timeout(self, now: float) -> None:
        """Do what has become due."""
        if now >= self._delayed_ack_at:
            self._delayed_ack_at = inf
            self._ack_now = True
        if now >= self._retry_at:
            self._syn_timeout()
        if now >= self.sender.deadline:
            self._retransmission_timeout(now)
        if now >= self._life_until:
            if self.state is TIME_WAIT:
                self._end(None)
            else:
                self.abort()
                self._user.closed(TimeoutError("the peer did not finish the close in time"))
        if self._keepalive and self.state in KEPT_ALIVE and now >= self.next_timeout():
            self._keepalive_timeout()

    def _syn_timeout(self) -> None:
        if self._syn_tries > self._config.syn_retries:
            self._end(TimeoutError("the peer did not answer the connection request"))
            return
        self.sender.rtt.back_off()
        self._syn_again = True

    def _retransmission_timeout(self, now: float) -> None:
        sender = self.sender
        if sender.retries >= self._config.retries:
            self.abort()
            self._user.closed(TimeoutError("the peer stopped acknowledging"))
            return
        if sender.expire(now):
            self._probe = True

    def _keepalive_timeout(self) -> None:
        if self._probes >= self._config.keepalive_probes:
            self.abort()
            self._user.closed(TimeoutError("the peer stopped answering keepalives"))
            return
        self._probes += 1
        self._probe = True
