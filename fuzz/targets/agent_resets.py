"""Any packet of this kernel's is answered by nothing, or by one reset from its destination, that is right in itself."""

from __future__ import annotations

from fuzz.prefixes import prefixes
from fuzz.repairs import ip as repair  # noqa: F401 - used by the engine
from netbridge.bridge.agent.resets import answer
from netbridge.stack import ipv4, ipv6
from netbridge.stack.checksum import pseudo_header_sum, verifies
from netbridge.stack.packet import TCP, IpPacket
from netbridge.stack.tcp.segment import ACK, RST, TCP_HEADER


def run(data: bytes) -> object:
    answered = 0
    for prefix in prefixes(data):
        answered += answer(memoryview(bytes(10) + prefix)) is not None
    reset = answer(memoryview(bytes(10) + data))
    if reset is None:
        return "silence", answered > 0
    version = data[0] >> 4
    packet = (ipv6 if version == 6 else ipv4).parse(memoryview(reset)[10:], checksum_trusted=False)
    assert isinstance(packet, IpPacket)
    ends = (data[16:20], data[12:16]) if version == 4 else (data[24:40], data[8:24])
    assert (packet.source, packet.destination) == ends
    assert packet.protocol == TCP
    assert verifies(packet.payload, pseudo_header_sum(*ends, TCP, 20))
    at = (data[0] & 15) * 4 if version == 4 else 40
    source, destination, seq, ack, _, flags, _, _, _ = TCP_HEADER.unpack_from(data, at)
    here, there, number, acked, _, told, _, _, _ = TCP_HEADER.unpack(packet.payload)
    assert (here, there) == (destination, source)
    assert not flags & RST
    if flags & ACK:
        assert (told, number) == (RST, ack)
    else:
        assert (told, number) == (RST | ACK, 0)
    return version, told, (acked - seq) & 0xFFFFFFFF > 2, answered > 0
