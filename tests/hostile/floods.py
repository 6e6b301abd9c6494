"""Many small packets: SYNs, datagrams, pings, segments of no connection, and scans."""

from __future__ import annotations

import struct
from typing import ClassVar

from .attack import Attack
from .raw import ACK, FIN, ICMP, ICMPV6, PSH, RST, SYN, URG, Wire, icmp, ip, packed, tcp_packet, udp_packet

OPEN, CLOSED, ECHO = 80, 81, 7
"""Corp's web server, a port where nobody listens, and the UDP echo."""

# Where thousands of addresses are spoken to they are of the network that corp drops everything to: those of a network
# that a machine is itself part of fill its kernel's table of neighbours, which here is the honest user's, too.


class Flood(Attack):
    """Packets on the TUN, a turn each."""

    def prepare(self) -> None:
        self.wire: Wire = self.mouth(Wire(self.place.tun))

    def turn(self, number: int) -> None:
        self.wire.send(self.packet(number))

    def packet(self, number: int) -> bytes:
        raise NotImplementedError

    def finish(self) -> None:
        self.wire.socket.close()


class Syns(Flood):
    """SYNs by IPv6 from strangers to `aim`, by IPv4 from the codespace's own address, in turn."""

    port: ClassVar[int] = OPEN

    def aim(self, version: int, number: int) -> bytes:
        return self.corp(version)

    def packet(self, number: int) -> bytes:
        seq = self.random.getrandbits(32)
        if number % 2:
            source, to = self.stranger(), self.aim(6, number)
        else:
            source, to = self.own(4), self.aim(4, number)
        ports = 1024 + (number // 2 * 7919) % 64000, self.port
        return tcp_packet(source, to, ports, seq, 0, SYN, options=b"\2\4\5\xb4")


class SynsToAnOpenPort(Syns):
    name = "syn-flood-open"
    what = "SYNs from many sources and ports to a server that listens, never finished"


class SynsToAClosedPort(Syns):
    name = "syn-flood-closed"
    what = "SYNs from many sources and ports to a host that refuses"
    port = CLOSED


class SynsToOneHole(Syns):
    name = "syn-flood-hole"
    what = "SYNs to one address that never answers"

    def aim(self, version: int, number: int) -> bytes:
        return packed("10.98.0.3" if version == 4 else "fd98::3")


class SynsToManyHoles(Syns):
    name = "syn-flood-holes"
    what = "SYNs to 250 addresses that never answer"

    def aim(self, version: int, number: int) -> bytes:
        last = 4 + number // 2 % 250
        return packed(f"10.98.0.{last}" if version == 4 else f"fd98::{last:x}")


class SynsToDeadNeighbours(Syns):
    name = "syn-flood-neighbours"
    what = "SYNs to 250 addresses of corp's network where no host is"

    def aim(self, version: int, number: int) -> bytes:
        last = 4 + number // 2 % 250
        return packed(f"10.99.0.{last}" if version == 4 else f"fd99::{last:x}")


class Scan(Syns):
    name = "port-scan"
    what = "a SYN to each port of corp's server in turn, both IP versions"
    rate = 2000

    def packet(self, number: int) -> bytes:
        version = 4 if number % 2 else 6
        ports = 40_000 + number % 20_000, 1 + number // 2 % 65535
        return tcp_packet(self.own(version), self.corp(version), ports, number * 7, 0, SYN)


class Sweep(Flood):
    name = "address-sweep"
    what = "SYNs, datagrams and pings to ever new addresses of networks the bridge captures"
    rate = 2000

    def packet(self, number: int) -> bytes:
        version = 4 if number % 2 else 6
        step = number // 2
        to = packed(f"10.98.0.{step % 256}" if version == 4 else f"fd98::{step % 65536:x}")
        own, ports = self.own(version), (2000 + step % 60_000, OPEN)
        if step % 3 == 0:
            return tcp_packet(own, to, ports, step, 0, SYN)
        if step % 3 == 1:
            return udp_packet(own, to, ports, b"anybody there?")
        return ping(own, to, step, b"ping")


def ping(source: bytes, to: bytes, number: int, data: bytes) -> bytes:
    """An echo request."""
    word = (number * 31 & 0xFFFF) << 16 | number & 0xFFFF
    kind, protocol = (128, ICMPV6) if len(source) == 16 else (8, ICMP)
    return ip(source, to, protocol, icmp(source, to, kind, 0, word, data))


class UdpToMany(Flood):
    name = "udp-flood-many"
    what = "a datagram each from ever new sources and ports to thousands of destinations"

    def packet(self, number: int) -> bytes:
        if number % 2:
            to = packed(f"fd98::{number % 5000:x}")
            return udp_packet(self.stranger(), to, (1024 + number % 60_000, 9000 + number % 97), b"a datagram")
        ports = 1024 + number % 60_000, 9000 + number % 97
        return udp_packet(self.own(4), packed(f"10.98.0.{4 + number // 2 % 250}"), ports, b"a datagram")


class UdpToOne(Flood):
    name = "udp-flood-echoed"
    what = "datagrams of 1,400 bytes from 64 ports to an echo service, all of which come back"
    rate = 10_000

    def packet(self, number: int) -> bytes:
        version = 4 if number % 2 else 6
        return udp_packet(self.own(version), self.corp(version), (30_000 + number % 64, ECHO), bytes(1400))


class Pings(Flood):
    name = "icmp-flood"
    what = "echo requests to corp, to the bridge itself and to nobody, with ever new identifiers"

    def packet(self, number: int) -> bytes:
        version = 4 if number % 2 else 6
        gateway, silent = self.place.gateway[version], {4: "10.98.0.9", 6: "fd98::9"}[version]
        to = (self.place.corp[version], gateway, silent)[number // 2 % 3]
        return ping(self.own(version), packed(to), number // 6, bytes(56))


class AckStorm(Flood):
    name = "ack-storm"
    what = "segments of no connection with every combination of flags, each of which wants a reset"

    def packet(self, number: int) -> bytes:
        version = 4 if number % 2 else 6
        flags = (ACK, FIN | ACK, PSH | ACK, RST, RST | ACK, SYN | ACK, FIN, URG, 0, 0xFF)[number // 2 % 10]
        seq, ack = self.random.getrandbits(32), self.random.getrandbits(32)
        ports = 1024 + number % 60_000, OPEN
        return tcp_packet(self.own(version), self.corp(version), ports, seq, ack, flags, data=b"x" * (number % 3))


class Chains(Flood):
    name = "extension-headers"
    what = "IPv6 packets behind chains of up to 160 extension headers, with options that want an answer"

    def packet(self, number: int) -> bytes:
        own, corp = self.own(6), self.corp(6)
        end = udp_packet(own, corp, (4000, ECHO), b"behind a chain")[40:]
        links = (1, 7, 8, 40, 160)[number % 5]
        kind = 0 if number % 7 == 0 else 60
        option = (b"\1\4\0\0\0\0", b"\xc1\4\0\0\0\0", b"\x81\4\0\0\0\0", b"\x05\2\0\0\1\0", b"\0" * 6)[number // 5 % 5]
        chain = b"".join(struct.pack("!BB", 17 if at == links - 1 else 60, 0) + option for at in range(links))
        return ip(own, corp, kind, chain + end)


FLOODS: list[type[Attack]] = [
    SynsToAnOpenPort, SynsToAClosedPort, SynsToOneHole, SynsToManyHoles, SynsToDeadNeighbours, Scan, Sweep, UdpToMany,
    UdpToOne, Pings, AckStorm, Chains,
]  # fmt: skip
