"""One TCP connection: RFC 9293's event processing (section 3.10) over a `Sender` and a `Receiver`. No I/O, no clock.

Here are the user's calls, what is to be sent, and the timeouts; what arriving segments do is in :mod:`.arrival`.

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

from .arrival import Arrival
from .segment import ACK, ECT_0, MAX_SACK_BLOCKS, MAX_SACK_BLOCKS_STAMPED, MIN_MSS, RST, Options, Segment, emit_sacks
from .seq import HALF
from .states import MAY_RECEIVE_DATA, MAY_SEND_DATA, Event, State

CLOSED = State.CLOSED
SYN_SENT = State.SYN_SENT
SYN_RECEIVED = State.SYN_RECEIVED
FIN_WAIT_2 = State.FIN_WAIT_2
TIME_WAIT = State.TIME_WAIT

WRITABLE = MAY_SEND_DATA | {SYN_SENT, SYN_RECEIVED}
KEPT_ALIVE = frozenset({State.ESTABLISHED, State.CLOSE_WAIT, FIN_WAIT_2})
"""States that may last as long as both sides like: an idle peer is asked whether it still lives."""
SILENT = frozenset({SYN_SENT, State.CLOSING, State.LAST_ACK, TIME_WAIT})
"""States that are aborted without a word: the peer knows nothing yet, or has said all (RFC 9293, section 3.10.5)."""
MAX_QUANTUM = 1 << 30


class Connection(Arrival):
    """One connection: give it events, ask it for segments."""

    __slots__ = ()

    # -- opening

    def open(self) -> None:
        """Active open: a SYN is to be sent (RFC 9293, section 3.10.1)."""
        self.fire(Event.OPEN)
        self.ecn = self._config.ecn_request
        self._syn_again = True

    def accept(self, seq: int, window: int, options: Options, *, ecn: bool = False) -> None:
        """Passive open by the peer's SYN: a SYN-ACK is to be sent (RFC 9293, section 3.10.7.2).

        `ecn`: the SYN asks for it, by ECE and CWR.
        """
        self.fire(Event.ACCEPT)
        self._take_syn(seq, window, options)
        self.ecn = ecn and self._config.ecn
        self._syn_again = True

    def answered(self, first_at: float, tries: int) -> None:
        """After `accept`: the SYN-ACK has left already, for the first time then, and so many times in all."""
        self.transmit(first_at)
        self._syn_tries = tries

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
            self._life_until = inf
            self.receiver.release()
            return waited
        if self.state not in SILENT:
            self._reset = Segment(self.sender.plain_seq, self.receiver.nxt, RST | ACK, 0)
        self._end(None, tell=False)
        return True

    def limit_mss(self, mss: int) -> None:
        """The path takes no more than `mss` bytes behind a TCP header without options."""
        if mss >= self.path_mss:
            return
        self.path_mss = max(mss, MIN_MSS)
        sender, mss = self.sender, self.path_mss - self.option_bytes
        if mss < sender.mss:
            most = sender.max_payload
            sender.set_mss(mss, max(most // mss * mss, mss) if most > sender.mss else mss)

    def give_way(self) -> None:
        """In TIME-WAIT: a new connection takes the ports, so this one is over (RFC 9293, section 3.6.1)."""
        self._end(None)

    def drain(self, now: float) -> None:
        """The user has room again: offer it what waits, and tell the peer if that opened the window enough."""
        if self.state is CLOSED and not self._end_told_later:
            return
        before = self.receiver.backlog_bytes
        if before:
            self.receiver.drain(now)
        if self._life_until < inf and self._end_told_later and self.receiver.backlog_bytes < before:
            self._life_until = now + self._config.orphan
        if self._fin_received:
            self._tell_eof()
        if self._end_told_later and not self.receiver.backlog_bytes:
            self._end_told_later = False
            self._life_until = inf
            self.receiver.release()
            self._user.closed(None)
        if self.state in MAY_RECEIVE_DATA and self.receiver.update_due(self.mss):
            self._ack_now = True

    # -- segments out

    def transmit(self, now: float, quantum: int = MAX_QUANTUM) -> list[Segment]:
        """The segments to send now; at most about `quantum` bytes of payload (0: acknowledgements alone)."""
        out: list[Segment] = []
        state = self.state
        if self._reset is not None:
            if self.stamps is not None and state is not SYN_SENT:
                self._reset.options = self.stamps.option(now)  # RFC 7323, section 3.2
            out.append(self._reset)
            self._reset = None
        if state is CLOSED:
            return out
        if self._syn_again:
            self._transmit_syn(out, now)
        sender, receiver = self.sender, self.receiver
        ack_due = self._ack_now
        if (
            (sender.unsent or sender.retransmit_now or (sender.fin_queued and not sender.fin_sent))
            and state is not SYN_SENT
            and state is not SYN_RECEIVED
        ):
            self._transmit_data(out, now, quantum)
        # Data packets carry no SACK: what is held beyond a hole is told by an acknowledgement of its own.
        options = b""
        if ack_due and sender.sack and (receiver.early.size or self._duplicate is not None):
            options = self._report()
        if self._ack_now or options or self._probe:
            if self._probe:
                self._probe = False
                seq = sender.probe_seq()
            else:
                seq = sender.plain_seq
            if self.stamps is not None:
                options = self.stamps.option(now) + options
                self.stamps.acked = receiver.nxt
            segment = Segment(seq, receiver.nxt, ACK | self._echo, receiver.advertise(self.mss), b"", options)
            out.append(segment)
            if self._repeats:
                # One answers a whole burst; who is not told by SACK what came counts them (RFC 5681, section 3.2).
                out += [segment] * (self._repeats - (not self._ack_due))
                self._repeats = 0
            self._ack_now = False
            self._ack_due = 0
            self._delayed_ack_at = inf
        return out

    def _transmit_data(self, out: list[Segment], now: float, quantum: int) -> None:
        sender, receiver, echo = self.sender, self.receiver, self._echo
        new = sender.nxt
        pieces = sender.transmit(now, quantum)
        if not pieces:
            return
        options = b""
        if self.stamps is not None:
            options = self.stamps.option(now)
            self.stamps.acked = receiver.nxt
        for seq, flags, payload in pieces:
            window = receiver.advertise(self.mss)
            out.append(Segment(seq, receiver.nxt, flags | echo, window, payload, options))
        if self.ecn:
            # What may be marked is data that leaves for the first time (RFC 3168, sections 6.1.4 and 6.1.5).
            for segment in out:
                if segment.payload and not (segment.seq - new) & HALF:
                    segment.tos = ECT_0
        if self._quick and now - self._heard_at < self._config.delayed_ack:
            self._quick = 0  # an answer: see `_acknowledge_soon`
        self._ack_now = False
        self._ack_due = 0
        self._delayed_ack_at = inf

    def _report(self) -> bytes:
        """The SACK option: what came twice first (RFC 2883, section 4), then what is held beyond RCV.NXT."""
        most = MAX_SACK_BLOCKS if self.stamps is None else MAX_SACK_BLOCKS_STAMPED
        blocks = self.receiver.sacks(most)
        if self._duplicate is not None:
            blocks.insert(0, self._duplicate)
            self._duplicate = None
        return emit_sacks(blocks, most)

    @property
    def wants_to_send(self) -> bool:
        """Whether data waits that `transmit` with a quantum would send."""
        state = self.state
        if state is CLOSED or state is SYN_RECEIVED or state is SYN_SENT:
            return False
        return self.sender.wants_to_send

    # -- time

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called, in the clock of `now`; inf: not at all."""
        sender = self.sender
        at = min(sender.deadline, sender.look_at, self._delayed_ack_at, self._retry_at, self._life_until)
        if self.user_timeout:
            at = min(at, sender.waiting_since + self.user_timeout)
        if self._keepalive and self.state in KEPT_ALIVE:
            # Counted from the last probe: after a jump of the clock each of them still has its time to be answered.
            if self._probes:
                at = min(at, self._probed_at + self._config.keepalive_interval)
            else:
                at = min(at, self._heard_at + self._keepalive)
        return at

    def handle_timeout(self, now: float) -> None:
        """Do what has become due."""
        if now >= self._delayed_ack_at:
            self._delayed_ack_at = inf
            self._ack_now = True
        if now >= self._retry_at:
            self._syn_timeout()
        if self.user_timeout and now >= self.sender.waiting_since + self.user_timeout:
            self._give_up()
        elif now >= self.sender.deadline:
            self._retransmission_timeout(now)
        elif now >= self.sender.look_at:
            self.sender.look(now)
        if now >= self._life_until:
            if self.state is TIME_WAIT:
                self._end(None)
            else:
                self.abort()
                self._user.closed(TimeoutError("the peer did not finish the close in time"))
        if self._keepalive and self.state in KEPT_ALIVE and now >= self.next_timeout():
            self._keepalive_timeout(now)

    def _syn_timeout(self) -> None:
        if self._syn_tries > self._config.syn_retries:
            self._end(TimeoutError("the peer did not answer the connection request"))
            return
        self.sender.rtt.back_off()
        self._syn_again = True

    def _retransmission_timeout(self, now: float) -> None:
        sender = self.sender
        retries = self._config.persist_retries if sender.persisting else self._config.retries
        if sender.retries >= retries and not self.user_timeout:
            self._give_up()
        elif sender.expire(now):
            self._probe = True

    def _give_up(self) -> None:
        self.abort()
        self._user.closed(TimeoutError("the peer stopped acknowledging"))

    def _keepalive_timeout(self, now: float) -> None:
        if self._probes >= self._config.keepalive_probes:
            self.abort()
            self._user.closed(TimeoutError("the peer stopped answering keepalives"))
            return
        self._probes += 1
        self._probed_at = now
        self._probe = True
        self.receiver.narrow()  # it was idle: others may use the memory
