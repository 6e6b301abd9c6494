"""What one packet says, as our parsers read it and as scapy does: the same names for both."""

from __future__ import annotations

import socket
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror
from scapy.layers.inet6 import (
    IPerror6,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
    _ICMPv6,
)
from scapy.packet import NoPayload, Padding

from netbridge.stack import ipv4, ipv6
from netbridge.stack.checksum import pseudo_header_sum, verifies
from netbridge.stack.errors import WireError
from netbridge.stack.icmp import wire as icmp
from netbridge.stack.packet import TCP as TCP_NUMBER
from netbridge.stack.packet import UDP as UDP_NUMBER
from netbridge.stack.packet import Fragment, IpPacket, text
from netbridge.stack.tcp.segment import HEADER_LEN, MAX_WSCALE, TCP_HEADER, Options, read_options
from netbridge.stack.udp import wire as udp

Reading = dict[str, Any]
EXTENSIONS = (IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, IPv6ExtHdrSegmentRouting, IPv6ExtHdrDestOpt)


def by_us(data: bytes) -> Reading:
    """Raises WireError."""
    parse = ipv6.parse if data[0] >> 4 == 6 else ipv4.parse
    packet = parse(memoryview(data), checksum_trusted=False)
    if isinstance(packet, Fragment):
        return {
            "version": packet.version, "source": text(packet.key[0]), "destination": text(packet.key[1]),
            "identification": packet.key[2], "protocol": packet.protocol, "offset": packet.offset, "more": packet.more,
            "payload": bytes(packet.payload),
        }
    found: Reading = {
        "version": packet.version, "source": text(packet.source), "destination": text(packet.destination),
        "protocol": packet.protocol, "ttl": packet.ttl, "tos": packet.tos, "payload": bytes(packet.payload),
    }
    if packet.version == 4:
        found["dont_fragment"] = packet.dont_fragment
    if packet.protocol == TCP_NUMBER:
        found |= _our_tcp(packet)
    elif packet.protocol == UDP_NUMBER:
        source, destination, payload = udp.parse(packet)
        found |= {"ports": (source, destination), "data": bytes(payload)}
    elif packet.protocol == icmp.protocol_number(packet.version):
        found |= _our_icmp(packet)
    return found


def _our_tcp(packet: IpPacket) -> Reading:
    """As `stack/tcp/endpoint.py` does it."""
    data = packet.payload
    if len(data) < HEADER_LEN:
        raise WireError("TCP header is cut short")
    source, destination, seq, ack, offset, flags, window, _, _ = TCP_HEADER.unpack_from(data)
    start = offset >> 4 << 2
    if not HEADER_LEN <= start <= len(data):
        raise WireError("TCP header length is wrong")
    if not verifies(data, pseudo_header_sum(packet.source, packet.destination, TCP_NUMBER, len(data))):
        raise WireError("TCP checksum is wrong")
    read = read_options(data, HEADER_LEN, start)
    options = read if isinstance(read, Options) else Options(stamp=read)
    return {
        "ports": (source, destination), "seq": seq, "ack": ack, "flags": flags, "window": window,
        "data": bytes(data[start:]), "mss": options.mss, "wscale": options.wscale,
        "sack_permitted": options.sack_permitted, "sacks": tuple(options.sacks), "stamp": options.stamp,
    }


def _our_icmp(packet: IpPacket) -> Reading:
    kind, code, high, low, data = icmp.parse(packet)
    found: Reading = {"kind": kind, "code": code}
    if kind in (icmp.ECHO_REQUEST[packet.version], icmp.ECHO_REPLY[packet.version]):
        return {**found, "echo": (high, low), "data": bytes(data)}
    if icmp.problem_of(packet.version, kind, code) is not None:
        try:
            quoted = icmp.parse_quoted(packet.version, data)
        except WireError:
            return found
        found["quoted"] = text(quoted.source), text(quoted.destination), quoted.protocol
    return found


def by_scapy(data: bytes, ours: Reading) -> Reading:
    """The same fields, as far as `ours` has them, and whether `segments` of a routing header were read."""
    found = _ipv4(data) if ours["version"] == 4 else _ipv6(data)
    layer = found.pop("layer")
    if "offset" in ours:
        return {name: found.get(name) for name in ours}
    if "seq" in ours and isinstance(layer, TCP):
        found |= _tcp(layer)
    elif "ports" in ours and isinstance(layer, UDP):
        found |= {"ports": (layer.sport, layer.dport), "data": _bytes(layer.payload)}
    elif "kind" in ours and isinstance(layer, ICMP | _ICMPv6):
        found |= _icmp(layer, ours)
    return {name: found.get(name) for name in (*ours, "segments")}


def _bytes(layer: Any) -> bytes:
    return b"" if isinstance(layer, NoPayload | Padding) else bytes(layer.original)


def _ipv4(data: bytes) -> Reading:
    ip = IP(data)
    return {
        "version": ip.version, "source": ip.src, "destination": ip.dst, "protocol": ip.proto, "ttl": ip.ttl,
        "tos": ip.tos, "payload": _bytes(ip.payload), "dont_fragment": bool(ip.flags.DF), "identification": ip.id,
        "offset": ip.frag << 3, "more": bool(ip.flags.MF), "layer": ip.payload,
    }  # fmt: skip


def _ipv6(data: bytes) -> Reading:
    ip = IPv6(data)
    found: Reading = {
        "version": ip.version, "source": _short(ip.src), "destination": _short(ip.dst), "ttl": ip.hlim, "tos": ip.tc,
    }  # fmt: skip
    protocol, layer = ip.nh, ip.payload
    while isinstance(layer, (*EXTENSIONS, IPv6ExtHdrFragment)):
        if isinstance(layer, IPv6ExtHdrFragment) and (layer.offset or layer.m):
            found |= {"identification": layer.id, "offset": layer.offset << 3, "more": bool(layer.m)}
            return {**found, "protocol": layer.nh, "payload": _bytes(layer.payload), "layer": layer.payload}
        if isinstance(layer, IPv6ExtHdrSegmentRouting):
            found["segments"] = True
        protocol, layer = layer.nh, layer.payload
    return {**found, "protocol": protocol, "payload": _bytes(layer), "layer": layer}


def _short(address: str) -> str:
    return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, address))


def _tcp(layer: Any) -> Reading:
    options = {name: value for name, value in layer.options if isinstance(name, str)}
    scale, sacks = options.get("WScale"), options.get("SAck")
    return {
        "ports": (layer.sport, layer.dport), "seq": layer.seq, "ack": layer.ack, "flags": int(layer.flags) & 0xFF,
        "window": layer.window, "data": _bytes(layer.payload), "mss": options.get("MSS"),
        "wscale": min(scale, MAX_WSCALE) if isinstance(scale, int) else scale, "sack_permitted": "SAckOK" in options,
        "sacks": _pairs(sacks), "stamp": options.get("Timestamp"),
    }


def _pairs(edges: Any) -> Any:
    return tuple(zip(edges[::2], edges[1::2], strict=False)) if isinstance(edges, tuple) else edges or ()


def _icmp(layer: Any, ours: Reading) -> Reading:
    fields = layer.fields
    found: Reading = {"kind": fields.get("type"), "code": fields.get("code")}
    if "echo" in ours and "id" in fields:
        data = _bytes(layer.payload) if isinstance(layer, ICMP) else bytes(layer.data)
        found |= {"echo": (fields["id"], fields["seq"]), "data": data}
    inner = layer.payload
    if "quoted" in ours and isinstance(inner, IPerror):
        found["quoted"] = inner.src, inner.dst, inner.proto
    elif "quoted" in ours and isinstance(inner, IPerror6):
        protocol, within = inner.nh, inner.payload
        while isinstance(within, (*EXTENSIONS, IPv6ExtHdrFragment)):
            protocol, within = within.nh, within.payload
        found["quoted"] = _short(inner.src), _short(inner.dst), protocol
    return found
