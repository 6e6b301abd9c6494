"""A connection in its stack: the pump between the machine, its user and the link.

Whatever can change a connection is followed by `flush`, which sends what is due: at once, or, for what happens while a
burst of packets is being received (`dirty`), at its end, so that many segments get one answer. While the link has no
room, flows with data wait in `Tcp.waiting`, each for its turn of one super-segment.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from .config import SEND_FLOOR
from .connection import Connection
from .output import HeaderWriter, largest_payload
from .segment import DEFAULT_MSS_V4, DEFAULT_MSS_V6
from .seq import MASK
from .states import State
from .timestamps import Stamps
from .user import ConnectionUser

if TYPE_CHECKING:
    from .table import Table

QUANTUM = 65536
"""Payload a flow sends in its turn: one super-segment."""
HEADERS = {4: 40, 6: 60}
"""Bytes of IP and TCP headers without options."""
DELIVERED = frozenset({State.FIN_WAIT_2, State.TIME_WAIT, State.CLOSED})


class Flow:
    """A connection in its stack. A forwarder writes to it and reads from it through its `ConnectionUser`.

    Every method that can cause something to be sent sends it before it returns.
    """

    __slots__ = (
        "_claimed", "_tcp", "_user", "_waiting", "connection", "dirty", "held", "key", "local", "remote", "room_opened",
        "scheduled", "writer",
    )  # fmt: skip

    def __init__(
        self, tcp: Table, key: bytes, local: tuple[bytes, int], remote: tuple[bytes, int], user: ConnectionUser, *,
        iss: int | None = None,
    ) -> None:  # fmt: skip
        self._tcp = tcp
        self._user = user
        self.dirty = False
        self._waiting = False
        self._claimed: tuple[int, int] | None = None
        """The path's MTU as ICMP claims it, and the position of what it says did not pass; None unless that is still to
        be believed.
        """
        self.held = 0
        """Bytes of `Table.sending` that are this flow's."""
        self.room_opened = False
        self.scheduled = inf
        self.key = key
        self.local = local
        """Packed address and port on our side; what the peer connected to."""
        self.remote = remote
        stack = tcp.stack
        version = 4 if len(local[0]) == 4 else 6
        headers = HEADERS[version]
        mss = stack.mtu - headers
        self.writer = HeaderWriter(*local, *remote, offload=stack.link.offload)
        self.connection = Connection(
            tcp.config, tcp.budget, self, mss=mss,
            iss=tcp.isn.initial(key, tcp.stack.clock.now()) if iss is None else iss,
            max_payload=largest_payload(version, mss, offload=stack.link.offload),
            default_mss=DEFAULT_MSS_V4 if version == 4 else DEFAULT_MSS_V6, counters=tcp.counters,
            challenges=tcp.challenges, stamps=Stamps(tcp.isn.stamp_offset(key)) if tcp.config.timestamps else None,
        )  # fmt: skip
        self.connection.receiver.reader = user.data_received  # straight: it is called for every segment
        self.connection.limit_mss(tcp.paths.get(remote[0], stack.mtu, stack.clock.now()) - headers)

    def hand_to(self, user: ConnectionUser) -> None:
        """Another user from now on."""
        self._user = user
        self.connection.receiver.reader = user.data_received

    def __repr__(self) -> str:
        return f"<Flow {self.remote} {self.connection!r}>"

    # -- for the user

    @property
    def room(self) -> int:
        """Bytes that would leave at once: what is worth reading from the other side. 0 or less: wait for `acked`."""
        return self.connection.sender.room

    @property
    def queued(self) -> int:
        """Bytes written that could not leave yet."""
        return self.connection.sender.queued

    @property
    def delivered(self) -> bool:
        """Whether the peer has acknowledged everything that was written, and the FIN after it."""
        return self.connection.state in DELIVERED

    @property
    def over(self) -> bool:
        """Whether the peer is gone, whatever the user has not taken yet."""
        return self.connection.state is State.CLOSED

    @property
    def crowded(self) -> bool:
        """Whether all connections together hold so much to be sent that a writer should wait."""
        return self._tcp.crowded

    def write(self, data: bytes) -> None:
        """Send data (kept by reference until acknowledged)."""
        self.connection.write(data)
        self.flush()

    def shutdown(self) -> None:
        """Send no more: FIN after what is queued."""
        self.connection.shutdown()
        self.flush()

    def abandon(self) -> None:
        """Nobody cares for this flow any more: finish it in the background, with a time limit."""
        self.connection.abandon(self._tcp.stack.clock.now())
        self.flush()

    def abort(self) -> bool:
        """Reset; `closed` is not called. False when it was already."""
        if not self.connection.abort():
            return False
        self._tcp.remove(self, None)
        self.flush()
        return True

    def cut(self, error: OSError) -> None:
        """Reset, for a reason that is not the user's; `closed` is called."""
        if self.abort():
            self._user.closed(error)

    def drain(self) -> None:
        """The user can take data again."""
        self.connection.drain(self._tcp.stack.clock.now())
        self.flush()

    def claim(self, mtu: int, seq: int) -> None:
        """ICMP claims that the path takes no larger packets than that, as one with this sequence number did not pass;
        and may be right (:mod:`.pathmtu`).
        """
        sender = self.connection.sender
        if sender.base <= 2 * sender.mss:
            self._believe(mtu)  # the path has not yet shown what it takes
            self.flush()
        else:
            self._claimed = mtu, sender.base + ((seq - sender.una) & MASK)

    def _believe(self, mtu: int) -> None:
        remote, table = self.remote[0], self._tcp
        table.paths.learn(remote, mtu, table.stack.clock.now())
        self.connection.limit_mss(mtu - HEADERS[4 if len(remote) == 4 else 6])

    # -- the connection's user, passed on

    def connected(self) -> None:
        self._user.connected()

    def data_received(self, data: memoryview) -> int:
        return self._user.data_received(data)

    def eof_received(self) -> None:
        self._user.eof_received()

    def acked(self) -> None:
        # Told when the burst is over: the user will write, and what it writes is to leave at once.
        self.room_opened = True

    def probed(self, idle: float) -> None:
        self._user.probed(idle)

    def closed(self, error: OSError | None) -> None:
        self._tcp.remove(self, error)
        self._user.closed(error)

    # -- the pump

    def next_timeout(self) -> float:
        return self.connection.next_timeout()

    def handle_timeout(self, now: float) -> None:
        if self.dirty:
            return  # the end of the burst sends what is due; what is late then is asked for again
        self.dirty = True
        try:
            self.connection.handle_timeout(now)
            sender = self.connection.sender
            if self._claimed is not None and sender.retries:
                mtu, position = self._claimed
                self._claimed = None
                if sender.base <= position:  # else it passed: the claim was wrong
                    self._believe(mtu)
            self.dirty = False
            self.flush()
        except Exception as error:
            self.dirty = False
            self._tcp.broke(self, error)

    def flush(self) -> None:
        """Send what is due: all of it while the link has room, acknowledgements in any case."""
        tcp = self._tcp
        if self.dirty:
            return  # the end of the burst does it
        now = self._tcp.stack.clock.now()
        link = tcp.stack.link
        # While others wait for the link, new data joins the queue behind them.
        ready = link.ready and not tcp.waiting
        held_back = tcp.sending > tcp.send_budget and self._held_back
        self.send_turn(now, QUANTUM if ready and not held_back else 0)
        while self.connection.wants_to_send:
            if tcp.sending > tcp.send_budget and self._held_back:
                break  # its next acknowledgement goes on with it
            if not ready or not link.ready:
                if not self._waiting:
                    self._waiting = True
                    tcp.waiting.append(self)
                break
            self.send_turn(now, QUANTUM)
        if tcp.counts:
            self._count()
        if self.connection.state is State.TIME_WAIT:
            tcp.wait_out(self)
        tcp.stack.timers.update(self)

    @property
    def _held_back(self) -> bool:
        """Of a crowd: whether this flow's new data waits."""
        sender = self.connection.sender
        return sender.flight > SEND_FLOOR and not sender.retransmit_now

    def _count(self) -> None:
        """Keep `Table.sending` true."""
        tcp = self._tcp
        if tcp.flows.get(self.key) is self:
            sender = self.connection.sender
            held = sender.queued + ((sender.nxt - sender.una) & MASK)
            tcp.sending += held - self.held
            self.held = held

    def send_turn(self, now: float, quantum: int) -> None:
        """One turn of the pump."""
        segments = self.connection.transmit(now, quantum)
        if segments:
            tcp = self._tcp
            counters = tcp.counters
            send = tcp.stack.link.send
            write = self.writer.write
            mss = self.connection.sender.mss
            for segment in segments:
                payload = segment.payload
                counters.segments_out += 1
                counters.bytes_out += len(payload)
                header = write(
                    segment.seq, segment.ack, segment.flags, segment.window, segment.options, payload, mss, segment.tos
                )
                send(header, payload)

    def take_turn(self, now: float) -> None:
        """This flow, popped from the queue, sends; then it waits for another turn, or asks its user for more."""
        tcp = self._tcp
        self._waiting = False
        if not (tcp.crowded and self._held_back):
            self.send_turn(now, QUANTUM)
        if self.connection.wants_to_send and not (tcp.crowded and self._held_back):
            self._waiting = True
            tcp.waiting.append(self)
            return
        self.tell_room()
        if tcp.counts:
            self._count()
        tcp.stack.timers.update(self)

    def burst_ended(self) -> None:
        """Send what the burst made due, and tell the user if it made room: what that writes leaves at once."""
        self.dirty = False
        if self.room_opened:
            if self.connection.sender.unsent:
                self.flush()  # first what waits, so that the user sees the room that is left
                self.tell_room()
                return
            self.tell_room()
        self.flush()

    def tell_room(self) -> None:
        """Tell the user that there may be room to write."""
        self.room_opened = False
        if self.connection.state is not State.CLOSED:
            self._user.acked()
