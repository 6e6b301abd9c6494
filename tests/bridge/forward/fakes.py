"""A stack that only remembers what it was asked to send, a clock to turn by hand, and packets of a codespace."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from socket import AF_INET, AF_INET6, SOCK_DGRAM, inet_pton, socket
from typing import Any, cast

import pytest

from netbridge.bridge.forward.flows import FlowTable
from netbridge.bridge.forward.icmp import IcmpForwarder
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.forward.policy import Policy
from netbridge.bridge.forward.poller import Poller
from netbridge.bridge.forward.udp import UdpForwarder
from netbridge.stack import ipv4, ipv6
from netbridge.stack.icmp import wire as icmp_wire
from netbridge.stack.icmp.wire import Problem, Quoted
from netbridge.stack.link.base import Buffer, Link, LinkUser
from netbridge.stack.packet import Fragment, IpPacket
from netbridge.stack.udp import wire as udp_wire
from tests import balance

CODESPACE = {4: "198.18.0.2", 6: "fd6e:6272:0::2"}
HOST = {4: "127.0.0.1", 6: "::1"}
ALLOW_LOOPBACK = ["127.0.0.0/8", "::1"]


def has_ipv6() -> bool:
    try:
        with socket(AF_INET6, SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no ::1 on this machine")


def packed(address: str) -> bytes:
    return inet_pton(AF_INET6 if ":" in address else AF_INET, address)


@dataclass
class Told:
    """One ICMP error the stack was asked to send."""

    problem: Problem
    quoted: bytes
    source: bytes | None
    mtu: int
    ttl: int


@dataclass
class Sent:
    """One datagram the stack was asked to send."""

    source: tuple[bytes, int]
    destination: tuple[bytes, int]
    payload: bytes


@dataclass
class EchoReply:
    """One echo reply the stack was asked to send."""

    source: bytes
    destination: bytes
    identifier: int
    sequence: int
    payload: bytes
    ttl: int


Forward = Callable[[IpPacket, int, int, memoryview], None]


class FakeUdp:
    def __init__(self) -> None:
        self.forward: Forward | None = None
        self.forward_error: Callable[[Quoted, Problem, int], bool] | None = None
        self.sent: list[Sent] = []

    def send(self, source: tuple[bytes, int], destination: tuple[bytes, int], payload: bytes | memoryview) -> bool:
        assert isinstance(payload, bytes), "the link may keep it"
        self.sent.append(Sent(source, destination, payload))
        return True


class FakeIcmp:
    def __init__(self) -> None:
        self.forward: Forward | None = None
        self.told: list[Told] = []
        self.replies: list[EchoReply] = []

    def error(
        self, problem: Problem, quoted: Buffer, *, source: bytes | None = None, mtu: int = 0, ttl: int = 64
    ) -> bool:
        self.told.append(Told(problem, bytes(quoted), source, mtu, ttl))
        return True

    def echo_reply(
        self, source: bytes, destination: bytes, identifier: int, sequence: int, payload: Buffer, *, ttl: int = 64
    ) -> bool:
        self.replies.append(EchoReply(source, destination, identifier, sequence, bytes(payload), ttl))
        return True


class FakeLink(Link):
    def __init__(self) -> None:
        self.is_ready = True

    def start(self, user: LinkUser) -> None:
        raise NotImplementedError

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        raise NotImplementedError

    @property
    def ready(self) -> bool:
        return self.is_ready

    def close(self) -> None:
        pass


class FakeStack:
    """What the forwarders see of a stack."""

    def __init__(self) -> None:
        self.udp = FakeUdp()
        self.icmp = FakeIcmp()
        self.link = FakeLink()
        self.link_openings = 0


class FakeClock:
    """An event loop as far as a forwarder uses one: time stands still until it is moved, timers run when it passes."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeTimer:
        entry = (self.now + delay, callback)
        self.timers.append(entry)
        return FakeTimer(self, entry)

    def call_soon(self, callback: Callable[[], None]) -> asyncio.Handle:
        return asyncio.get_running_loop().call_soon(callback)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted((entry for entry in self.timers if entry[0] <= end), key=lambda entry: entry[0]):
            self.timers.remove(due[0])
            self.now = due[0][0]
            due[0][1]()
        self.now = end


@dataclass
class FakeTimer:
    clock: FakeClock
    entry: tuple[float, Callable[[], None]]

    def cancel(self) -> None:
        if self.entry in self.clock.timers:
            self.clock.timers.remove(self.entry)


@dataclass
class Bench:
    """Both forwarders on a fake stack, with real host sockets."""

    policy: Policy = field(default_factory=lambda: Policy(ALLOW_LOOPBACK))
    limits: Limits = field(default_factory=Limits)
    budget: int = 10000

    def __post_init__(self) -> None:
        self.stack = FakeStack()
        self.clock = FakeClock()
        self.poller = Poller(asyncio.get_running_loop())
        self.table = FlowTable(self.budget)
        self.hints: list[str] = []
        self.datagrams = self.pings = 0
        loop = cast("asyncio.AbstractEventLoop", self.clock)
        self.worked = self.cost = 0.0
        """Seconds by the clock that measures work, and what each look at it adds."""
        self.udp = UdpForwarder(
            self.stack, self.poller, self.policy, self.limits, self.table, loop, clock=self.work_clock
        )
        self.icmp = IcmpForwarder(
            self.stack, self.poller, self.policy, self.limits, self.table, loop, self.hints.append,
            clock=self.work_clock,
        )

    def work_clock(self) -> float:
        self.worked += self.cost
        return self.worked

    def close(self) -> None:
        self.udp.close()
        self.icmp.close()
        assert not (wrong := self.unbalanced()), wrong
        assert len(self.poller) == 0, "a socket outlived its flow"
        assert len(self.table) == 0, "a flow outlived its forwarder"
        assert not self.clock.timers, "a timer outlived its forwarder"
        self.poller.close()

    def unbalanced(self) -> list[str]:
        """Which packets from the codespace were not counted by what became of them."""
        counters = self.table.counters
        return balance.check({
            "udp": {"forwarded": self.datagrams}, "icmp": {"echo_forwarded": self.pings},
            "forward_udp": counters.udp, "forward_icmp": counters.icmp,
        })  # fmt: skip

    def datagram(
        self, to: str, port: int, payload: bytes,
        *, source_port: int = 4000, ttl: int = 63, df: bool = False, tos: int = 0,
    ) -> bytes:
        """A UDP datagram from the codespace, as the stack would hand it over; returns its IP packet."""
        version = 6 if ":" in to else 4
        source, destination = packed(CODESPACE[version]), packed(to)
        body = udp_wire.emit(source, source_port, destination, port, payload)
        packet, raw = ip_packet(version, source, destination, 17, body, ttl=ttl, df=df, tos=tos)
        parsed = udp_wire.parse(packet)
        assert self.stack.udp.forward is not None
        self.datagrams += 1
        self.stack.udp.forward(packet, *parsed)
        return raw

    def ping(
        self, to: str, identifier: int, sequence: int, payload: bytes = b"ping", *, ttl: int = 63, df: bool = False
    ) -> bytes:
        """An echo request from the codespace; returns its IP packet."""
        version = 6 if ":" in to else 4
        source, destination = packed(CODESPACE[version]), packed(to)
        kind = icmp_wire.ECHO_REQUEST[version]
        body = icmp_wire.emit(version, source, destination, kind, 0, identifier, sequence, payload)
        protocol = icmp_wire.protocol_number(version)
        packet, raw = ip_packet(version, source, destination, protocol, body, ttl=ttl, df=df)
        assert self.stack.icmp.forward is not None
        self.pings += 1
        self.stack.icmp.forward(packet, identifier, sequence, packet.payload[8:])
        return raw


def ip_packet(
    version: int, source: bytes, destination: bytes, protocol: int, body: bytes,
    *, ttl: int, df: bool = False, tos: int = 0,
) -> tuple[IpPacket, bytes]:
    if version == 4:
        header = ipv4.emit_header(
            source, destination, protocol, len(body), ttl=ttl + 1, flags=0x4000 if df else 0, tos=tos
        )
        packet = ipv4.parse(memoryview(header + body), checksum_trusted=False)
    else:
        header = ipv6.emit_header(source, destination, protocol, len(body), ttl=ttl + 1, tos=tos)
        packet = ipv6.parse(memoryview(header + body), checksum_trusted=False)
    assert not isinstance(packet, Fragment)
    packet.dont_fragment = df  # of IPv6: it came in one piece
    packet.ttl -= 1
    return packet, header + body


async def until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    """Let the event loop run until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.001)


async def settle() -> None:
    """Give everything that is at hand the time to happen."""
    await asyncio.sleep(0.03)


def udp_ports(quoted: bytes) -> tuple[int, int]:
    """Source and destination port in a quoted packet."""
    at = (quoted[0] & 15) << 2 if quoted[0] >> 4 == 4 else 40
    source, destination = struct.unpack_from("!HH", quoted, at)
    return source, destination
