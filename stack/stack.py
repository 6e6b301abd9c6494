"""A TCP/IP stack on one link: what arrives is checked, sorted and handed to its room; the asyncio face for users.

The way in: `packet_received` takes the common case, TCP over IP without options or fragments, straight from the bytes;
everything else goes through the parsers of :mod:`.ipv4` and :mod:`.ipv6` and, in pieces, through reassembly. A packet
for one of the stack's own addresses goes to its listeners and endpoints; any other goes to the `forward` hook of its
room, if one is set, and is otherwise dropped and counted.

The way out: rooms call `send_ip` (UDP, ICMP) or write to the link with their own headers (TCP).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from ipaddress import ip_interface
from math import inf
from struct import Struct
from typing import Self

from . import ipv4, ipv6
from .addressing import Addressing, Prefix, contains, prefix
from .checksum import fold
from .clock import Clock
from .errors import WireError
from .face import Face
from .fragments import Reassembler
from .icmp.endpoint import Icmp
from .icmp.wire import Problem
from .ip_counters import IpCounters
from .ip_output import IpOutput
from .link.base import Buffer, Link, LinkError
from .packet import ICMP, ICMPV6, TCP, UDP, Fragment, IpPacket
from .statistics import Statistics, snapshot
from .tcp.config import TcpConfig
from .tcp.endpoint import Tcp
from .timers import Timers
from .udp.endpoint import Udp
from .vnet import F_DATA_VALID, F_NEEDS_CSUM, VNET_LEN

_FAST4 = Struct("!BxHxxHxB")
"""Version and IHL, total length, flags and fragment offset, protocol."""
_FAST6 = Struct("!B3xHB")
"""Version, payload length, next header."""
_TRUSTED = F_NEEDS_CSUM | F_DATA_VALID
IP_AT = VNET_LEN
TCP4_AT = IP_AT + 20
TCP6_AT = IP_AT + 40
KNOWN_SOURCES = 1024
"""Source addresses remembered as allowed; forgotten all at once beyond, so a spoofer cannot fill memory."""


class Stack(Face):
    """One host on one link. Use as an async context manager.

    `addresses` are its own, of either version, as "address/prefix" (for example "10.0.0.1/24"). `routes` are the
    networks ("10.0.0.0/8", "::/0") reached by the link besides those prefixes: to what lies in none of them nothing is
    begun (ENETUNREACH); None: everything is reached. Packets from addresses outside of prefixes and routes are dropped
    unless `sources` names other networks (or is empty: any). `mtu`: bytes of the largest IP packet sent, 68 to 65535,
    the link's own by default. `tcp`: how TCP behaves. ValueError for arguments that make no sense.
    """

    def __init__(
        self, link: Link, addresses: Sequence[str], *, mtu: int | None = None, tcp: TcpConfig | None = None,
        routes: Sequence[str] | None = None, sources: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self.link = link
        self.clock = Clock()
        self.mtu = mtu or link.mtu
        if not 68 <= self.mtu <= 65535:  # RFC 791, section 3.2
            raise ValueError(f"an MTU is 68 to 65535, not {self.mtu}")
        self.addressing = Addressing(addresses, routes)
        self.interfaces = self.addressing.interfaces
        self._local = self.addressing.local
        self._networks: list[Prefix] = []
        self._known: set[bytes] = set()
        self.accept_sources([*addresses, *(routes or ())] if sources is None else sources)
        self._broadcast = {
            interface.network.broadcast_address.packed
            for interface in self.interfaces
            if interface.version == 4 and interface.network.prefixlen < 31
        }
        self.counters = IpCounters()
        self.output = IpOutput(link, mtu=self.mtu)
        self.send_ip = self.output.send_ip
        self.icmp = Icmp(self)
        self.udp = Udp(self, self.icmp)
        self.tcp = Tcp(self, tcp or TcpConfig())
        self.icmp.tcp_error = self.tcp.icmp_error
        self.on_lost: Callable[[Exception | None], None] | None = None
        """Called when the link is lost or closed."""
        self.link_openings = 0
        """How often the link has had room again after it had none."""
        self.fragments = Reassembler()
        self.scheduled = inf
        self._loop: asyncio.AbstractEventLoop | None = None
        self.timers: Timers
        self._closed = False

    def __repr__(self) -> str:
        return f"<Stack {', '.join(map(str, self.interfaces))} flows={len(self.tcp.flows)}>"

    # -- life

    def start(self) -> None:
        """Begin to receive. To be called inside the event loop; `async with` does it."""
        self._loop = asyncio.get_running_loop()
        self.timers = Timers(self._loop, self.clock)
        self.link.start(self)

    def stand_on(self, link: Link) -> None:
        """Send by this link from now on: a device that was put in between, or what is left when it is taken out."""
        self.link = self.output.link = link

    def close(self) -> None:
        """Reset all connections and close the link."""
        if self._closed:
            return
        self._closed = True
        if self._loop is not None:
            self.tcp.close()
            self.udp.close()
            self.fragments.expire(inf)
            self.timers.close()
        self.link.close()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await asyncio.sleep(0)  # connection_lost callbacks run before the caller goes on

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop the stack was started in."""
        if self._loop is None:
            raise RuntimeError("the stack was not started")
        return self._loop

    def report(self, message: str, error: Exception) -> None:
        """A callback of a user raised: tell the event loop's exception handler, and go on."""
        self.loop.call_exception_handler({"message": f"{self!r}: {message}", "exception": error})

    def statistics(self) -> Statistics:
        """What was counted, and how every connection stands, now."""
        return snapshot(self)

    # -- LinkUser

    def packet_received(self, packet: memoryview) -> None:
        """One packet from the link: virtio_net_hdr and IP packet."""
        self.counters.packets += 1
        size = len(packet)
        if size < TCP4_AT:
            self.counters.malformed += 1
            return
        trusted = packet[0] & _TRUSTED != 0
        first = packet[IP_AT]
        if first == 0x45:
            _, total, fragment, protocol = _FAST4.unpack_from(packet, IP_AT)
            end = IP_AT + total
            if protocol == TCP and not fragment & 0x3FFF and TCP4_AT + 4 <= end <= size:
                if fold(int.from_bytes(packet[IP_AT:TCP4_AT], "big")) != 0xFFFF:
                    self.counters.malformed += 1
                    return
                self.tcp.receive(bytes(packet[22:34]), packet, IP_AT, TCP4_AT, end, trusted=trusted)
                return
        elif first >> 4 == 6 and size >= TCP6_AT + 4:
            _, length, protocol = _FAST6.unpack_from(packet, IP_AT)
            end = TCP6_AT + length
            if protocol == TCP and length >= 4 and end <= size:
                self.tcp.receive(bytes(packet[18:54]), packet, IP_AT, TCP6_AT, end, trusted=trusted)
                return
        self._general(packet[IP_AT:], trusted=trusted)

    def burst_ended(self) -> None:
        """See `LinkUser`."""
        self.tcp.burst_ended()

    def link_ready(self) -> None:
        """See `LinkUser`."""
        self.link_openings += 1
        self.tcp.link_ready()

    def link_lost(self, error: Exception | None) -> None:
        """See `LinkUser`."""
        self.close()
        if self.on_lost is not None:
            self.on_lost(error)

    def _general(self, view: memoryview, *, trusted: bool) -> None:
        """Any packet, with all checks."""
        try:
            version = view[0] >> 4
            if version == 4:
                packet = ipv4.parse(view, checksum_trusted=trusted)
            elif version == 6:
                packet = ipv6.parse(view, checksum_trusted=trusted)
            else:
                raise WireError("neither IPv4 nor IPv6")
        except WireError as error:
            self.counters.malformed += 1
            self.icmp.bad_header(view, error)
            return
        if isinstance(packet, Fragment):
            self._reassemble(packet, view)
        else:
            self._deliver(packet)

    def _reassemble(self, fragment: Fragment, view: memoryview) -> None:
        self.counters.fragments += 1
        try:
            whole = self.fragments.add(fragment, self.clock.now())
        except WireError as error:
            self.icmp.bad_header(view, error)
            return
        if whole is None:
            self.timers.update(self)
        else:
            self._deliver(whole)

    def _deliver(self, packet: IpPacket) -> None:
        protocol = packet.protocol
        if protocol == TCP:
            self._tcp_the_long_way(packet)
            return
        if not self.may_arrive(packet.source, packet.destination, packet.ttl, packet.packet):
            return
        if packet.destination not in self._local:
            packet.ttl -= 1
        if protocol == UDP:
            self.udp.packet_received(packet)
        elif protocol in (ICMP, ICMPV6):
            self.icmp.packet_received(packet)
        else:
            self.counters.unknown_protocol += 1
            self.icmp.error(Problem.PROTOCOL_UNREACHABLE, packet.packet)

    def _tcp_the_long_way(self, packet: IpPacket) -> None:
        """TCP behind options, extension headers or reassembly."""
        payload = packet.payload
        if len(payload) < 20:
            self.counters.malformed += 1
            return
        whole = packet.packet
        at = len(whole) - len(payload)
        key = packet.source + packet.destination + bytes(payload[:4])
        self.tcp.receive(key, whole, 0, at, len(whole), trusted=packet.checksum_trusted)

    # -- what may pass

    def is_local(self, address: bytes) -> bool:
        """Whether a packed address is the stack's own."""
        return address in self._local

    def gateway(self, version: int) -> bytes | None:
        """The stack's first address of that IP version, packed."""
        return self.addressing.gateway(version)

    def now(self) -> float:
        """The time by the stack's clock, in seconds."""
        return self.clock.now()

    def is_unicast_pair(self, source: bytes, destination: bytes) -> bool:
        """Whether both may stand in a unicast packet and differ; drops are counted."""
        if len(source) == 4:
            if destination[0] >= 224 or destination in self._broadcast:
                self.counters.group += 1
                return False
            martian = source[0] >= 224 or source[0] in (0, 127) or source in self._broadcast
        else:
            if destination[0] == 0xFF:
                self.counters.group += 1
                return False
            martian = source[0] == 0xFF or source[:15] == bytes(15)
        if martian or source == destination or source in self._local:
            self.counters.martian += 1
            return False
        return True

    def accept_sources(self, sources: Sequence[str]) -> None:
        """Packets from these networks (CIDRs) are accepted from now on, and from no others."""
        self._networks = [prefix(ip_interface(text).network) for text in sources]
        self._known.clear()

    def may_arrive(self, source: bytes, destination: bytes, ttl: int, quoted: Buffer) -> bool:
        """All that is asked of a packet before a room sees it; drops are counted and, where due, answered."""
        if not self.is_unicast_pair(source, destination):
            return False
        if source not in self._known:
            if self._networks and not any(contains(network, source) for network in self._networks):
                self.counters.spoofed += 1
                return False
            if len(self._known) >= KNOWN_SOURCES:
                self._known.clear()
            self._known.add(source)
        if ttl <= 1 and destination not in self._local:
            self.counters.expired += 1
            self.icmp.error(Problem.TIME_EXCEEDED, quoted)
            return False
        return True

    # -- Timed: reassembly

    def next_timeout(self) -> float:
        """See `Timed`."""
        at = self.fragments.next_timeout()
        return inf if at is None else at

    def handle_timeout(self, now: float) -> None:
        """See `Timed`."""
        for first in self.fragments.expire(now):
            self.icmp.error(Problem.REASSEMBLY_TIME_EXCEEDED, first)


__all__ = ["IpCounters", "LinkError", "Stack"]
