"""Any bytes are refused with WireError or yield views that lie within them and agree with the header."""

from __future__ import annotations

from fuzz.prefixes import refused_or_read
from fuzz.repairs import ip as repair  # noqa: F401 - used by the engine
from netbridge.stack import ipv4
from netbridge.stack.errors import WireError
from netbridge.stack.packet import Fragment


def _read(data: memoryview) -> object:
    return ipv4.parse(data, checksum_trusted=False)


def run(data: bytes) -> object:
    read = refused_or_read(data, _read)
    try:
        packet = ipv4.parse(memoryview(data), checksum_trusted=False)
    except WireError as error:
        return str(error)
    total = int.from_bytes(data[2:4], "big")
    header = (data[0] & 15) * 4
    assert packet.packet == data[:total]
    assert read <= len(data) - total  # no prefix was, but those that hold it whole
    assert packet.payload == data[header:total]
    if isinstance(packet, Fragment):
        assert packet.payload
        assert packet.offset + header + len(packet.payload) <= 65535
        assert packet.more or packet.offset
        return "fragment", packet.more, packet.offset > 0
    assert (packet.source, packet.destination) == (data[12:16], data[16:20])
    return "packet", header > 20, packet.protocol in (1, 6, 17)
