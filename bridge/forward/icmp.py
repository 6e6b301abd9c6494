"""Ping through host sockets: one socket for each source, destination and identifier.

An unprivileged ICMP socket (``SOCK_DGRAM``) sends echo requests with an identifier of the kernel's choice; the reply
gets the codespace's identifier back, everything else stays as it came: sequence, payload, its length, its TTL. Where
the kernel forbids such sockets (net.ipv4.ping_group_range) a raw one does the same for root; without either, the ping
is refused as prohibited and the user is told once how to mend it. A reply is never made here: a dead host is silent.

A router's errors come back about the very request they are about: the kernel quotes the request's sequence, which goes
into the quoted copy of the request as the codespace sent it. That is all that ``traceroute -I`` and ``mtr`` need.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Callable
from socket import IPPROTO_IP, IPPROTO_IPV6, MSG_CTRUNC, MSG_TRUNC, socket
from time import monotonic

from netbridge.stack.icmp.wire import ECHO_REPLY, ECHO_REQUEST, HEADER, HEADER_LEN, emit
from netbridge.stack.packet import IpPacket, text

from .flows import FlowTable, Key
from .hostflows import ANSWERED, READS_A_TURN, STREAM, HostFlow, HostFlows
from .hostsocket import IP_RECVTTL, IP_TTL, IPV6_HOPLIMIT, LINUX, HostError, open_ping
from .limits import Limits
from .policy import Policy
from .poller import Poller
from .seam import ForwardStack

LARGEST = 65536
SMALL = 1500
"""Replies up to this size may go while the link asks bulk data to wait: ping is there to measure just that wait."""
FORBIDDEN_HINT = (
    "ping is not forwarded: this machine's kernel gives this user no ICMP socket;"
    " allow it with: sudo sysctl -w net.ipv4.ping_group_range='0 2147483647'"
)


class EchoFlow(HostFlow):
    """One source's pings of one destination with one identifier."""

    __slots__ = ("head", "identifier", "longest", "peer", "raw")

    def __init__(self, protocol: int, key: Key, now: float, sock: socket, final: bytes, *, raw: bool) -> None:
        super().__init__(protocol, key, now, sock, final)
        self.raw = raw
        self.peer = text(final)
        """As recvmsg tells the sender: a datagram ICMP socket takes replies from anybody, connected or not."""
        # Linux's datagram socket is bound to its identifier as if it were a port; others leave it to the sender.
        self.identifier = sock.getsockname()[1] if LINUX and not raw else secrets.randbelow(65536)
        """On the host's side of the flow."""
        self.longest = 0
        """Payload bytes of the longest request."""
        self.head = 0
        """Bytes in front of the ICMP header in `quoted`."""


class IcmpForwarder(HostFlows[EchoFlow]):
    """Takes the stack's echo requests to other addresses and brings back replies and errors."""

    name = "icmp"

    def __init__(
        self, stack: ForwardStack, poller: Poller, policy: Policy, limits: Limits, table: FlowTable,
        loop: asyncio.AbstractEventLoop, hint: Callable[[str], None] | None = None, *,
        clock: Callable[[], float] = monotonic,
    ) -> None:  # fmt: skip
        """`hint` is called once, with a sentence for the user, when the kernel forbids ICMP sockets."""
        super().__init__(
            stack, poller, policy, limits, table, loop, table.counters.icmp,
            capacity=limits.icmp_flows, clock=clock, shortest_idle=limits.icmp_idle,
        )
        self._icmp_counts = table.counters.icmp
        self._hint = hint
        stack.icmp.forward = self.forward

    def close(self) -> None:
        if not self._closed:
            self._stack.icmp.forward = None
        super().close()

    def _forward(self, packet: IpPacket, first: int, second: int, payload: memoryview) -> None:
        key = (packet.source, first, packet.destination, 0)
        flow = self._flows.get(key)
        if flow is None:
            flow = self._open(key, packet)
            if flow is None:
                return
        else:
            self._flows.move_to_end(key)
            flow.state = STREAM
        if not self._send(flow, packet, second, payload):
            return
        flow.packets_up += 1
        flow.bytes_up += len(payload)
        flow.last_used = self._time()
        self._counts.packets_up += 1

    def _send(self, flow: EchoFlow, packet: IpPacket, sequence: int, payload: memoryview) -> bool:
        version = flow.version
        flow.prepare(packet)
        flow.head = len(packet.packet) - len(packet.payload)
        flow.longest = max(flow.longest, len(payload))
        if version == 4:
            message = emit(4, b"", b"", ECHO_REQUEST[4], 0, flow.identifier, sequence, payload)
        else:  # the kernel knows the addresses and sums
            message = HEADER.pack(ECHO_REQUEST[6], 0, 0, flow.identifier, sequence) + payload
        try:
            flow.sock.send(message)
        except OSError as error:
            if not self._send_failed(flow, packet, error.errno or 0):
                return False
            if flow.key not in self._flows:
                self._counts.dropped_send_error += 1
                return False  # a new ping follows soon, no need to open the new socket for this one
            try:
                flow.sock.send(message)
            except OSError as again:
                self._refused(flow, packet, again.errno or 0)
                return False
        return True

    def _open(self, key: Key, packet: IpPacket) -> EchoFlow | None:
        final = self._permitted(key, packet)
        if final is None:
            return None
        raw = False

        def opener(version: int) -> socket:
            nonlocal raw
            try:
                sock, raw = open_ping(version)
            except PermissionError:
                self._forbidden()
                raise
            return sock

        sock = self._connected(packet, final, 0, opener)
        if sock is None:
            return None
        flow = EchoFlow(packet.protocol, key, self._time(), sock, final, raw=raw)
        return flow if self._add(flow) else None

    def _forbidden(self) -> None:
        self._icmp_counts.dropped_forbidden += 1
        if self._hint is not None:
            hint, self._hint = self._hint, None
            hint(FORBIDDEN_HINT)

    def _read(self, flow: EchoFlow) -> None:
        for _ in range(READS_A_TURN):
            try:
                data, ancillary, flags, address = flow.sock.recvmsg(LARGEST, 64)
            except BlockingIOError:
                return
            except OSError as error:
                self._read_failed(flow, error.errno or 0)
                return
            if flags & MSG_TRUNC or flags & MSG_CTRUNC or address[0] != flow.peer:
                self._icmp_counts.dropped_foreign += 1
                continue
            ttl = 64
            for level, kind, value in ancillary:
                if (level, kind) in ((IPPROTO_IP, IP_TTL), (IPPROTO_IP, IP_RECVTTL), (IPPROTO_IPV6, IPV6_HOPLIMIT)):
                    ttl = int.from_bytes(value[:4], sys.byteorder)
            self._reply(flow, data, ttl)

    def _reply(self, flow: EchoFlow, data: bytes, ttl: int) -> None:
        message = memoryview(data)
        if flow.version == 4 and (flow.raw or not LINUX) and message and message[0] >> 4 == 4:
            message = message[(message[0] & 15) << 2 :]  # these sockets hand over the IP header too
        if len(message) < HEADER_LEN:
            self._icmp_counts.dropped_foreign += 1
            return
        kind, code, _, identifier, sequence = HEADER.unpack_from(message)
        if kind != ECHO_REPLY[flow.version] or code or identifier != flow.identifier:
            self._icmp_counts.dropped_foreign += 1
            return
        payload = message[HEADER_LEN:]
        if len(payload) > flow.longest:
            self._icmp_counts.dropped_oversize += 1
            return
        if len(payload) > SMALL and not self._stack.link.ready and not self._overdraw(len(payload)):
            self._counts.dropped_link_busy += 1
            return
        flow.packets_down += 1
        flow.bytes_down += len(payload)
        flow.last_used = self._time()
        if flow.packets_up == flow.packets_down == 1:
            flow.state = ANSWERED
        self._flows.move_to_end(flow.key)
        self._counts.packets_down += 1
        # This bridge is a hop on the way back too.
        self._stack.icmp.echo_reply(
            flow.destination, flow.source, flow.source_port, sequence, payload, ttl=max(1, ttl - 1),
        )

    def _service_port(self, second: int) -> int:
        return 0

    def _idle_time(self, flow: EchoFlow) -> float:
        return self._limits.icmp_idle

    def _quoted(self, flow: EchoFlow, error: HostError) -> bytes | None:
        if error.towards and error.towards != flow.peer:
            return None  # forged: Linux finds the socket of an error by nothing but the identifier
        if len(error.data) < HEADER_LEN or len(flow.quoted) < flow.head + HEADER_LEN:
            return flow.quoted
        kind, _, _, identifier, sequence = HEADER.unpack_from(error.data)
        if kind != ECHO_REQUEST[flow.version] or identifier != flow.identifier:
            return None  # a raw socket is told about other programs' pings too
        return with_sequence(flow.quoted, flow.head, sequence) + error.data[HEADER_LEN:]


def with_sequence(quoted: bytes, head: int, sequence: int) -> bytes:
    """An IP header of `head` bytes and the ICMP header of an echo request behind it, with another sequence.

    The checksum follows by RFC 1624, as if the request had been sent so.
    """
    kind, code, checksum, identifier, before = HEADER.unpack_from(quoted, head)
    total = (checksum ^ 0xFFFF) + (before ^ 0xFFFF) + sequence
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return quoted[:head] + HEADER.pack(kind, code, total ^ 0xFFFF, identifier, sequence)
