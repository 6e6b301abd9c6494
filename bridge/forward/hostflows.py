"""What the UDP and the ICMP forwarder share: flows that each own one connected host socket.

The way of a flow: the first packet asks the policy, opens a socket (recycling the least recently used flow when
descriptors are short), connects it and registers it with the poller. Every packet up then is one dictionary lookup and
one ``send``; every reply is one ``recv`` and one packet from the stack. Errors come from the socket's error queue, a
refused ``send`` or a refused ``connect``, and all leave as ICMP errors about the packet that caused them.

Flows are kept in order of use, so the oldest is at hand for recycling, and the timer that closes idle flows looks only
at those that are old enough. It is one timer a forwarder and runs only while there are flows.
"""

from __future__ import annotations

import abc
import asyncio
from collections import OrderedDict
from collections.abc import Callable
from socket import SO_ERROR, SOL_SOCKET, socket
from typing import Any, ClassVar, Generic, TypeVar

from netbridge.stack.icmp.wire import Problem
from netbridge.stack.link.base import Buffer
from netbridge.stack.packet import IpPacket

from .admission import SHARE, Admission, Service, Unserved
from .counters import SocketCounters
from .details import socket_details
from .flows import Flow, FlowTable, Key
from .hostsocket import ORIGIN_LOCAL, HostError, carry, connect, local_address, path_mtu, read_error
from .limits import Limits
from .policy import Policy
from .poller import ERR, IN, Poller
from .problems import NO_DESCRIPTOR, PROBLEMS, SILENT_FULL, USELESS
from .seam import ForwardStack
from .slices import Slice

SWEEP_INTERVAL = 5.0
"""Seconds between looks for idle flows: an idle time is kept to within this."""

EXPIRED_A_TURN, SOON = 128, 0.01
"""Flows closed at one time, some milliseconds' work, and the seconds until the next look where that was not all: after
a flood there are thousands.
"""

READS_A_TURN = 32
"""Datagrams taken from one socket before the next socket gets its turn."""

ERRORS_A_TURN = 64
"""Likewise for its error queue."""

QUOTE = 128
"""Bytes kept of the last packet of a flow, to quote in an error about it: both headers and 64 bytes or more."""

WAITING, WAITING_PER_SERVICE = 10240, 4096
"""Packets that wait for their turn. One service gets a fifth of the places where nobody else waits (see
:mod:`.admission`), which has to hold what an honest program sends at once: the link reads a megabyte in a turn, some
seven hundred datagrams, or the thousand questions of who resolves a list of names.
"""
WAITING_BYTES = 16 << 20
"""Likewise, and shared in the same way, so that a few large datagrams do not take the places of many small ones."""
HEADER_LEN = 8
"""Of UDP and of an echo request alike."""

ONE, ANSWERED, STREAM = "one datagram", "answered", "stream"


class HostFlow(Flow):
    """A flow with a connected host socket."""

    __slots__ = ("dont_fragment", "quoted", "sock", "tos", "ttl", "version")

    def __init__(self, protocol: int, key: Key, now: float, sock: socket, final: bytes) -> None:
        super().__init__(protocol, key, ONE, now, final)
        self.version = 4 if len(self.destination) == 4 else 6
        self.sock = sock
        self.ttl = 0
        """As set on the socket; 0 before the first packet."""
        self.tos = 0
        self.dont_fragment = False
        self.quoted = b""
        """The start of the last packet up, as the codespace sent it."""

    def details(self) -> dict[str, Any]:
        return {"socket": socket_details(self.sock)}

    def prepare(self, packet: IpPacket) -> None:
        """Make the socket send as `packet` was sent, and remember its start for quoting."""
        if packet.ttl != self.ttl or packet.tos != self.tos or packet.dont_fragment != self.dont_fragment:
            self.ttl, self.tos, self.dont_fragment = packet.ttl, packet.tos, packet.dont_fragment
            carry(self.sock, packet)
        self.quoted = packet.packet[:QUOTE].tobytes()


F = TypeVar("F", bound=HostFlow)


class Waiting:
    """A packet that waits for its turn (see :mod:`.admission`): a copy, as the packet lives no longer than its call."""

    __slots__ = (
        "_over", "asked_at", "destination", "destination_port", "first", "packet", "payload", "pending", "repeated",
        "second",
    )  # fmt: skip

    def __init__(
        self, packet: IpPacket, first: int, second: int, payload: memoryview, port: int, now: float,
        over: Callable[[Waiting], None],
    ) -> None:  # fmt: skip
        """`over` is called when it waits no more, served or not."""
        whole = memoryview(packet.packet.tobytes())
        at = len(whole) - len(packet.payload)
        self.packet = packet.copy(whole)
        self.payload = whole[at + HEADER_LEN : at + HEADER_LEN + len(payload)]
        self.first, self.second = first, second
        self.destination, self.destination_port = packet.destination, port
        self.asked_at = now
        self.repeated = 0
        self.pending = True
        self._over = over

    def drop(self) -> None:
        """Nobody is told, as by a router that is full."""
        self.over()

    def over(self) -> None:
        """It waits no more."""
        if self.pending:
            self.pending = False
            self._over(self)


class HostFlows(abc.ABC, Generic[F]):
    """Base of the two forwarders."""

    name: ClassVar[str]
    """Of the protocol."""

    def __init__(
        self, stack: ForwardStack, poller: Poller, policy: Policy, limits: Limits, table: FlowTable,
        loop: asyncio.AbstractEventLoop, counters: SocketCounters, *, capacity: int, shortest_idle: float,
        clock: Callable[[], float],
    ) -> None:
        """`clock` measures the work (the event loop's own may stand still during a turn)."""
        self._stack = stack
        self._poller = poller
        self._policy = policy
        self._limits = limits
        self._table = table
        self._loop = loop
        self._time = loop.time
        self._counts = counters
        self._capacity = capacity
        self._shortest_idle = shortest_idle
        self._flows: OrderedDict[Key, F] = OrderedDict()
        """Least recently used first."""
        self._timer: asyncio.TimerHandle | None = None
        self._overdraft = 0
        """Bytes sent since the link last had room."""
        self._openings = 0
        self._closed = False
        self._admission: Admission[Waiting] = Admission(
            loop, self._admit, self._unserved, in_all=WAITING, per_service=WAITING_PER_SERVICE, clock=clock
        )
        self._clock = clock
        self._waiting_bytes = 0
        self._bytes_of: dict[Service, int] = {}
        """Of these, by service."""
        self._reading = Slice(loop, clock=clock)
        table.add_recycler(self)
        table.waiting[self.name] = self._admission.__len__

    def __len__(self) -> int:
        return len(self._flows)

    def close(self) -> None:
        """Close every flow and stop. The codespace is told nothing, as when a router goes away."""
        if self._closed:
            return
        self._closed = True
        self._admission.close()
        self._reading.close()
        self._table.remove_recycler(self)
        del self._table.waiting[self.name]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._counts.flows_closed += len(self._flows)
        for flow in list(self._flows.values()):
            self._drop(flow)

    @property
    def oldest_use(self) -> float | None:
        """When the flow was last used that :meth:`recycle` would close; None without any."""
        for flow in self._flows.values():
            return flow.last_used
        return None

    def recycle(self) -> None:
        """Close the least recently used flow."""
        for flow in self._flows.values():
            self._counts.flows_recycled += 1
            self._drop(flow)
            return

    def expire(self, now: float, most: int | None = None) -> bool:
        """Close the flows that have been idle for too long at `now`, at most so many; whether that was all."""
        newest = now - self._shortest_idle
        expired: list[F] = []
        for flow in self._flows.values():
            if flow.last_used > newest:
                break
            if len(expired) == most:
                break
            if now - flow.last_used >= self._idle_time(flow):
                expired.append(flow)
        for flow in expired:
            self._counts.flows_expired += 1
            self._drop(flow)
        return len(expired) != most

    def forward(self, packet: IpPacket, first: int, second: int, payload: memoryview) -> None:
        """Take one packet from the codespace, now or in its turn. `first` and `second` are what its protocol says: the
        ports of a datagram, identifier and sequence of a ping.
        """
        admission = self._admission
        if admission.free:
            begun = self._clock()
            try:
                self._forward(packet, first, second, payload)
            finally:
                admission.spend(self._clock() - begun)
            return
        port, size = self._service_port(second), len(packet.packet)
        service = packet.destination, port
        of_service = self._bytes_of.get(service, 0) + size
        if of_service > (WAITING_BYTES - self._waiting_bytes) // SHARE or not admission.has_place(*service):
            self._counts.dropped_waiting += 1
            return
        self._waiting_bytes += size
        self._bytes_of[service] = of_service
        admission.queue(Waiting(packet, first, second, payload, port, self._clock(), self._let_go))

    def _let_go(self, waiting: Waiting) -> None:
        """Its place is free."""
        size, service = len(waiting.packet.packet), (waiting.destination, waiting.destination_port)
        self._waiting_bytes -= size
        self._bytes_of[service] -= size
        if not self._bytes_of[service]:
            del self._bytes_of[service]

    def _admit(self, waiting: Waiting) -> None:
        waiting.over()
        self._forward(waiting.packet, waiting.first, waiting.second, waiting.payload)

    def _unserved(self, why: Unserved) -> None:
        if why is not Unserved.FAILED:
            self._counts.dropped_waiting += 1

    @abc.abstractmethod
    def _forward(self, packet: IpPacket, first: int, second: int, payload: memoryview) -> None:
        """Send one packet of the codespace by its flow's socket."""

    @abc.abstractmethod
    def _service_port(self, second: int) -> int:
        """The port by which packets to one address take turns, 0 where there is none."""

    @abc.abstractmethod
    def _idle_time(self, flow: F) -> float:
        """Seconds after its last use at which `flow` is closed."""

    @abc.abstractmethod
    def _quoted(self, flow: F, error: HostError) -> bytes | None:
        """The start of the packet that `error` is about, as the codespace sent it; None when it is not ours."""

    @abc.abstractmethod
    def _read(self, flow: F) -> None:
        """Take what came on the flow's socket."""

    def _permitted(self, key: Key, packet: IpPacket) -> bytes | None:
        """The final address of a new flow, if the policy admits it; a denial is told at once."""
        final = self._policy.admit(key, packet.protocol)
        if final is None:
            self._counts.dropped_policy += 1
            self._tell(Problem.PROHIBITED, packet.packet)
        return final

    def _connected(self, packet: IpPacket, final: bytes, port: int, opener: Callable[[int], socket]) -> socket | None:
        """A socket connected to the final address, or None after having told why there is none."""
        if self._closed:
            self._counts.dropped_open += 1
            return None
        while len(self._flows) >= self._capacity:
            self.recycle()
        if self._table.full and not self._table.make_room():
            self._counts.dropped_descriptors += 1
            return None
        try:
            try:
                sock = opener(packet.version)
            except OSError as error:
                if error.errno not in NO_DESCRIPTOR or not self._table.make_room():
                    raise
                sock = opener(packet.version)
        except OSError as error:
            self._open_failed(packet, error)
            return None
        try:
            self._counts.dropped_before_connect += connect(sock, packet.version, final, port)
        except OSError as error:
            sock.close()
            self._open_failed(packet, error)
            return None
        return sock

    def _overdraw(self, size: int) -> bool:
        """Whether a reply of `size` bytes may go although the link has no room: small ones must not wait behind bulk.

        Each time the link opens everybody has that credit again, whoever used the room.
        """
        openings = self._stack.link_openings
        if openings != self._openings:
            self._openings = openings
            self._overdraft = 0
        if self._overdraft + size > self._limits.udp_overdraft:
            return False
        self._overdraft += size
        return True

    def _open_failed(self, packet: IpPacket, error: OSError) -> None:
        if error.errno in NO_DESCRIPTOR:
            self._counts.dropped_descriptors += 1
            return
        self._counts.dropped_open += 1
        problem = self._refusal(packet.version, error.errno or 0)
        if problem is not None:
            self._tell(problem, packet.packet)

    def _add(self, flow: F) -> bool:
        """Take in a new flow; False (and its socket is closed) when the kernel watches no more sockets."""
        try:
            self._poller.register(flow.sock.fileno(), lambda events: self._ready(flow, events), events=IN, edge=False)
        except OSError:  # ENOSPC: fs.epoll.max_user_watches; ENOMEM
            flow.sock.close()
            self._counts.dropped_open += 1
            return False
        self._flows[flow.key] = flow
        self._table.add(flow)
        self._counts.flows_opened += 1
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP_INTERVAL, self._sweep)
        return True

    def _drop(self, flow: F) -> None:
        if self._flows.pop(flow.key, None) is not None:
            self._table.remove(flow)
            self._poller.unregister(flow.sock.fileno())
            flow.sock.close()

    def _sweep(self) -> None:
        self._timer = None
        all_of_them = self.expire(self._time(), EXPIRED_A_TURN)
        if self._flows:
            self._timer = self._loop.call_later(SWEEP_INTERVAL if all_of_them else SOON, self._sweep)

    def _ready(self, flow: F, events: int) -> None:
        if not self._reading.left:
            return  # what is there is told again in the next turn; beyond what the kernel holds it is lost
        begun = self._clock()
        if events & ERR:
            self._read_errors(flow)
        if events & IN:
            self._read(flow)
        self._reading.spend(self._clock() - begun)

    def _read_errors(self, flow: F) -> int:
        """Tell the codespace what the flow's error queue holds; how many errors came from the network."""
        told = 0
        for _ in range(ERRORS_A_TURN):
            error = read_error(flow.sock)
            if error is None:
                break
            if error.origin == ORIGIN_LOCAL:  # the send that met it has told it already
                self._counts.errors_ignored += 1
                continue
            told += 1
            self._host_error(flow, error)
        if flow.sock.fileno() < 0:  # telling it ended the link, and that this flow
            return told
        # Clears what the queue did not; an error may also come without an entry (the queue is full, no such queue).
        pending = flow.sock.getsockopt(SOL_SOCKET, SO_ERROR)
        if pending and not told:
            told = 1
            self._host_errno(flow, pending)
        return told

    def _host_error(self, flow: F, error: HostError) -> None:
        problem = error.problem
        quoted = self._quoted(flow, error) if problem is not None else None
        # Without DF every router fragments; a report to the contrary is forged or stale.
        pointless = problem is Problem.TOO_BIG and flow.version == 4 and not flow.dont_fragment
        if problem is None or quoted is None or pointless:
            self._counts.errors_ignored += 1
            return
        source = error.offender
        if source == flow.final:
            source = flow.destination
        elif source is not None and source == local_address(flow.sock, flow.version):
            source = None  # found here: the codespace knows this machine as its gateway
        mtu = error.mtu if problem is Problem.TOO_BIG else 0
        self._tell(problem, quoted, source=source, mtu=mtu, ttl=64 if source is None else error.hops_on)

    def _host_errno(self, flow: F, errno: int) -> None:
        problem = PROBLEMS.get(errno)
        if problem is None or problem is Problem.TOO_BIG:
            self._counts.errors_ignored += 1
            return
        self._tell(problem, flow.quoted, source=flow.destination if problem is Problem.PORT_UNREACHABLE else None)

    def _read_failed(self, flow: F, errno: int) -> None:
        """A read found an error instead of data, and thereby cleared it; the queue, if there is one, still has it."""
        if not self._read_errors(flow):
            self._host_errno(flow, errno)

    def _send_failed(self, flow: F, packet: IpPacket, errno: int) -> bool:
        """A send was refused: tell or count it. True when the same flow, or a new one for it, should try once more."""
        if errno in SILENT_FULL:
            self._counts.dropped_send_full += 1
            return False
        if self._read_errors(flow):
            return True  # the refusal was news of an earlier datagram
        if errno in USELESS:
            self._counts.flows_failed += 1
            self._drop(flow)
            if flow.packets_up:
                return True
        self._refused(flow, packet, errno)
        return False

    def _refusal(self, version: int, errno: int) -> Problem | None:
        """What the codespace is told of an errno with which this machine refused to send."""
        return PROBLEMS.get(errno)

    def _refused(self, flow: F, packet: IpPacket, errno: int) -> None:
        self._counts.dropped_send_error += 1
        problem = self._refusal(packet.version, errno)
        if problem is None:
            return
        mtu = 0
        if problem is Problem.TOO_BIG:
            mtu = path_mtu(flow.sock, flow.version)
            if not 0 < mtu < len(packet.packet):
                return  # too big for a reason that a smaller packet would not mend
        source = flow.destination if problem is Problem.PORT_UNREACHABLE else None
        self._tell(problem, packet.packet, source=source, mtu=mtu)

    def _tell(
        self, problem: Problem, quoted: Buffer, *, source: bytes | None = None, mtu: int = 0, ttl: int = 64,
    ) -> None:
        if self._stack.icmp.error(problem, quoted, source=source, mtu=mtu, ttl=ttl):
            self._counts.errors_down += 1
