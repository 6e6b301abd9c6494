"""UDP to host sockets: one connected socket a flow.

Only the peer can answer on a connected socket, so the kernel does the filtering (RFC 4787 calls it address and port
dependent). Mapping is endpoint-independent: the flows of one codespace socket share one random host port (see
`udpports.py`). A resolver that asks each question from a new port is seen from a new random port each time, which
keeps DNS hard to forge. docs/nat.md goes through all of RFC 4787.

A zero-length datagram is data. TTL, DSCP and DF travel on to the host socket and errors travel back, so traceroute,
tracepath and path MTU discovery in the codespace see the real path, this machine being its first hop.

When the link is full, small replies may still go up to a bound; the rest is dropped, as every full router does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from socket import socket
from time import monotonic

from netbridge.stack.icmp.wire import Problem, Quoted
from netbridge.stack.packet import UDP, IpPacket

from .flows import FlowTable, Key
from .hostflows import ANSWERED, HEADER_LEN, READS_A_TURN, STREAM, HostFlow, HostFlows
from .hostsocket import HostError, open_udp
from .limits import Limits
from .policy import Policy
from .poller import Poller
from .problems import HARD, PROBLEMS
from .seam import ForwardStack
from .udpports import Mapping, UdpPorts

DNS = 53
LARGEST = 65536
"""More than any datagram; recv gives back what it does not fill."""


class UdpFlow(HostFlow):
    """One UDP flow."""

    __slots__ = ("far", "mapping", "near")

    def __init__(self, key: Key, now: float, sock: socket, final: bytes, mapping: Mapping | None) -> None:
        super().__init__(UDP, key, now, sock, final)
        self.mapping = mapping
        """The host port it shares, or may share; None when it must not."""
        self.near = (self.source, self.source_port)
        """The codespace's end, as the stack wants it."""
        self.far = (self.destination, self.destination_port)


class UdpForwarder(HostFlows[UdpFlow]):
    """Takes the stack's UDP datagrams to other addresses and brings back what answers."""

    name = "udp"

    def __init__(
        self, stack: ForwardStack, poller: Poller, policy: Policy, limits: Limits, table: FlowTable,
        loop: asyncio.AbstractEventLoop, *, clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(
            stack, poller, policy, limits, table, loop, table.counters.udp,
            capacity=limits.udp_flows, clock=clock,
            shortest_idle=min(limits.udp_idle_dns, limits.udp_idle_single, limits.udp_idle_stream),
        )
        self._udp_counts = table.counters.udp
        self._ports = UdpPorts()
        stack.udp.forward = self.forward
        stack.udp.forward_error = self.forward_error

    def close(self) -> None:
        if not self._closed:
            self._stack.udp.forward = self._stack.udp.forward_error = None
        super().close()

    def _forward(self, packet: IpPacket, first: int, second: int, payload: memoryview) -> None:
        key = (packet.source, first, packet.destination, second)
        flow = self._flows.get(key)
        if flow is None:
            flow = self._open(key, packet)
            if flow is None:
                return
        else:
            self._flows.move_to_end(key)
            flow.state = STREAM
        flow.prepare(packet)
        try:
            flow.sock.send(payload)
        except OSError as error:
            if not self._send_failed(flow, packet, error.errno or 0):
                return
            flow = self._send_again(flow, packet, payload)
            if flow is None:
                return
        flow.packets_up += 1
        flow.bytes_up += len(payload)
        flow.last_used = self._time()
        self._counts.packets_up += 1

    def forward_error(self, quoted: Quoted, problem: Problem, _mtu: int) -> bool:
        """Take what the codespace says about a reply; whether that was one of ours.

        Port unreachable means that the application closed its socket. So does ours: the next reply makes this kernel
        say the same to the far host, which it would have heard from the application's own machine.
        """
        flow = self._flows.get((quoted.destination, quoted.destination_port, quoted.source, quoted.source_port))
        if flow is None:
            return False
        if problem is Problem.PORT_UNREACHABLE:
            self._udp_counts.flows_refused += 1
            self._drop(flow)
        return True

    def _open(self, key: Key, packet: IpPacket) -> UdpFlow | None:
        final = self._permitted(key, packet)
        if final is None:
            return None
        mapping: Mapping | None = None
        source = key[:2]

        def opener(version: int) -> socket:
            nonlocal mapping
            sock = open_udp(version)
            # Two names for one address must not share a port: both sockets would have the same two ends.
            if final == packet.destination:
                mapping, as_wanted = self._ports.bind(sock, source)
                if not as_wanted:
                    self._udp_counts.ports_not_shared += 1
            return sock

        sock = self._connected(packet, final, key[3], opener)
        if sock is None:
            return None
        flow = UdpFlow(key, self._time(), sock, final, mapping)
        if not self._add(flow):
            return None
        if mapping is not None:
            self._ports.add(source, mapping, sock)
        return flow

    def _drop(self, flow: UdpFlow) -> None:
        if flow.mapping is not None and self._flows.get(flow.key) is flow:
            self._ports.remove(flow.near, flow.mapping)
        super()._drop(flow)

    def _send_again(self, flow: UdpFlow, packet: IpPacket, payload: memoryview) -> UdpFlow | None:
        """The second and last try, on a new socket when the old one was useless; the flow that did it."""
        if flow.key not in self._flows:
            renewed = self._open(flow.key, packet)
            if renewed is None:
                return None
            flow = renewed
            flow.prepare(packet)
        try:
            flow.sock.send(payload)
        except OSError as error:
            self._refused(flow, packet, error.errno or 0)
            return None
        return flow

    def _read(self, flow: UdpFlow) -> None:
        recv = flow.sock.recv
        send = self._stack.udp.send
        link = self._stack.link
        count = size = taken = 0
        for _ in range(READS_A_TURN):
            try:
                payload = recv(LARGEST)
            except BlockingIOError:
                break
            except OSError as error:
                self._read_failed(flow, error.errno or 0)
                break
            length = len(payload)
            if not link.ready:
                if taken > self._limits.udp_overdraft_per_turn or not self._overdraw(length):
                    self._counts.dropped_link_busy += 1
                    continue
                taken += length
            send(flow.far, flow.near, payload)
            count += 1
            size += length
        if not count:
            return
        flow.packets_down += count
        flow.bytes_down += size
        flow.last_used = self._time()
        flow.state = STREAM if flow.packets_up > 1 or flow.packets_down > 1 else ANSWERED
        if flow.key in self._flows:  # not when sending ended the link
            self._flows.move_to_end(flow.key)
        self._counts.packets_down += count

    def _refusal(self, version: int, errno: int) -> Problem | None:
        return (HARD.get(errno) if version == 4 else None) or PROBLEMS.get(errno)

    def _service_port(self, second: int) -> int:
        return second

    def _idle_time(self, flow: UdpFlow) -> float:
        if flow.destination_port == DNS:
            return self._limits.udp_idle_dns if flow.packets_down >= flow.packets_up else self._limits.udp_idle_single
        if flow.packets_up > 1 or flow.packets_down > 1:
            return self._limits.udp_idle_stream
        return self._limits.udp_idle_single

    def _quoted(self, flow: UdpFlow, error: HostError) -> bytes | None:
        # The headers are the last datagram's; the payload is that of the datagram which failed, when the router quoted
        # it, because tracepath keeps the TTL and the time of a probe there.
        quoted = flow.quoted
        if not error.data:
            return quoted
        if flow.version == 4:
            return quoted[: ((quoted[0] & 15) << 2) + HEADER_LEN] + error.data
        return quoted[: 40 + HEADER_LEN] + error.data if quoted[6] == UDP else quoted
