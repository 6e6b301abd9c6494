"""Packets by seed: built by our writers, built by scapy, and either of them changed a little."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from fuzz.repairs import ip as repaired
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    HBHOptUnknown,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
)
from scapy.packet import Raw

from netbridge.stack import ipv4, ipv6
from netbridge.stack.fragments import fragment
from netbridge.stack.icmp import wire as icmp
from netbridge.stack.packet import ICMP as ICMP_NUMBER
from netbridge.stack.packet import ICMPV6, text
from netbridge.stack.packet import UDP as UDP_NUMBER
from netbridge.stack.tcp import segment
from netbridge.stack.tcp.output import HeaderWriter
from netbridge.stack.udp import wire as udp
from netbridge.stack.vnet import VNET_LEN

OURS, THEIRS, CHANGED = "ours", "scapy's", "changed"
QUIET = (20000, 60000)
"""Ports of which scapy knows no protocol: what is above UDP and TCP is not looked at here."""


def packet(seed: int, number: int) -> tuple[str, bytes]:
    """The packet of that number, and of which kind it is."""
    rng = random.Random(seed << 32 | number)
    kind = rng.choices((OURS, THEIRS, CHANGED), (46, 5, 49))[0]  # scapy takes its time
    if kind == THEIRS or (kind == CHANGED and rng.random() < 0.04):
        data = scapys(rng)
    else:
        data = rng.choice(ours(rng))
    return kind, changed(rng, data) if kind == CHANGED else data


def changed(rng: random.Random, data: bytes) -> bytes:
    """With a few bytes other, more or fewer; mostly with checksums that are right again."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(min(len(made), 100)) if made else 0
        match rng.randrange(6):
            case 0 | 1:
                made[at] ^= 1 << rng.randrange(8)
            case 2:
                made[at] = rng.choice((0, 1, 4, 6, 17, 43, 44, 58, 60, 0x45, 0x60, 0xFF, rng.randrange(256)))
            case 3:
                made[at:at] = rng.randbytes(rng.choice((1, 4, 8)))
            case 4:
                del made[at : at + rng.choice((1, 4, 8))]
            case 5:
                del made[at + 20 :]
        if not made:
            return bytes(data)
    return repaired(bytes(made)) if rng.random() < 0.85 else bytes(made)


# Ours.

def ours(rng: random.Random) -> list[bytes]:
    """One packet, or its fragments, as the stack sends them (and some it would only forward: extension headers)."""
    version = rng.choice((4, 6))
    size = 4 if version == 4 else 16
    source, destination = (_address(rng, size) for _ in range(2))
    ports = rng.randint(*QUIET), rng.randint(*QUIET)
    payload = rng.randbytes(rng.choice((0, 1, 7, 8, 64, rng.randrange(1400))))
    match rng.randrange(5):
        case 0 | 1:
            return [_tcp(rng, source, destination, ports, payload)]
        case 2:
            protocol = UDP_NUMBER
            transport = udp.emit(source, ports[0], destination, ports[1], payload)
        case 3:
            protocol = icmp.protocol_number(version)
            kind = rng.choice((icmp.ECHO_REQUEST, icmp.ECHO_REPLY))[version]
            transport = icmp.emit(
                version, source, destination, kind, 0, rng.getrandbits(16), rng.getrandbits(16), payload)
        case _:
            protocol = icmp.protocol_number(version)
            transport = _problem(rng, version, source, destination)
    ttl, tos = rng.randint(1, 255), rng.getrandbits(8)
    if len(transport) > 600 and rng.random() < 0.5:
        mtu = rng.choice((68, 576, 1280)) if version == 4 else 1280
        if len(transport) > mtu - 48:
            return fragment(version, source, destination, protocol, transport, mtu, ttl=ttl, tos=tos)
    if version == 4:
        flags = rng.choice((0, ipv4.DONT_FRAGMENT))
        header = ipv4.emit_header(
            source, destination, protocol, len(transport), ttl=ttl, tos=tos, identification=rng.getrandbits(16),
            flags=flags,
        )  # fmt: skip
        return [header + transport]
    chain, first = _chain(rng, protocol)
    header = ipv6.emit_header(
        source, destination, first, len(chain) + len(transport), ttl=ttl, tos=tos, flow_label=rng.getrandbits(20))
    return [header + chain + transport]


def _address(rng: random.Random, size: int) -> bytes:
    return (b"\x0a" if size == 4 else b"\xfd") + rng.randbytes(size - 1)


def _tcp(
    rng: random.Random, source: bytes, destination: bytes, ports: tuple[int, int], payload: bytes,
) -> bytes:  # fmt: skip
    writer = HeaderWriter(source, ports[0], destination, ports[1], offload=False)
    flags = rng.choice((segment.SYN, segment.ACK, segment.ACK | segment.PSH, segment.RST, segment.FIN | segment.ACK,
                        segment.ACK | segment.ECE, segment.ACK | segment.CWR | segment.URG))  # fmt: skip
    stamp = (rng.getrandbits(32), rng.getrandbits(32)) if rng.random() < 0.5 else None
    if flags & segment.SYN:
        options = segment.emit_syn_options(
            rng.randint(88, 65535), rng.choice((None, rng.randint(0, 14))), sack=rng.random() < 0.7, stamp=stamp,
            user_timeout=rng.choice((0.0, 30.0, 90000.0)),
        )
    else:
        options = segment.STAMPED.pack(segment.STAMP_LAYOUT, *stamp) if stamp else b""
        blocks = [(rng.getrandbits(32), rng.getrandbits(32)) for _ in range(rng.choice((0, 0, 1, 3)))]
        options += segment.emit_sacks(blocks, segment.MAX_SACK_BLOCKS_STAMPED)
    head = writer.write(
        rng.getrandbits(32), rng.getrandbits(32), flags, rng.getrandbits(16), options, payload, 65000,
        rng.choice((0, 2)),
    )
    return head[VNET_LEN:] + payload


def _problem(rng: random.Random, version: int, source: bytes, destination: bytes) -> bytes:
    """An ICMP error about a packet that was sent the other way."""
    quoted = _tcp(rng, destination, source, (30000, 30001), rng.randbytes(rng.choice((0, 100))))
    problem = rng.choice(list(icmp.Problem))
    kind, code = problem.wire(version)
    high, low = (0, rng.randint(68, 65535)) if problem is icmp.Problem.TOO_BIG else (0, 0)
    return icmp.emit(version, source, destination, kind, code, high, low, quoted[: icmp.MAX_QUOTE[version]])


def _chain(rng: random.Random, protocol: int) -> tuple[bytes, int]:
    """Extension headers as RFC 8200 has them, and what the first header names."""
    wanted = [kind for kind in (ipv6.HOP_BY_HOP, ipv6.DESTINATION_OPTIONS, ipv6.ROUTING, ipv6.FRAGMENT)
              if rng.random() < 0.2]  # fmt: skip
    if not wanted:
        return b"", protocol
    chain = b""
    for kind, following in zip(wanted, [*wanted[1:], protocol], strict=True):
        if kind == ipv6.FRAGMENT:  # atomic
            chain += ipv6.FRAGMENT_HEADER.pack(following, 0, 0, rng.getrandbits(32))
        elif kind == ipv6.ROUTING:
            chain += bytes([following, 2, rng.choice((0, 2, 253)), 0]) + bytes(4) + rng.randbytes(16)
        else:
            options = rng.choice((b"\1\4\0\0\0\0", b"\0" * 6, b"\5\2\0\0\1\0", b"\x1e\2ab\1\0"))
            chain += bytes([following, 0]) + options
    return chain, wanted[0]


# scapy's.

def scapys(rng: random.Random) -> bytes:
    """A packet that scapy makes, in its own words."""
    sport, dport = rng.randint(*QUIET), rng.randint(*QUIET)
    payload = Raw(rng.randbytes(rng.choice((0, 1, 20, 300))))
    if rng.random() < 0.5:
        layer: Any = IP(
            src=text(_address(rng, 4)), dst=text(_address(rng, 4)), ttl=rng.randint(1, 255), tos=rng.getrandbits(8),
            id=rng.getrandbits(16), flags=rng.choice(("", "DF")),
            options=rng.choice(([], [IPOption_NOP()] * 3, [IPOption_Router_Alert()])),
        )
    else:
        layer = IPv6(
            src=text(_address(rng, 16)), dst=text(_address(rng, 16)), hlim=rng.randint(1, 255), tc=rng.getrandbits(8),
            fl=rng.getrandbits(20),
        )
        for more in _EXTENSIONS:
            if rng.random() < 0.25:
                layer /= more(rng)
    options = [
        option for option in (
            ("MSS", rng.randint(1, 65535)), ("SAckOK", b""), ("NOP", None), ("WScale", rng.randint(0, 14)),
            ("Timestamp", (rng.getrandbits(32), rng.getrandbits(32))),
            ("SAck", (rng.getrandbits(32), rng.getrandbits(32))),
        ) if rng.random() < 0.4
    ]  # fmt: skip
    match rng.randrange(3):
        case 0:
            flags = rng.choice(("S", "A", "PA", "FA", "R", "SEC"))
            transport: Any = TCP(
                sport=sport, dport=dport, seq=rng.getrandbits(32), ack=rng.getrandbits(32), flags=flags,
                window=rng.getrandbits(16), options=options,
            )  # fmt: skip
        case 1:
            transport = UDP(sport=sport, dport=dport)
        case _:
            echo = ICMP if isinstance(layer, IP) else ICMPv6EchoRequest
            transport = echo(id=rng.getrandbits(16), seq=rng.getrandbits(16))
    made: bytes = (layer / transport / payload).build()
    return made

PROTOCOLS = (ICMP_NUMBER, ICMPV6)


_EXTENSIONS: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: IPv6ExtHdrHopByHop(options=rng.choice(([RouterAlert()], [PadN(optdata=b"ab")], []))),
    lambda rng: IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1E, optdata=b"x" * rng.randrange(9))]),
    lambda rng: IPv6ExtHdrRouting(segleft=0, addresses=["fd00::1"]),
    lambda rng: IPv6ExtHdrFragment(id=rng.getrandbits(32), offset=rng.choice((0, 0, 100)), m=0),
)
