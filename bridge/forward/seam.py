"""What the UDP and ICMP forwarders use of a stack; anything of this shape will do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from netbridge.stack.icmp.wire import Problem, Quoted
from netbridge.stack.link.base import Buffer, Link
from netbridge.stack.packet import IpPacket


class IcmpSide(Protocol):
    """What the forwarders use of the stack's ICMP room."""

    forward: Callable[[IpPacket, int, int, memoryview], None] | None

    def error(
        self, problem: Problem, quoted: Buffer, *, source: bytes | None = None, mtu: int = 0, ttl: int = 64,
    ) -> bool:
        """Send an ICMP error about `quoted`; whether it went out."""

    def echo_reply(
        self, source: bytes, destination: bytes, identifier: int, sequence: int, payload: Buffer, *, ttl: int = 64,
    ) -> bool:
        """Send an echo reply."""


class UdpSide(Protocol):
    """What the forwarders use of the stack's UDP room."""

    forward: Callable[[IpPacket, int, int, memoryview], None] | None
    forward_error: Callable[[Quoted, Problem, int], bool] | None

    def send(self, source: tuple[bytes, int], destination: tuple[bytes, int], payload: bytes | memoryview) -> bool:
        """Send a datagram; `payload` never changes afterwards."""


class ForwardStack(Protocol):
    """What the UDP and ICMP forwarders use of a stack."""

    @property
    def icmp(self) -> IcmpSide:
        """Its ICMP room."""

    @property
    def udp(self) -> UdpSide:
        """Its UDP room."""

    @property
    def link_openings(self) -> int:
        """How often the link has had room again after it had none."""

    @property
    def link(self) -> Link:
        """Where it stands on."""
