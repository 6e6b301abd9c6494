"""Any train of datagrams is no train, or is cut into datagrams that carry the same bytes and finish as they should."""

from __future__ import annotations

from netbridge.bridge.agent.packetcut import GSO_UDP_L4, MOST_PARTS, parts
from netbridge.stack import ipv4, ipv6
from netbridge.stack.errors import WireError
from netbridge.stack.link.offload import finish
from netbridge.stack.packet import UDP, IpPacket
from netbridge.stack.udp import wire
from netbridge.stack.vnet import F_NEEDS_CSUM, VNET

ENDS = {4: (b"\x0a\0\0\1", b"\x0a\0\0\2"), 6: (bytes(15) + b"\1", bytes(15) + b"\2")}


def run(data: bytes) -> object:
    """Version, datagrams' size (2), then their bytes: as a kernel gives them. And the bytes alone, as they are."""
    _raw(data)
    data = data.ljust(50, b"\0")
    version, size, payload = 6 if data[0] & 1 else 4, data[1] << 8 | data[2], data[3:]
    source, destination = ENDS[version]
    header = wire.emit_partial(source, 5000, destination, 53, len(payload))
    length = len(header) + len(payload)
    ip = ipv6.emit_header(source, destination, UDP, length) if version == 6 else (
        ipv4.emit_header(source, destination, UDP, length, identification=0xFFFF)
    )
    train = VNET.pack(F_NEEDS_CSUM, GSO_UDP_L4, 0, size, len(ip), 6) + ip + header + payload
    found = parts(train)
    if not size or len(payload) > size * MOST_PARTS:
        assert found == []
        return version, "no train"
    got = b""
    for part in found:
        (whole,) = finish(part)
        packet = (ipv6 if version == 6 else ipv4).parse(memoryview(whole)[10:], checksum_trusted=False)
        assert isinstance(packet, IpPacket)
        assert len(packet.packet) == len(whole) - 10
        assert (packet.source, packet.destination) == (source, destination)
        here, there, text = wire.parse(packet)
        assert (here, there) == (5000, 53)
        assert len(text) == min(size, len(payload) - len(got))
        got += bytes(text)
    assert got == payload
    return version, min(len(found), 4)


def _raw(data: bytes) -> None:
    """As no kernel would give them."""
    for part in parts(data):
        try:
            finish(part)
        except WireError:
            pass
