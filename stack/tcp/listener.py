"""A listener, and the connections whose handshake it has not seen the end of.

Of such a connection only what its SYN said is kept, some 500 bytes, and the SYN-ACK's number: whatever arrives for it
is shown to a connection made anew in SYN-RECEIVED, exactly as it was. When that is established by it, the connection
stays and gets its user; until then it is thrown away again. So a flood of SYNs costs little, reaches no user, and takes
nothing from connections that exist: beyond the backlog the oldest handshake gives way to the newest, as a real peer
answers within a round trip and a forged one never does (BSD's SYN cache: Lemon, 2002).
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from .flow import Flow
from .segment import parse_options
from .states import State
from .user import ConnectionUser

if TYPE_CHECKING:
    from .segment import Options, Stamp
    from .strays import Stray
    from .table import Table

BACKLOG = 4096
"""Handshakes under way, a listener: at 20,000 SYNs a second a peer 200 ms away still gets through. Two megabytes."""
LOOK_ROUND = 0.1
"""Seconds, at least, between looks at which SYN-ACKs are to be sent again."""

Opened = Callable[[Flow], ConnectionUser]
"""Makes the user of a connection whose handshake is done."""


class HalfOpen:
    """What is kept of a SYN that was answered."""

    __slots__ = ("ecn", "iss", "options", "retry_at", "sent_at", "seq", "tries", "window")

    def __init__(self, syn: Stray, iss: int, now: float) -> None:
        self.seq = syn.seq
        self.window = syn.window
        self.options = syn.options
        """As they stand in the SYN."""
        self.ecn = syn.asks_for_ecn
        self.iss = iss
        self.sent_at = now
        self.tries = 1
        self.retry_at = inf


class Listener:
    """Accepts connections to one port. Timed: SYN-ACKs without an answer are sent again."""

    __slots__ = ("_backlog", "_half_open", "_look_at", "_opened", "_table", "scheduled")

    def __init__(self, table: Table, opened: Opened, backlog: int = BACKLOG) -> None:
        """`opened` is called for each connection once its handshake is done; `backlog`: handshakes under way."""
        if backlog < 1:
            raise ValueError(f"a backlog is 1 or more, not {backlog}")
        self._table = table
        self._opened = opened
        self._backlog = backlog
        self._half_open: dict[bytes, HalfOpen] = {}
        """By flow key, the oldest first."""
        self._look_at = inf
        self.scheduled = inf

    @property
    def half_open(self) -> int:
        """Handshakes under way."""
        return len(self._half_open)

    def __contains__(self, key: bytes) -> bool:
        return key in self._half_open

    def close(self) -> None:
        """Forget the handshakes: what still comes for them is answered as for a closed port."""
        self._table.counters.handshakes_failed += len(self._half_open)
        self._half_open.clear()
        self._look_at = inf

    def request(self, syn: Stray, now: float) -> None:
        """A SYN: answer it, and remember what is needed when the answer is answered (RFC 9293, section 3.10.7.2)."""
        waiting, table = self._half_open, self._table
        if len(waiting) >= self._backlog:
            del waiting[next(iter(waiting))]
            table.counters.half_open_dropped += 1
        table.counters.handshakes += 1
        half = waiting[syn.key] = HalfOpen(syn, table.isn.initial(syn.key, now), now)
        flow = self._made_anew(syn.key, half)
        flow.send_turn(now, 0)
        half.retry_at = now + flow.connection.sender.rtt.rto
        self._look(half.retry_at)

    def receive(
        self, key: bytes, seq: int, ack: int, flags: int, window: int, payload: memoryview,
        options: Options | Stamp | None, now: float,
    ) -> None:  # fmt: skip
        """Another segment of a handshake under way."""
        half = self._half_open[key]
        flow = self._made_anew(key, half)
        connection = flow.connection
        connection.answered(half.sent_at, half.tries)
        flow.dirty = True
        try:
            connection.receive(seq, ack, flags, window, payload, options, now)
        finally:
            if key in self._half_open:  # else it lives on, and the end of the burst sends what is due
                flow.dirty = False
        if connection.state is State.CLOSED and self._half_open.pop(key, None) is not None:
            self._table.counters.handshakes_failed += 1
        half.ecn = connection.ecn  # a repeated SYN may ask for it no more
        if not flow.dirty:
            flow.send_turn(now, 0)

    def establish(self, flow: Flow) -> ConnectionUser:
        """The handshake of a connection made anew is done."""
        self._half_open.pop(flow.key, None)
        self._table.counters.established += 1
        self._table.add(flow)
        self._table.dirty.append(flow)
        return self._opened(flow)

    def _made_anew(self, key: bytes, half: HalfOpen) -> Flow:
        size = len(key) // 2 - 2
        remote = (key[:size], int.from_bytes(key[-4:-2], "big"))
        local = (key[size : 2 * size], int.from_bytes(key[-2:], "big"))
        user = _Handshake(self)
        flow = user.flow = Flow(self._table, key, local, remote, user, iss=half.iss)
        flow.connection.accept(half.seq, half.window, parse_options(half.options), ecn=half.ecn)
        return flow

    # -- Timed

    def _look(self, at: float) -> None:
        if at < self._look_at:
            self._look_at = at
            self._table.stack.timers.update(self)

    def next_timeout(self) -> float:
        """See `Timed`."""
        return self._look_at

    def handle_timeout(self, now: float) -> None:
        """Send SYN-ACKs again, one second after the first, then two, and so on; forget whom that does not help."""
        earliest = inf
        for key, half in list(self._half_open.items()):
            if half.retry_at <= now:
                if half.tries > self._table.config.syn_retries:
                    del self._half_open[key]
                    self._table.counters.handshakes_failed += 1
                    continue
                self._made_anew(key, half).send_turn(now, 0)
                half.retry_at = now + (1 << half.tries)
                half.tries += 1
            earliest = min(earliest, half.retry_at)
        self._look_at = max(earliest, now + LOOK_ROUND)


class _Handshake:
    """Stands in for the user of a connection until there is one."""

    __slots__ = ("_listener", "flow")

    flow: Flow

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def connected(self) -> None:
        user = self._listener.establish(self.flow)
        self.flow.hand_to(user)
        user.connected()

    def data_received(self, data: memoryview) -> int:
        return 0

    def eof_received(self) -> None:
        """Nobody is there to be told."""

    def acked(self) -> None:
        """Nobody is there to be told."""

    def probed(self, idle: float) -> None:
        """Nobody is there to be told."""

    def closed(self, error: OSError | None) -> None:
        """It ends as it began: nobody knew of it."""
