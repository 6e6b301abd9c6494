"""A TCP/IP stack on one link: what arrives is checked, sorted and handed to its room; the asyncio face for users.

The way in: `packet_received` takes the common case, TCP over IP without options or fragments, straight from the bytes;
everything else goes through the parsers of :mod:`.ipv4` and :mod:`.ipv6` and, in pieces, through reassembly. A packet
for one of the stack's own addresses goes to its listeners and endpoints; any other goes to the `forward` hook of its
room, if one is set, and is otherwise dropped and counted.

The way out: rooms call `send_ip` (UDP, ICMP) or write to the link with their own headers (TCP).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from math import inf
from struct import Struct
from typing import Self, TypeVar

from . import ipv4, ipv6
from .checksum import fold
from .clock import Clock
from .errors import WireError
from .fragments import Reassembler
from .icmp.endpoint import Icmp
from .icmp.ping import ping
from .icmp.wire import Problem
from .ip_output import IpOutput
from .link.base import Buffer, Link, LinkError
from .packet import ICMP, ICMPV6, TCP, UDP, Fragment, IpPacket
from .tcp.config import TcpConfig
from .tcp.endpoint import Tcp
from .tcp.listener import BACKLOG, Opened
from .tcp.streams import LIMIT, Connected, Server, TcpTransport, opener, stream_opener
from .timers import Timers
from .udp.endpoint import Udp
from .udp.transport import open_endpoint
from .vnet import F_DATA_VALID, F_NEEDS_CSUM, VNET_LEN

P = TypeVar("P", bound=asyncio.BaseProtocol)

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


@dataclass(slots=True)
class IpCounters:
    """What came in, and why some of it went no further."""

    packets: int = 0
    """Packets received."""
    malformed: int = 0
    """Dropped: headers that contradict themselves or their checksum."""
    fragments: int = 0
    """Fragments received."""
    martian: int = 0
    """Dropped: source or destination that no unicast packet may have, or source equal to destination (LAND)."""
    spoofed: int = 0
    """Dropped: source outside the networks the link may speak for (BCP 38)."""
    group: int = 0
    """Dropped: multicast and broadcast."""
    expired: int = 0
    """Answered with time exceeded: no hops left."""
    unknown_protocol: int = 0
    """Answered with protocol unreachable."""
    not_forwarded: int = 0
    """Dropped: not for this stack, and no forwarder takes the protocol."""


class Stack:
    """One host on one link.

    `addresses` are its own, as "address/prefix" (for example "10.0.0.1/24"); packets from addresses outside these
    prefixes are dropped unless `sources` names other networks (or is empty: any). Use as an async context manager.
    """

    def __init__(
        self, link: Link, addresses: Sequence[str], *, mtu: int | None = None, tcp: TcpConfig | None = None,
        sources: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self.link = link
        self.clock = Clock()
        self.mtu = mtu or link.mtu
        self.interfaces: list[IPv4Interface | IPv6Interface] = [ip_interface(address) for address in addresses]
        if not self.interfaces:
            raise ValueError("a stack needs at least one address")
        self._local = {interface.ip.packed for interface in self.interfaces}
        self._gateway: dict[int, bytes] = {one.version: one.ip.packed for one in reversed(self.interfaces)}
        self._networks = [ip_interface(text).network for text in (addresses if sources is None else sources)]
        self._broadcast = {
            interface.network.broadcast_address.packed
            for interface in self.interfaces
            if interface.version == 4 and interface.network.prefixlen < 31
        }
        self._known: set[bytes] = set()
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
            if isinstance(packet, Fragment):
                self.counters.fragments += 1
                whole = self.fragments.add(packet, self.clock.now())
                if whole is None:
                    self.timers.update(self)
                    return
                packet = whole
        except WireError as error:
            self.counters.malformed += 1
            self.icmp.bad_header(view, error)
            return
        self._deliver(packet)

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
        return self._gateway.get(version)

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
        self._networks = [ip_interface(text).network for text in sources]
        self._known.clear()

    def may_arrive(self, source: bytes, destination: bytes, ttl: int, quoted: Buffer) -> bool:
        """All that is asked of a packet before a room sees it; drops are counted and, where due, answered."""
        if not self.is_unicast_pair(source, destination):
            return False
        if source not in self._known:
            if self._networks and not any(
                network.version == (4 if len(source) == 4 else 6)
                and int.from_bytes(source, "big") & int(network.netmask) == int(network.network_address)
                for network in self._networks
            ):
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

    # -- the asyncio face

    async def start_server(
        self, connected: Connected, host: str | None, port: int, *, limit: int = LIMIT, backlog: int = BACKLOG,
    ) -> Server:  # fmt: skip
        """Accept connections to `port`; as asyncio.start_server.

        `host` is one of the stack's addresses, "0.0.0.0" or "::" (any of that version), or None (any). `backlog`:
        handshakes under way; beyond them the oldest gives way.
        Raises OSError when the address is not the stack's own or the port is taken.
        """
        return self._listen(host, port, stream_opener(connected, self.loop, limit), backlog)

    async def create_server(
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str | None, port: int, *, backlog: int = BACKLOG
    ) -> Server:
        """Accept connections to `port`, each for a protocol of its own; as the event loop's method of that name."""
        return self._listen(host, port, opener(protocol_factory, self.loop), backlog)

    def _listen(self, host: str | None, port: int, opened: Opened, backlog: int) -> Server:
        packed = None if host is None else self._own_or_any(host)
        return Server(self.tcp.listen(packed, _port(port), opened, backlog), (host or "", port))

    async def open_connection(
        self, host: str, port: int, *, local_host: str | None = None, limit: int = LIMIT
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a numeric address; as asyncio.open_connection.

        Raises ConnectionRefusedError, TimeoutError or another OSError as a kernel would. There is no loopback: the
        stack's own addresses cannot be connected to.
        """
        remote = _packed(host)
        _port(port)
        source = self._source_for(remote, local_host)
        if remote in self._local:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} is the stack's own address")
        loop = self.loop
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport = TcpTransport(protocol, loop)
        opened = transport.opened = loop.create_future()
        flow = self.tcp.connect(source, (remote, port), transport)
        transport.attach(flow)
        try:
            await opened
        except BaseException:
            flow.abort()
            raise
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def create_datagram_endpoint(
        self, protocol_factory: Callable[[], P], local_addr: tuple[str, int] | None = None,
        remote_addr: tuple[str, int] | None = None,
    ) -> tuple[asyncio.DatagramTransport, P]:  # fmt: skip
        """A UDP endpoint; as the event loop's method of that name, with numeric addresses."""
        remote = None if remote_addr is None else (_packed(remote_addr[0]), _port(remote_addr[1]))
        if local_addr is not None:
            local = self._own_or_any(local_addr[0]), _port(local_addr[1], least=0)
        elif remote is not None:
            local = self._source_for(remote[0], None), 0
        else:
            local = self.interfaces[0].ip.packed, 0
        source = local[0]
        if not any(source):
            source = self._source_for(remote[0] if remote is not None else source, None)
        if remote is not None and len(remote[0]) != len(source):
            raise ValueError("local and remote address are of different IP versions")
        return open_endpoint(self.udp, protocol_factory, source, local, remote)

    async def ping(self, host: str, *, timeout: float = 1.0, size: int = 56) -> float:
        """Seconds until the echo reply of a numeric address; raises TimeoutError or OSError."""
        destination = _packed(host)
        return await ping(self.icmp, self._source_for(destination, None), destination, timeout=timeout, size=size)

    def _own(self, host: str) -> bytes:
        packed = _packed(host)
        if packed not in self._local:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} is not an address of this stack")
        return packed

    def _own_or_any(self, host: str) -> bytes:
        packed = _packed(host)
        return self._own(host) if any(packed) else packed

    def _source_for(self, remote: bytes, local_host: str | None) -> bytes:
        if local_host is not None:
            source = self._own(local_host)
            if len(source) != len(remote):
                raise ValueError("local and remote address are of different IP versions")
            return source
        for interface in self.interfaces:
            if len(interface.ip.packed) == len(remote) and int.from_bytes(remote, "big") & int(
                interface.netmask
            ) == int(interface.network.network_address):
                return interface.ip.packed
        gateway = self.gateway(4 if len(remote) == 4 else 6)
        if gateway is None:
            raise OSError(errno.ENETUNREACH, "the stack has no address of that IP version")
        return gateway


def _packed(host: str) -> bytes:
    """A numeric address as bytes; raises ValueError for anything else."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        raise ValueError(f"not a numeric address: {host!r}") from None


def _port(number: int, *, least: int = 1) -> int:
    if not least <= number < 65536:
        raise ValueError(f"a port is {least} to 65535, not {number}")
    return number


__all__ = ["LinkError", "Stack"]
