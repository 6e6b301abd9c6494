"""TCP in its stack: which connection a segment belongs to, what is answered when there is none, and the pump.

A flow's key is the slice of the packet that holds both addresses and both ports: the same bytes for every packet of
the flow, so finding the connection is one slice and one dictionary look-up. Segments that arrive in one burst are
answered once, at its end (`burst_ended`): many super-segments, one acknowledgement.

Sending is fair by round robin: while the link has no room, flows with data queue up, and each sends one super-segment
a turn (deficit round robin, RFC 8290's inner loop, with a quantum of one packet).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from errno import EHOSTUNREACH, ENETUNREACH
from math import inf
from os import urandom
from time import monotonic
from typing import TYPE_CHECKING

from ..checksum import pseudo_header_sum, verifies
from ..icmp.wire import Problem, Quoted
from ..packet import TCP
from .config import TcpConfig
from .connection import Connection, ConnectionUser
from .isn import IsnGenerator
from .output import HeaderWriter, largest_payload
from .receiver import Budget
from .request import TcpRequest
from .segment import (
    ACK,
    DEFAULT_MSS_V4,
    DEFAULT_MSS_V6,
    FIN,
    HEADER_LEN,
    RST,
    SYN,
    TCP_HEADER,
    SynOptions,
    parse_syn_options,
)
from .seq import HALF, MASK, add
from .states import State

if TYPE_CHECKING:
    from ..stack import Stack

QUANTUM = 65536
"""Payload a flow sends in its turn: one super-segment."""
FIRST_EPHEMERAL = 49152
"""RFC 6335, section 6."""

Accept = Callable[["TcpRequest"], None]


@dataclass(slots=True)
class TcpCounters:
    """What TCP saw."""

    segments_in: int = 0
    """Segments received."""
    segments_out: int = 0
    """Packets sent, a super-segment counting as one."""
    bytes_in: int = 0
    """Payload bytes received, repeated ones included."""
    bytes_out: int = 0
    """Payload bytes sent, repeated ones included."""
    bad_header: int = 0
    """Dropped: a header that lies about its length, or port 0."""
    bad_checksum: int = 0
    """Dropped: wrong checksum."""
    resets_sent: int = 0
    """RSTs in answer to segments that belong to no connection."""
    syn_repeated: int = 0
    """SYNs of requests that are still being decided."""
    requests: int = 0
    """Connection requests received."""
    opened: int = 0
    """Connections accepted or opened."""
    closed: int = 0
    """Connections ended."""
    failed: int = 0
    """Of these, ended by reset or timeout."""
    retransmitted: int = 0
    """Segments sent again, of ended connections."""


class Flow:
    """A connection in its stack. A forwarder writes to it and reads from it through its `ConnectionUser`.

    Every method that can cause something to be sent sends it before it returns.
    """

    __slots__ = (
        "_tcp", "_user", "_waiting", "connection", "dirty", "key", "local", "remote", "room_opened", "scheduled",
        "writer",
    )  # fmt: skip

    def __init__(
        self, tcp: Tcp, key: bytes, local: tuple[bytes, int], remote: tuple[bytes, int], user: ConnectionUser
    ) -> None:
        self._tcp = tcp
        self._user = user
        self.dirty = False
        self._waiting = False
        self.room_opened = False
        self.scheduled = inf
        self.key = key
        self.local = local
        """Packed address and port on our side; what the peer connected to."""
        self.remote = remote
        stack = tcp.stack
        version = 4 if len(local[0]) == 4 else 6
        mss = stack.mtu - (40 if version == 4 else 60)
        self.writer = HeaderWriter(*local, *remote, offload=stack.link.offload)
        self.connection = Connection(
            tcp.config, tcp.budget, self, iss=tcp.isn.initial(key, monotonic()), mss=mss,
            max_payload=largest_payload(version, mss, offload=stack.link.offload),
            default_mss=DEFAULT_MSS_V4 if version == 4 else DEFAULT_MSS_V6,
        )  # fmt: skip

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
        self.connection.abandon(monotonic())
        self.flush()

    def abort(self) -> bool:
        """Reset; `closed` is not called. False when the connection was over already."""
        if not self.connection.abort():
            return False
        self.flush()
        self._tcp.remove(self, None)
        return True

    def drain(self) -> None:
        """The user can take data again."""
        self.connection.drain(monotonic())
        self.flush()

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

    def closed(self, error: OSError | None) -> None:
        self._tcp.remove(self, error)
        self._user.closed(error)

    # -- the pump

    def next_timeout(self) -> float:
        return self.connection.next_timeout()

    def handle_timeout(self, now: float) -> None:
        self.dirty = True
        self.connection.handle_timeout(now)
        self.dirty = False
        self.flush()

    def flush(self) -> None:
        """Send what is due: all of it while the link has room, acknowledgements in any case."""
        tcp = self._tcp
        if self.dirty:
            return  # the end of the burst does it
        now = monotonic()
        link = tcp.stack.link
        # While others wait for the link, new data joins the queue behind them.
        ready = link.ready and not tcp.waiting
        self.send_turn(now, QUANTUM if ready else 0)
        while self.connection.wants_to_send:
            if not ready or not link.ready:
                if not self._waiting:
                    self._waiting = True
                    tcp.waiting.append(self)
                break
            self.send_turn(now, QUANTUM)
        tcp.stack.timers.update(self)

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
                header = write(segment.seq, segment.ack, segment.flags, segment.window, segment.options, payload, mss)
                send(header, payload)

    def turn_ended(self) -> None:
        """This flow, popped from the queue, had its turn: it waits for another, or asks its user for more."""
        tcp = self._tcp
        if self.connection.wants_to_send:
            tcp.waiting.append(self)
            return
        self._waiting = False
        self.tell_room()
        tcp.stack.timers.update(self)

    def tell_room(self) -> None:
        """Tell the user that there may be room to write."""
        self.room_opened = False
        if self.connection.state is not State.CLOSED:
            self._user.acked()


class Tcp:
    """All connections, requests and listeners of one stack."""

    def __init__(self, stack: Stack, config: TcpConfig) -> None:
        self.stack = stack
        self.config = config
        self.counters = TcpCounters()
        self.budget = Budget(config.receive_budget)
        self.isn = IsnGenerator()
        self.flows: dict[bytes, Flow] = {}
        self.requests: dict[bytes, TcpRequest] = {}
        self.listeners: dict[tuple[bytes | None, int], Accept] = {}
        """Accept callbacks by packed address (None: any of ours) and port."""
        self.forward: Accept | None = None
        """Takes requests to addresses that are not ours; None: such segments are reset."""
        self.waiting: deque[Flow] = deque()
        self._dirty: list[Flow] = []

    # -- segments in

    def receive(self, key: bytes, packet: memoryview, ip: int, at: int, end: int, *, trusted: bool) -> None:
        """One segment: `packet[ip:]` is the IP packet, `packet[at:end]` the segment. `key` as in `TcpRequest.key`."""
        counters = self.counters
        counters.segments_in += 1
        if end - at < HEADER_LEN:
            counters.bad_header += 1
            return
        source_port, destination_port, seq, ack, offset, flags, window, _, _ = TCP_HEADER.unpack_from(packet, at)
        data = at + (offset >> 4 << 2)
        if data < at + HEADER_LEN or data > end:
            counters.bad_header += 1
            return
        if not trusted and not self._checksum_right(key, packet, at, end):
            counters.bad_checksum += 1
            return
        counters.bytes_in += end - data
        flow = self.flows.get(key)
        if flow is not None and flow.connection.state is State.CLOSED:
            # Over, but for data its user has not read: the ports are free for another.
            self.remove(flow, None)
            flow = None
        if flow is not None:
            connection = flow.connection
            options = parse_syn_options(bytes(packet[at + HEADER_LEN : data])) if flags & SYN else None
            if connection.state is State.TIME_WAIT and options is not None and not flags & (ACK | RST):
                # A new connection on the same ports: its sequence number is newer (RFC 9293, section 3.6.1).
                if (connection.receiver.nxt - seq) & HALF:
                    connection.give_way()
                    self.remove(flow, None)  # unless its user has still to read: then it is not told yet
                    self._request(key, packet, ip, at, seq, window, options, source_port, destination_port)
                    return
            # Marked first: what the user does from inside `receive` is sent at the end of the burst, not in its midst.
            if not flow.dirty:
                flow.dirty = True
                self._dirty.append(flow)
            connection.receive(seq, ack, flags, window, packet[data:end], options, monotonic())
            return
        if flags & RST:
            request = self.requests.get(key)
            if request is not None and (flags & ACK or seq == add(request.seq, 1) or seq == request.seq):
                self.forget(request)
                if request.on_cancel is not None:
                    request.on_cancel()
            return
        if flags & (SYN | ACK | FIN) == SYN:
            options = parse_syn_options(bytes(packet[at + HEADER_LEN : data]))
            self._request(key, packet, ip, at, seq, window, options, source_port, destination_port)
            return
        if key in self.requests:
            return
        self._reset_stray(key, seq, ack, flags, end - data, source_port, destination_port)

    def burst_ended(self) -> None:
        """Answer everything the burst brought."""
        dirty = self._dirty
        if dirty:
            self._dirty = []
            for flow in dirty:
                flow.dirty = False
                if flow.room_opened:
                    flow.tell_room()
                flow.flush()

    def link_ready(self) -> None:
        """Let the waiting flows send in turn while there is room."""
        waiting = self.waiting
        link = self.stack.link
        now = monotonic()
        while waiting and link.ready:
            flow = waiting.popleft()
            flow.send_turn(now, QUANTUM)
            flow.turn_ended()

    def _checksum_right(self, key: bytes, packet: memoryview, at: int, end: int) -> bool:
        half = len(key) // 2 - 2
        return verifies(packet[at:end], pseudo_header_sum(key[:half], key[half : 2 * half], TCP, end - at))

    def _request(
        self, key: bytes, packet: memoryview, ip: int, at: int, seq: int, window: int, options: SynOptions,
        source_port: int, destination_port: int,
    ) -> None:  # fmt: skip
        if key in self.requests:
            self.counters.syn_repeated += 1
            return
        if not source_port or not destination_port:
            self.counters.bad_header += 1
            return
        half = len(key) // 2 - 2
        source, destination = key[:half], key[half : 2 * half]
        ttl = packet[ip + 8] if half == 4 else packet[ip + 7]
        local = self.stack.is_local(destination)
        if local:
            accept = self.listeners.get((destination, destination_port)) or self.listeners.get((None, destination_port))
        else:
            accept = self.forward
        quoted = bytes(packet[ip : at + 20])
        if not self.stack.may_arrive(source, destination, ttl, quoted):
            return
        request = TcpRequest(
            self, key, source, source_port, destination, destination_port, seq, window, options, ttl - 1, quoted
        )
        self.counters.requests += 1
        self.requests[key] = request
        if accept is None:
            request.refuse()
        else:
            accept(request)

    def _reset_stray(
        self, key: bytes, seq: int, ack: int, flags: int, length: int, source_port: int, destination_port: int
    ) -> None:
        """A segment of no connection (RFC 9293, section 3.10.7.1)."""
        half = len(key) // 2 - 2
        source, destination = key[:half], key[half : 2 * half]
        if not source_port or not destination_port or not self.stack.is_unicast_pair(source, destination):
            return
        self.counters.resets_sent += 1
        writer = HeaderWriter(destination, destination_port, source, source_port, offload=self.stack.link.offload)
        if flags & ACK:
            header = writer.write(ack, 0, RST, 0, b"", b"", 1)
        else:
            length += bool(flags & SYN) + bool(flags & FIN)
            header = writer.write(0, add(seq, length), RST | ACK, 0, b"", b"", 1)
        self.stack.link.send(header)

    # -- the ends of a request

    def accept(self, request: TcpRequest, user: ConnectionUser) -> Flow:
        """See `TcpRequest.accept`."""
        self.forget(request)
        local = (request.destination, request.destination_port)
        flow = Flow(self, request.key, local, (request.source, request.source_port), user)
        self.flows[request.key] = flow
        self.counters.opened += 1
        flow.connection.accept(request.seq, request.window, request.options)
        flow.flush()
        return flow

    def refuse(self, request: TcpRequest) -> None:
        """See `TcpRequest.refuse`."""
        self.forget(request)
        writer = HeaderWriter(
            request.destination, request.destination_port, request.source, request.source_port,
            offload=self.stack.link.offload,
        )  # fmt: skip
        self.stack.link.send(writer.write(0, add(request.seq, 1), RST | ACK, 0, b"", b"", 1))

    def unreachable(self, request: TcpRequest, problem: Problem) -> None:
        """See `TcpRequest.unreachable`."""
        self.forget(request)
        self.stack.icmp.error(problem, request.quoted)

    def forget(self, request: TcpRequest) -> None:
        """The request is decided."""
        self.requests.pop(request.key, None)

    # -- active opens and ends

    def connect(self, local: bytes, remote: tuple[bytes, int], user: ConnectionUser) -> Flow:
        """Open a connection from `local`, a packed address of ours, by a random free port; OSError without one."""
        tail = remote[1].to_bytes(2, "big")
        for _ in range(64):
            port = FIRST_EPHEMERAL + int.from_bytes(urandom(2), "big") % (65536 - FIRST_EPHEMERAL)
            # The key of what comes back: the remote is its source.
            key = remote[0] + local + tail + port.to_bytes(2, "big")
            if key not in self.flows:
                break
        else:
            raise OSError("no free port towards that address")
        flow = Flow(self, key, (local, port), remote, user)
        self.flows[key] = flow
        self.counters.opened += 1
        flow.connection.open()
        flow.flush()
        return flow

    def remove(self, flow: Flow, error: OSError | None) -> None:
        """The connection is over."""
        if self.flows.get(flow.key) is flow:
            del self.flows[flow.key]
            self.counters.closed += 1
            self.counters.retransmitted += flow.connection.sender.retransmitted
            if error is not None:
                self.counters.failed += 1

    def icmp_error(self, quoted: Quoted, problem: Problem, _mtu: int) -> None:
        """An ICMP error about a segment of ours; believed only if it quotes what is in flight (RFC 5927, section 4)."""
        ports = quoted.destination_port.to_bytes(2, "big") + quoted.source_port.to_bytes(2, "big")
        flow = self.flows.get(quoted.destination + quoted.source + ports)
        if flow is None:
            return
        connection = flow.connection
        sender = connection.sender
        if ((quoted.sequence - sender.una) & MASK) > sender.flight:
            return
        # In a synchronized state hard errors are soft (RFC 1122 §4.2.3.9 as RFC 5927 §5.2 reads it).
        if connection.state is State.SYN_SENT:
            error = UNREACHABLE.get(problem)
            if error is not None:
                flow.abort()
                flow.closed(error())

    def close(self) -> None:
        """Reset every connection and give up every request."""
        for request in list(self.requests.values()):
            self.forget(request)
            if request.on_cancel is not None:
                request.on_cancel()
        for flow in list(self.flows.values()):
            flow.abort()
            flow.closed(ConnectionAbortedError("the stack was closed"))
        self.waiting.clear()
        self._dirty.clear()


UNREACHABLE: dict[Problem, Callable[[], OSError]] = {
    Problem.PORT_UNREACHABLE: lambda: ConnectionRefusedError("the peer has no such port"),
    Problem.PROTOCOL_UNREACHABLE: lambda: ConnectionRefusedError("the peer has no TCP"),
    Problem.HOST_UNREACHABLE: lambda: OSError(EHOSTUNREACH, "no route to host"),
    Problem.NET_UNREACHABLE: lambda: OSError(ENETUNREACH, "network unreachable"),
    Problem.PROHIBITED: lambda: PermissionError("administratively prohibited"),
}
