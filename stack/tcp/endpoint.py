"""TCP in its stack: which connection a segment belongs to, what is answered when there is none, and the pump.

A flow's key is the slice of the packet that holds both addresses and both ports: the same bytes for every packet of
the flow, so finding the connection is one slice and one dictionary look-up. Segments that arrive in one burst are
answered once, at its end (`burst_ended`): many super-segments, one acknowledgement.

Sending is fair by round robin: while the link has no room, flows with data queue up, and each sends one super-segment
a turn (deficit round robin, RFC 8290's inner loop, with a quantum of one packet).
"""

from __future__ import annotations

from errno import EADDRNOTAVAIL, ENETDOWN
from os import strerror, urandom

from ..checksum import pseudo_header_sum, verifies
from ..icmp.wire import Problem, Quoted
from ..packet import TCP, marked
from .flow import Flow
from .pathmtu import claimed_mtu
from .segment import ACK, CE, HEADER_LEN, RST, SYN, TCP_HEADER, read_options
from .seq import MASK
from .states import State
from .strays import Stray, Strays
from .user import ConnectionUser

FIRST_EPHEMERAL = 49152
"""RFC 6335, section 6."""

NOT_FATAL = (Problem.TIME_EXCEEDED, Problem.REASSEMBLY_TIME_EXCEEDED)
"""Errors that do not end a connection that is being opened (RFC 1122, section 4.2.3.9)."""


class Tcp(Strays):
    """All connections, requests and listeners of one stack."""

    # -- segments in

    def receive(self, key: bytes, packet: memoryview, ip: int, at: int, end: int, *, trusted: bool) -> None:
        """One segment: `packet[ip:]` is the IP packet, `packet[at:end]` the segment. `key` as in `TcpRequest.key`."""
        counters = self.counters
        if end - at < HEADER_LEN:
            counters.bad_header += 1
            return
        _, _, seq, ack, offset, flags, window, _, _ = TCP_HEADER.unpack_from(packet, at)
        data = at + (offset >> 4 << 2)
        if data < at + HEADER_LEN or data > end:
            counters.bad_header += 1
            return
        if not trusted and not self._checksum_right(key, packet, at, end):
            counters.bad_checksum += 1
            return
        flow = self.flows.get(key)
        if flow is not None and flow.connection.state is State.CLOSED:
            # Over, but for data its user has not read: the ports are free for another.
            self.set_aside(flow)
            flow = None
        if flow is not None:
            connection = flow.connection
            has_options = flags & SYN or data != at + HEADER_LEN
            options = read_options(packet, at + HEADER_LEN, data) if has_options else None
            if connection.ecn and marked(packet, ip):
                flags |= CE
            if connection.state is State.TIME_WAIT and options is not None and flags & (SYN | ACK | RST) == SYN:
                # A new connection on the same ports.
                if connection.gives_way_to(seq, options) and self.takes_requests(*flow.local):
                    connection.give_way()
                    self.set_aside(flow)  # unless its user has still to read: then it is not told yet
                    self.request(Stray(key, packet, ip, at, data, end, seq, ack, flags, window))
                    return
            counters.segments_in += 1
            counters.bytes_in += end - data
            # Marked first: what the user does from inside `receive` is sent at the end of the burst, not in its midst.
            if not flow.dirty:
                flow.dirty = True
                self.dirty.append(flow)
            try:
                connection.receive(seq, ack, flags, window, packet[data:end], options, self.stack.clock.now())
            except Exception as error:
                self.broke(flow, error)
            return
        self.receive_stray(Stray(key, packet, ip, at, data, end, seq, ack, flags, window))

    def burst_ended(self) -> None:
        """Answer everything the burst brought."""
        dirty = self.dirty
        if dirty:
            self.dirty = []
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
        self.counters.connects += 1
        self.add(flow)
        flow.connection.open()
        flow.flush()
        return flow

    def icmp_error(self, quoted: Quoted, problem: Problem, mtu: int) -> bool:
        """An ICMP error about a segment of ours; believed only if it quotes what is in flight (RFC 5927, section 4)."""
        ports = quoted.destination_port.to_bytes(2, "big") + quoted.source_port.to_bytes(2, "big")
        flow = self.flows.get(quoted.destination + quoted.source + ports)
        if flow is None:
            return False
        connection = flow.connection
        sender = connection.sender
        if ((quoted.sequence - sender.una) & MASK) > sender.flight:
            return False
        if problem is Problem.TOO_BIG:
            claimed = claimed_mtu(quoted.version, mtu, quoted.size)
            if not claimed:
                return False
            self.counters.errors += 1
            flow.claim(claimed, quoted.sequence)
            return True
        self.counters.errors += 1
        # In a synchronized state hard errors are soft (RFC 1122 §4.2.3.9 as RFC 5927 §5.2 reads it).
        if connection.state is State.SYN_SENT and problem not in NOT_FATAL:
            self.cut(flow, problem.error())
        return True
