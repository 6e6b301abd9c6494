"""Segments of no connection: connection requests, handshakes under way, and what is answered to all others.

RFC 9293, sections 3.10.7.1 (CLOSED) and 3.10.7.2 (LISTEN). A SYN to an address of the stack's own goes to its
listener; one to any other is held as a `TcpRequest` until `forward` has decided about it.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EADDRINUSE, ENETDOWN
from os import strerror
from typing import TYPE_CHECKING

from ..icmp.wire import Problem
from ..packet import marked
from .config import TcpConfig
from .flow import Flow
from .listener import BACKLOG, Listener, Opened
from .opening import ECN_SETUP
from .output import HeaderWriter
from .request import TcpRequest
from .segment import ACK, CE, FIN, HEADER_LEN, RST, SYN, read_options
from .seq import add
from .table import Table
from .user import ConnectionUser

if TYPE_CHECKING:
    from ..stack import Stack

Accept = Callable[[TcpRequest], None]


class Stray:
    """A segment for which there is no connection: `packet[ip:]` is the IP packet, `packet[at:end]` the segment."""

    __slots__ = ("ack", "at", "data", "destination", "end", "flags", "ip", "key", "packet", "seq", "source", "window")

    def __init__(
        self, key: bytes, packet: memoryview, ip: int, at: int, data: int, end: int, seq: int, ack: int, flags: int,
        window: int,
    ) -> None:  # fmt: skip
        self.key = key
        self.packet = packet
        self.ip = ip
        self.at = at
        self.data = data
        """Where the payload begins."""
        self.end = end
        self.seq = seq
        self.ack = ack
        self.flags = flags
        self.window = window
        size = len(key) // 2 - 2
        self.source = (key[:size], int.from_bytes(key[-4:-2], "big"))
        """Packed address and port of the peer."""
        self.destination = (key[size : 2 * size], int.from_bytes(key[-2:], "big"))

    @property
    def next(self) -> int:
        """The sequence number after the segment."""
        return add(self.seq, self.end - self.data + bool(self.flags & SYN) + bool(self.flags & FIN))

    @property
    def options(self) -> bytes:
        """As they stand in the segment."""
        return bytes(self.packet[self.at + HEADER_LEN : self.data])

    @property
    def hops(self) -> int:
        """TTL or hop limit."""
        return self.packet[self.ip + (8 if len(self.source[0]) == 4 else 7)]

    @property
    def quoted(self) -> bytes:
        """The packet's first bytes, for an ICMP error."""
        return bytes(self.packet[self.ip : self.at + HEADER_LEN])

    @property
    def asks_for_ecn(self) -> bool:
        """Of a SYN (RFC 3168, section 6.1.1)."""
        return self.flags & ECN_SETUP == ECN_SETUP


class Strays(Table):
    """A table with listeners and requests."""

    def __init__(self, stack: Stack, config: TcpConfig) -> None:
        super().__init__(stack, config)
        self.requests: dict[bytes, TcpRequest] = {}
        self.listeners: dict[tuple[bytes | None, int], Listener] = {}
        """By packed address (None: any of ours) and port."""
        self.forward: Accept | None = None
        """Takes requests to addresses that are not ours; None: such segments are reset."""
        self.turns_away: Callable[[bytes, int], bool] | None = None
        """Says whether a request to that address and port would only be dropped. Asked before anything is made of a
        SYN, as a flood brings twenty thousand a second."""

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

    def takes_requests(self, destination: bytes, port: int) -> bool:
        """Whether anybody decides about SYNs to there."""
        if self.stack.is_local(destination):
            return self._listener(destination, port) is not None
        return self.forward is not None

    # -- segments in

    def receive_stray(self, segment: Stray) -> None:
        """Take a segment of no connection."""
        listener = self._listener(*segment.destination) if self.listeners else None
        if listener is not None and segment.key in listener:
            self._receive_half_open(listener, segment)
            return
        flags = segment.flags
        if flags & RST:
            request = self.requests.get(segment.key)
            if request is not None and (flags & ACK or segment.seq in (request.seq, add(request.seq, 1))):
                self.counters.cancelled += 1
                self._cancel(request)
            else:
                self.counters.stray_resets += 1
            return
        if flags & (SYN | ACK | FIN) == SYN:
            self.request(segment)
        elif segment.key in self.requests:
            self.counters.undecided += 1
        else:
            self._refuse(segment)

    def _receive_half_open(self, listener: Listener, segment: Stray) -> None:
        key, packet = segment.key, segment.packet
        options = read_options(packet, segment.at + HEADER_LEN, segment.data)
        flags = segment.flags | CE if marked(packet, segment.ip) else segment.flags
        payload = packet[segment.data : segment.end]
        self.counters.segments_in += 1
        self.counters.bytes_in += len(payload)
        now = self.stack.clock.now()
        try:
            listener.receive(key, segment.seq, segment.ack, flags, segment.window, payload, options, now)
        except Exception as error:
            flow = self.flows.get(key)
            if flow is None:
                raise
            self.broke(flow, error)

    def request(self, segment: Stray) -> None:
        """A SYN."""
        held = self.requests.get(segment.key)
        if held is not None:
            self.counters.syn_repeated += 1
            held.again(segment)
            return
        destination, port = segment.destination
        if not segment.source[1] or not port:
            self.counters.bad_header += 1
            return
        if self.turns_away is not None and not self.stack.is_local(destination) and self.turns_away(destination, port):
            self.counters.requests += 1
            self.counters.forwarded += 1
            self.counters.dropped += 1
            return
        if not self.stack.may_arrive(segment.source[0], destination, segment.hops, segment.quoted):
            return
        self.counters.requests += 1
        if self.stack.is_local(destination):
            listener = self._listener(destination, port)
            if listener is None:
                self.counters.refused += 1
                self._send_reset(segment.destination, segment.source, 0, segment.next, RST | ACK)
            else:
                listener.request(segment, self.stack.clock.now())
            return
        request = TcpRequest(self, segment)
        self.requests[segment.key] = request
        if self.forward is None:
            request.refuse()
            return
        self.counters.forwarded += 1
        try:
            self.forward(request)
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

    def _refuse(self, segment: Stray) -> None:
        """A segment that nobody waits for (section 3.10.7.1)."""
        source, destination = segment.source, segment.destination
        if not source[1] or not destination[1]:
            self.counters.bad_header += 1
            return
        # A reset to an address that is not the link's would be one that somebody over there makes us send to others.
        if not self.stack.may_arrive(source[0], destination[0], segment.hops, segment.quoted):
            return
        if not segment.flags & (SYN | ACK) and self.takes_requests(*destination):
            self.counters.unanswered += 1  # nothing to a listener (section 3.10.7.2, fourth)
            return
        self.counters.strays += 1
        if segment.flags & ACK:
            self._send_reset(destination, source, segment.ack, 0, RST)
        else:
            self._send_reset(destination, source, 0, segment.next, RST | ACK)

    def _send_reset(self, local: tuple[bytes, int], remote: tuple[bytes, int], seq: int, ack: int, flags: int) -> None:
        self.counters.resets_sent += 1
        writer = HeaderWriter(*local, *remote, offload=self.stack.link.offload)
        self.stack.link.send(writer.write(seq, ack, flags, 0, b"", b"", 1))

    # -- the ends of a request

    def accept(self, request: TcpRequest, user: ConnectionUser) -> Flow:
        """See `TcpRequest.accept`."""
        if not self.forget(request):
            raise RuntimeError("the request is over")
        self.counters.accepted += 1
        local = (request.destination, request.destination_port)
        flow = Flow(self, request.key, local, (request.source, request.source_port), user)
        self.add(flow)
        flow.connection.accept(request.seq, request.window, request.options, ecn=request.ecn)
        flow.flush()
        return flow

    def refuse(self, request: TcpRequest) -> None:
        """See `TcpRequest.refuse`."""
        if self.forget(request):
            self.counters.refused += 1
            local = (request.destination, request.destination_port)
            self._send_reset(local, (request.source, request.source_port), 0, request.next, RST | ACK)

    def unreachable(self, request: TcpRequest, problem: Problem, source: bytes | None, ttl: int) -> None:
        """See `TcpRequest.unreachable`."""
        if self.forget(request):
            self.counters.unreachable += 1
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

    def close(self) -> None:
        """Give up every handshake and request, reset every connection, take no more."""
        self._closed = True
        for listener in self.listeners.values():
            listener.close()
        self.listeners.clear()
        self.forward = self.turns_away = None
        for request in list(self.requests.values()):
            self.counters.dropped += 1
            self._cancel(request)
        super().close()
