"""Any bytes are refused with WireError or yield views that lie within them, behind a chain that ends there."""

from __future__ import annotations

from fuzz.prefixes import refused_or_read
from fuzz.repairs import ip as repair  # noqa: F401 - used by the engine
from netbridge.stack import ipv6
from netbridge.stack.errors import WireError
from netbridge.stack.packet import Fragment


def _read(data: memoryview) -> object:
    return ipv6.parse(data, checksum_trusted=False)


def run(data: bytes) -> object:
    read = refused_or_read(data, _read)
    refused_or_read(data, ipv6.transport_of)
    try:
        ipv6.transport_of(memoryview(data))
    except WireError:
        pass
    try:
        packet = ipv6.parse(memoryview(data), checksum_trusted=False)
    except WireError as error:
        # What the sender is told must point into the packet it sent.
        if error.code is not None and error.pointer >= len(data):
            raise AssertionError(error.pointer) from error
        return str(error), error.code
    end = 40 + int.from_bytes(data[4:6], "big")
    assert packet.packet == data[:end]
    assert read <= len(data) - end  # no prefix was, but those that hold it whole
    assert data[:end].endswith(bytes(packet.payload))
    if isinstance(packet, Fragment):
        assert packet.header[packet.link_offset] == ipv6.FRAGMENT
        assert len(packet.header) + 8 + len(packet.payload) == end
        assert packet.offset + len(packet.payload) <= 65535
        return "fragment", packet.more, packet.offset > 0
    link_offset, protocol, at = ipv6.transport_of(packet.packet)
    assert (protocol, at) == (packet.protocol, end - len(packet.payload))
    assert data[link_offset] == protocol
    return "packet", (at - 40) // 8, protocol in (6, 17, 58)
