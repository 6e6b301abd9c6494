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
from errno import EADDRINUSE, EADDRNOTAVAIL, ENETDOWN
from os import strerror, urandom
from time import monotonic
from typing import TYPE_CHECKING

from ..checksum import pseudo_header_sum, verifies
from ..icmp.wire import Problem, Quoted
from ..packet import TCP, marked
from .budget import Budget
from .challenge import ChallengeLimit
from .config import TcpConfig
from .counters import TcpCounters
from .flow import Flow
from .isn import IsnGenerator
from .listener import BACKLOG, Listener, Opened
from .opening import ECN_SETUP
from .output import HeaderWriter
from .request import TcpRequest
from .segment import ACK, CE, FIN, HEADER_LEN, RST, SYN, TCP_HEADER, read_options
from .seq import MASK, add
from .states import State
from .user import ConnectionUser

if TYPE_CHECKING:
    from ..stack import Stack

FIRST_EPHEMERAL = 49152
"""RFC 6335, section 6."""

NOT_FATAL = (Problem.TOO_BIG, Problem.TIME_EXCEEDED, Problem.REASSEMBLY_TIME_EXCEEDED)
"""Errors that do not end a connection that is being opened (RFC 1122, section 4.2.3.9)."""

Accept = Callable[["TcpRequest"], None]


class Tcp:
    """All connections, requests and listeners of one stack."""

    def __init__(self, stack: Stack, config: TcpConfig) -> None:
        self.stack = stack
        self.config = config
        self.counters = TcpCounters()
        self.budget = Budget(config.receive_budget)
        self.challenges = ChallengeLimit(config.challenge_limit)
        self.isn = IsnGenerator()
        self.flows: dict[bytes, Flow] = {}
        self.requests: dict[bytes, TcpRequest] = {}
        self.listeners: dict[tuple[bytes | None, int], Listener] = {}
        """By packed address (None: any of ours) and port."""
        self.forward: Accept | None = None
        """Takes requests to addresses that are not ours; None: such segments are reset."""
        self.waiting: deque[Flow] = deque()
        self._dirty: list[Flow] = []
        self._closed = False

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
            has_options = flags & SYN or data != at + HEADER_LEN
            options = read_options(packet, at + HEADER_LEN, data) if has_options else None
            if connection.ecn and marked(packet, ip):
                flags |= CE
            if connection.state is State.TIME_WAIT and options is not None and flags & (SYN | ACK | RST) == SYN:
                # A new connection on the same ports.
                if connection.gives_way_to(seq, options):
                    connection.give_way()
                    self.remove(flow, None)  # unless its user has still to read: then it is not told yet
                    self._request(key, packet, ip, at, data, seq, flags, window, source_port, destination_port)
                    return
            # Marked first: what the user does from inside `receive` is sent at the end of the burst, not in its midst.
            if not flow.dirty:
                flow.dirty = True
                self._dirty.append(flow)
            try:
                connection.receive(seq, ack, flags, window, packet[data:end], options, self.stack.clock.now())
            except Exception as error:
                self.broke(flow, error)
            return
        half = len(key) // 2 - 2
        listener = self._listener(key[half : 2 * half], destination_port) if self.listeners else None
        if listener is not None and key in listener:
            options = read_options(packet, at + HEADER_LEN, data)
            if marked(packet, ip):
                flags |= CE
            try:
                listener.receive(key, seq, ack, flags, window, packet[data:end], options, self.stack.clock.now())
            except Exception as error:
                flow = self.flows.get(key)
                if flow is None:
                    raise
                self.broke(flow, error)
            return
        if flags & RST:
            request = self.requests.get(key)
            if request is not None and (flags & ACK or seq == add(request.seq, 1) or seq == request.seq):
                self._cancel(request)
            else:
                counters.stray_resets += 1
            return
        if flags & (SYN | ACK | FIN) == SYN:
            self._request(key, packet, ip, at, data, seq, flags, window, source_port, destination_port)
            return
        if key in self.requests:
            counters.undecided += 1
            return
        self._reset_stray(key, packet, ip, at, seq, ack, flags, end - data, source_port, destination_port)

    def burst_ended(self) -> None:
        """Answer everything the burst brought."""
        dirty = self._dirty
        if dirty:
            self._dirty = []
            for flow in dirty:
                try:
                    flow.burst_ended()
                except Exception as error:
                    self.broke(flow, error)

    def link_ready(self) -> None:
        """Let the waiting flows send in turn while there is room."""
        waiting = self.waiting
        link = self.stack.link
        now = self.stack.clock.now()
        while waiting and link.ready:
            flow = waiting.popleft()
            try:
                flow.take_turn(now)
            except Exception as error:
                self.broke(flow, error)

    def _checksum_right(self, key: bytes, packet: memoryview, at: int, end: int) -> bool:
        half = len(key) // 2 - 2
        return verifies(packet[at:end], pseudo_header_sum(key[:half], key[half : 2 * half], TCP, end - at))

    def _request(
        self, key: bytes, packet: memoryview, ip: int, at: int, data: int, seq: int, flags: int, window: int,
        source_port: int, destination_port: int,
    ) -> None:  # fmt: skip
        ecn = flags & ECN_SETUP == ECN_SETUP
        held = self.requests.get(key)
        if held is not None:
            self.counters.syn_repeated += 1
            # Repeated, or, where the peer gave up and the port was used again, another: answer what it sent last.
            held.seq, held.window, held.raw_options = seq, window, bytes(packet[at + HEADER_LEN : data])
            held.ecn = ecn
            held.asked_at = monotonic()
            held.repeated += 1
            return
        if not source_port or not destination_port:
            self.counters.bad_header += 1
            return
        half = len(key) // 2 - 2
        source, destination = key[:half], key[half : 2 * half]
        ttl, quoted = _hops(packet, ip), bytes(packet[ip : at + HEADER_LEN])
        if not self.stack.may_arrive(source, destination, ttl, quoted):
            return
        self.counters.requests += 1
        accept = None
        if self.stack.is_local(destination):
            listener = self._listener(destination, destination_port)
            if listener is not None:
                options = bytes(packet[at + HEADER_LEN : data])
                listener.request(key, seq, window, options, self.stack.clock.now(), ecn=ecn)
                return
        else:
            accept = self.forward
        request = TcpRequest(
            self, key, source, source_port, destination, destination_port, seq, window,
            bytes(packet[at + HEADER_LEN : data]), ttl - 1, quoted,
        )  # fmt: skip
        request.ecn = ecn
        self.requests[key] = request
        if accept is None:
            request.refuse()
            return
        try:
            accept(request)
        except Exception as error:
            self.counters.broken += 1
            self.stack.report(f"whoever decides about {request!r} failed", error)
            self.drop(request)

    def _listener(self, destination: bytes, port: int) -> Listener | None:
        listeners = self.listeners
        return (
            listeners.get((destination, port))
            or listeners.get((bytes(len(destination)), port))
            or listeners.get((None, port))
        )

    def _reset_stray(
        self, key: bytes, packet: memoryview, ip: int, at: int, seq: int, ack: int, flags: int, length: int,
        source_port: int, destination_port: int,
    ) -> None:  # fmt: skip
        """A segment of no connection (RFC 9293, section 3.10.7.1)."""
        half = len(key) // 2 - 2
        source, destination = key[:half], key[half : 2 * half]
        if not source_port or not destination_port:
            self.counters.bad_header += 1
            return
        # A reset to an address that is not the link's would be one that somebody over there makes us send to others.
        if not self.stack.may_arrive(source, destination, _hops(packet, ip), packet[ip : at + HEADER_LEN]):
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
        if not self.forget(request):
            raise RuntimeError("the request is over")
        local = (request.destination, request.destination_port)
        flow = Flow(self, request.key, local, (request.source, request.source_port), user)
        self.flows[request.key] = flow
        self.counters.opened += 1
        flow.connection.accept(request.seq, request.window, request.options, ecn=request.ecn)
        flow.flush()
        return flow

    def listen(self, address: bytes | None, port: int, opened: Opened, backlog: int = BACKLOG) -> Callable[[], None]:
        """Accept connections to a packed address of ours (zeros: any of that version; None: any) and port.

        `opened` makes the user of each. Returns what ends it. OSError when the port is taken.
        """
        if self._closed:
            raise OSError(ENETDOWN, strerror(ENETDOWN))
        where = (address, port)
        if where in self.listeners:
            raise OSError(EADDRINUSE, f"port {port} is already listened on")
        listener = self.listeners[where] = Listener(self, opened, backlog)

        def close() -> None:
            listener.close()
            if self.listeners.get(where) is listener:
                del self.listeners[where]

        return close

    def add(self, flow: Flow) -> None:
        """A listener's connection is established, by the segment being received."""
        self.flows[flow.key] = flow
        self.counters.opened += 1
        self._dirty.append(flow)

    def refuse(self, request: TcpRequest) -> None:
        """See `TcpRequest.refuse`."""
        if not self.forget(request):
            return
        writer = HeaderWriter(
            request.destination, request.destination_port, request.source, request.source_port,
            offload=self.stack.link.offload,
        )  # fmt: skip
        self.counters.resets_sent += 1
        self.stack.link.send(writer.write(0, add(request.seq, 1), RST | ACK, 0, b"", b"", 1))

    def unreachable(self, request: TcpRequest, problem: Problem, source: bytes | None, ttl: int) -> None:
        """See `TcpRequest.unreachable`."""
        if self.forget(request):
            self.stack.icmp.error(problem, request.quoted, source=source, ttl=ttl)

    def drop(self, request: TcpRequest) -> None:
        """See `TcpRequest.drop`."""
        if self.forget(request):
            self.counters.dropped += 1

    def forget(self, request: TcpRequest) -> bool:
        """The request is decided; False when it was already."""
        if self.requests.get(request.key) is not request:
            return False
        del self.requests[request.key]
        return True

    def _cancel(self, request: TcpRequest) -> None:
        """The request is no more, and whoever holds it is told."""
        self.forget(request)
        if request.on_cancel is not None:
            try:
                request.on_cancel()
            except Exception as error:
                self.counters.broken += 1
                self.stack.report(f"cancelling {request!r} failed", error)

    # -- active opens and ends

    def connect(self, local: bytes, remote: tuple[bytes, int], user: ConnectionUser) -> Flow:
        """Open a connection from `local`, a packed address of ours, by a random free port; OSError without one."""
        if self._closed:
            raise OSError(ENETDOWN, strerror(ENETDOWN))
        tail = remote[1].to_bytes(2, "big")
        for _ in range(64):
            port = FIRST_EPHEMERAL + int.from_bytes(urandom(2), "big") % (65536 - FIRST_EPHEMERAL)
            # The key of what comes back: the remote is its source.
            key = remote[0] + local + tail + port.to_bytes(2, "big")
            if key not in self.flows and key not in self.requests:
                break
        else:
            raise OSError(EADDRNOTAVAIL, strerror(EADDRNOTAVAIL))
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

    def icmp_error(self, quoted: Quoted, problem: Problem, _mtu: int) -> bool:
        """An ICMP error about a segment of ours; believed only if it quotes what is in flight (RFC 5927, section 4)."""
        ports = quoted.destination_port.to_bytes(2, "big") + quoted.source_port.to_bytes(2, "big")
        flow = self.flows.get(quoted.destination + quoted.source + ports)
        if flow is None:
            return False
        connection = flow.connection
        sender = connection.sender
        if ((quoted.sequence - sender.una) & MASK) > sender.flight:
            return False
        # In a synchronized state hard errors are soft (RFC 1122 §4.2.3.9 as RFC 5927 §5.2 reads it).
        if connection.state is State.SYN_SENT and problem not in NOT_FATAL:
            self._cut(flow, problem.error())
        return True

    def broke(self, flow: Flow, error: Exception) -> None:
        """A callback of the flow's user raised: that flow is reset, and no other suffers."""
        self.counters.broken += 1
        self.stack.report(f"a callback of {flow!r} failed", error)
        self._cut(flow, ConnectionAbortedError("its user failed"))

    def _cut(self, flow: Flow, error: OSError) -> None:
        try:
            flow.cut(error)
        except Exception as another:
            self.stack.report(f"ending {flow!r} failed", another)

    def close(self) -> None:
        """Reset every connection, give up every request, take no more."""
        self._closed = True
        for listener in self.listeners.values():
            listener.close()
        self.listeners.clear()
        self.forward = None
        for request in list(self.requests.values()):
            self._cancel(request)
        for flow in list(self.flows.values()):
            flow.dirty = False  # the reset leaves now: the burst's end may not come
            self._cut(flow, ConnectionAbortedError("the stack was closed"))
        self.waiting.clear()
        self._dirty.clear()


def _hops(packet: memoryview, ip: int) -> int:
    """The TTL or hop limit of the IP packet that begins there."""
    return packet[ip + 8] if packet[ip] >> 4 == 4 else packet[ip + 7]
