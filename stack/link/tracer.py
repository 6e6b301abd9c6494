"""A device that describes each passing packet in one line: for eyes, logs and failing tests.

`describe` takes anything, malformed packets included: it is most needed for those.
"""

from __future__ import annotations

from collections.abc import Callable

from .. import ipv4, ipv6
from ..errors import WireError
from ..icmp import wire as icmp_wire
from ..packet import ICMP, ICMPV6, TCP, UDP, Buffer, Fragment, IpPacket, text
from ..vnet import F_NEEDS_CSUM, VNET, VNET_LEN
from .base import Link
from .wrapper import Wrapper

_FLAGS = "FSRPAUEC"


class TracerLink(Wrapper):
    """Tells `write` one line for each packet: ">" for sent, "<" for received, then `describe`."""

    def __init__(
        self, inner: Link, write: Callable[[str], object], *, clock: Callable[[], float] | None = None,
    ) -> None:
        """With `clock`, lines begin with its seconds."""
        super().__init__(inner)
        self._write = write
        self._clock = clock

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        self._tell(">", b"".join((header, payload)))
        self.inner.send(header, payload)

    def packet_received(self, packet: memoryview) -> None:
        self._tell("<", packet)
        self.user.packet_received(packet)

    def _tell(self, arrow: str, packet: Buffer) -> None:
        time = "" if self._clock is None else f"{self._clock():.6f} "
        self._write(f"{time}{arrow} {describe(packet)}")


def describe(packet: Buffer) -> str:
    """One line about a packet behind its virtio_net_hdr."""
    data = memoryview(packet)
    if len(data) <= VNET_LEN:
        return f"{len(data)} bytes, no packet"
    flags, gso, _, gso_size, _, _ = VNET.unpack_from(data)
    extra = (" partial" if flags & F_NEEDS_CSUM else "") + (f" gso {gso_size}" if gso else "")
    view = data[VNET_LEN:]
    try:
        parse = ipv6.parse if view[0] >> 4 == 6 else ipv4.parse
        ip = parse(view, checksum_trusted=bool(flags or gso))
        return (_fragment(ip) if isinstance(ip, Fragment) else _transport(ip)) + extra
    except WireError as error:
        return f"{len(view)} bytes, {error}{extra}"


def _fragment(fragment: Fragment) -> str:
    source, destination, identification, _ = fragment.key
    end = fragment.offset + len(fragment.payload)
    return (
        f"{text(source)} > {text(destination)} fragment {identification:#x} of protocol {fragment.protocol}: "
        f"{fragment.offset}..{end}{' and more' if fragment.more else ''}"
    )


def _transport(ip: IpPacket) -> str:
    source, destination, data = text(ip.source), text(ip.destination), ip.payload
    if ip.protocol in (TCP, UDP) and len(data) >= 8:
        ports = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
        if ip.version == 6:
            source, destination = f"[{source}]", f"[{destination}]"
        source, destination = f"{source}:{ports[0]}", f"{destination}:{ports[1]}"
    return f"{source} > {destination} {_what(ip, data)} ttl {ip.ttl}"


def _what(ip: IpPacket, data: memoryview) -> str:
    if ip.protocol == UDP and len(data) >= 8:
        return f"UDP {len(data) - 8}"
    if ip.protocol == TCP and len(data) >= 20:
        seq, ack = int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")
        flags = "".join(name for bit, name in enumerate(_FLAGS) if data[13] >> bit & 1)
        window = int.from_bytes(data[14:16], "big")
        header = data[12] >> 4 << 2
        return f"TCP {flags or '-'} seq {seq} ack {ack} win {window} len {len(data) - header}"
    if ip.protocol in (ICMP, ICMPV6) and len(data) >= 8:
        kind, code, _, high, low = icmp_wire.HEADER.unpack_from(data)
        if kind == icmp_wire.ECHO_REQUEST[ip.version]:
            return f"ICMP echo request {high} seq {low} len {len(data) - 8}"
        if kind == icmp_wire.ECHO_REPLY[ip.version]:
            return f"ICMP echo reply {high} seq {low} len {len(data) - 8}"
        problem = icmp_wire.problem_of(ip.version, kind, code)
        return f"ICMP {problem.name.lower().replace('_', ' ') if problem else f'{kind}/{code}'}"
    return f"protocol {ip.protocol}, {len(data)} bytes"
