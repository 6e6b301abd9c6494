"""Any message gets at most one answer, an echo reply of exactly what came; no error is ever answered with an error."""

from __future__ import annotations

from fuzz.bed import Bed
from fuzz.prefixes import refused_or_read
from fuzz.repairs import ip as repair  # noqa: F401 - used by the engine
from netbridge.stack import ipv4, ipv6
from netbridge.stack.errors import WireError
from netbridge.stack.icmp import wire
from netbridge.stack.icmp.wire import Problem, Quoted
from netbridge.stack.packet import Fragment, IpPacket


def _by_byte(packet: IpPacket) -> None:
    """The message, and what it quotes, cut short anywhere."""
    packet.checksum_trusted = True
    whole, version = packet.payload, packet.version

    def read(data: memoryview) -> None:
        packet.payload = data
        *_, quoted = wire.parse(packet)
        assert len(quoted) == len(data) - wire.HEADER_LEN

    try:
        refused_or_read(whole, read)
    finally:
        packet.payload, packet.checksum_trusted = whole, False
    refused_or_read(whole[wire.HEADER_LEN :], lambda data: wire.parse_quoted(version, data))


def run(data: bytes) -> object:
    view = memoryview(data)
    version = 6 if data and data[0] >> 4 == 6 else 4
    bed = Bed()
    try:
        parse = ipv6.parse if version == 6 else ipv4.parse
        packet = parse(view, checksum_trusted=False)
    except WireError as error:
        answered = bed.icmp.bad_header(view, error)
        assert answered == bool(bed.sent())
        return "not IP", answered
    if isinstance(packet, Fragment):
        return "fragment"
    _by_byte(packet)
    heard: list[str] = []

    def hear(quoted: Quoted, problem: Problem, mtu: int) -> bool:
        assert len(quoted.transport) >= 8
        assert quoted.source == packet.destination
        assert not mtu or problem is Problem.TOO_BIG
        assert 0 <= quoted.sequence < 1 << 32
        assert 0 <= quoted.size < 1 << 17
        assert problem.error().errno == problem.errno
        heard.append(problem.name)
        return True

    def forward(packet: IpPacket, _identifier: int, _sequence: int, payload: memoryview) -> None:
        assert bytes(payload) in data
        heard.append("forward")

    bed.icmp.tcp_error = bed.icmp.udp_error = hear
    bed.icmp.forward = forward
    bed.icmp.packet_received(packet)
    replies = bed.sent()
    assert len(replies) + len(heard) + bed.icmp.counters.malformed <= 1
    for reply in replies:
        assert bed.is_local(packet.destination)
        header = 20 if version == 4 else 40
        assert reply[header] == wire.ECHO_REPLY[version]
        assert reply[header + 4 :] == packet.payload[4:]
    label = version, tuple(heard), len(replies), bed.icmp.counters.malformed
    if bed.icmp.error(Problem.PORT_UNREACHABLE, packet.packet):
        assert packet.protocol != wire.protocol_number(version) or not wire.is_error(version, packet.payload[0])
        (answer,) = bed.sent()
        assert len(answer) <= (576 if version == 4 else 1280)
        return *label, "answered"
    assert bed.sent() == []
    return label
