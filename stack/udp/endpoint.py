"""UDP of one stack: who gets a datagram, and sending one.

A datagram to one of the stack's own addresses goes to the binding of its destination, first by address and port,
then by port alone; one to any other address goes to `forward`. A binding with a remote address takes datagrams from
there only, as a connected socket does. What nobody takes is answered with port unreachable.

Datagrams stay views until a local endpoint takes them. The asyncio face is in `transport.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from errno import EADDRINUSE
from os import strerror
from typing import Protocol

from ..errors import WireError
from ..icmp.endpoint import ErrorHandler, Icmp
from ..icmp.wire import Problem, Quoted
from ..ip_output import IpSender
from ..packet import UDP, IpPacket
from . import wire

Address = tuple[bytes, int]
"""Packed address and port."""
ForwardDatagram = Callable[[IpPacket, int, int, memoryview], None]

EPHEMERAL = range(49152, 65536)
"""RFC 6335; chosen at random among them (RFC 6056 section 3.3.1)."""


class Receiver(Protocol):
    """Who bound a port."""

    def packet_received(self, source: Address, payload: memoryview) -> None:
        """Take one datagram; the view is valid only until this returns."""

    def problem_received(self, problem: Problem, mtu: int) -> None:
        """An ICMP error came about a datagram this (connected) binding sent."""

    def lost(self, error: Exception | None) -> None:
        """The stack has ended; the port is free already."""


@dataclass(slots=True)
class UdpCounters:
    """What UDP did."""

    received: int = 0
    """Datagrams that came in well-formed."""
    malformed: int = 0
    """Datagrams dropped for their length, checksum or a port of 0."""
    forwarded: int = 0
    """Datagrams given to the forwarder."""
    delivered: int = 0
    """Datagrams given to an endpoint of the stack's own."""
    unclaimed: int = 0
    """Datagrams nobody listens for."""
    sent: int = 0
    """Datagrams sent."""
    not_sent: int = 0
    """Datagrams that did not fit (longer than UDP allows, or than the MTU with DF set)."""
    too_long: int = 0
    """Of these, longer than UDP allows."""
    errors: int = 0
    """ICMP errors told to a local endpoint or the forwarder."""


class _Binding:
    """A bound port."""

    __slots__ = ("receiver", "remote")

    def __init__(self, receiver: Receiver, remote: Address | None) -> None:
        self.receiver = receiver
        self.remote = remote


class Udp:
    """The UDP room of one stack, both versions."""

    def __init__(self, stack: IpSender, icmp: Icmp) -> None:
        self.counters = UdpCounters()
        self.forward: ForwardDatagram | None = None
        """Takes datagrams to other addresses: packet (ttl already lowered), source port, destination port, payload."""
        self.forward_error: ErrorHandler | None = None
        """Takes ICMP errors about datagrams that were sent for other addresses: quoted packet, problem, MTU."""
        self._stack = stack
        self._icmp = icmp
        self._bindings: dict[Address, _Binding] = {}
        icmp.udp_error = self._error_received

    def packet_received(self, packet: IpPacket) -> None:
        """Take one UDP packet, of either version."""
        try:
            source_port, destination_port, payload = wire.parse(packet)
        except WireError:
            self.counters.malformed += 1
            return
        self.counters.received += 1
        if not self._stack.is_local(packet.destination):
            if self.forward is not None:
                self.counters.forwarded += 1
                self.forward(packet, source_port, destination_port, payload)
            else:
                self.counters.unclaimed += 1
            return
        binding = self._find(packet.destination, destination_port)
        source = (packet.source, source_port)
        if binding is None or (binding.remote is not None and binding.remote != source):
            self.counters.unclaimed += 1
            self._icmp.error(Problem.PORT_UNREACHABLE, packet.packet, source=packet.destination)
            return
        self.counters.delivered += 1
        binding.receiver.packet_received(source, payload)

    def send(
        self, source: Address, destination: Address, payload: bytes | memoryview,
        *, ttl: int = 64, tos: int = 0, dont_fragment: bool = False,
    ) -> bool:
        """Send a datagram from `source`, which need not be the stack's own. `payload` must never change afterwards.

        False when it does not fit: longer than UDP allows, or than the link's MTU with `dont_fragment`.
        """
        address, port = source
        to_address, to_port = destination
        version = 4 if len(address) == 4 else 6
        length = len(payload)
        if length > wire.MAX_PAYLOAD[version]:
            self.counters.not_sent += 1
            self.counters.too_long += 1
            return False
        header = wire.emit_partial(address, port, to_address, to_port, length)
        if not self._stack.send_ip(
            version, address, to_address, UDP, header, payload,
            ttl=ttl, tos=tos, dont_fragment=dont_fragment, checksum_offset=wire.CHECKSUM_OFFSET,
        ):
            self.counters.not_sent += 1
            return False
        self.counters.sent += 1
        return True

    def bind(self, receiver: Receiver, local: Address, remote: Address | None = None) -> Address:
        """Give `receiver` what comes to `local` (only from `remote`, when given); returns what was bound.

        An address of zeros stands for all own addresses of that version; port 0 for a free port chosen at random.
        Raises OSError (EADDRINUSE).
        """
        address, port = local
        if not port:
            port = self._free_port(address)
        elif (address, port) in self._bindings:
            raise OSError(EADDRINUSE, strerror(EADDRINUSE))
        self._bindings[address, port] = _Binding(receiver, remote)
        return address, port

    def unbind(self, local: Address) -> None:
        """Free what `bind` returned."""
        self._bindings.pop(local, None)

    def close(self, error: Exception | None = None) -> None:
        """End all bindings: the stack has ended."""
        bindings = list(self._bindings.values())
        self._bindings.clear()
        self.forward = self.forward_error = None
        for binding in bindings:
            binding.receiver.lost(error)

    def _free_port(self, address: bytes) -> int:
        start = secrets.randbelow(len(EPHEMERAL))
        for step in range(len(EPHEMERAL)):
            port = EPHEMERAL[(start + step) % len(EPHEMERAL)]
            if self._find(address, port) is None:
                return port
        raise OSError(EADDRINUSE, strerror(EADDRINUSE))

    def _find(self, address: bytes, port: int) -> _Binding | None:
        return self._bindings.get((address, port)) or self._bindings.get((bytes(len(address)), port))

    def _error_received(self, quoted: Quoted, problem: Problem, mtu: int) -> bool:
        if not self._stack.is_local(quoted.source):
            believed = self.forward_error is not None and self.forward_error(quoted, problem, mtu)
        else:
            binding = self._find(quoted.source, quoted.source_port)
            # Like the kernel, tell only connected endpoints: others could not know whom the error is about.
            believed = binding is not None and binding.remote == (quoted.destination, quoted.destination_port)
            if binding is not None and believed:
                binding.receiver.problem_received(problem, mtu)
        self.counters.errors += believed
        return believed
