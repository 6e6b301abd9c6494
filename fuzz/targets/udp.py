"""Any packet is taken, forwarded, answered with one ICMP error of allowed length, or dropped; never two of these."""

from __future__ import annotations

from fuzz.bed import Bed
from fuzz.prefixes import refused_or_read
from fuzz.repairs import ip as repair  # noqa: F401 - used by the engine
from netbridge.stack import ipv4, ipv6
from netbridge.stack.errors import WireError
from netbridge.stack.icmp.wire import Problem
from netbridge.stack.packet import UDP, Fragment, IpPacket
from netbridge.stack.udp import wire


class _Socket:
    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def packet_received(self, source: tuple[bytes, int], payload: memoryview) -> None:
        assert source[1] > 0
        self.taken.append(bytes(payload))

    def problem_received(self, problem: Problem, mtu: int) -> None:
        raise AssertionError

    def lost(self, error: Exception | None) -> None:
        raise AssertionError


def _by_byte(packet: IpPacket) -> None:
    """Cut short anywhere it is refused; whole, it says what was written."""
    whole = packet.payload

    def read(data: memoryview) -> None:
        packet.payload = data
        _, _, payload = wire.parse(packet)
        assert 8 + len(payload) == int.from_bytes(data[4:6], "big")
        again = wire.emit(packet.source, 1, packet.destination, 65535, payload)
        packet.payload = memoryview(again)
        assert wire.parse(packet) == (1, 65535, payload)

    try:
        refused_or_read(whole, read)
        read(whole)
    except WireError:
        pass
    finally:
        packet.payload = whole


def run(data: bytes) -> object:
    view = memoryview(data)
    try:
        parse = ipv6.parse if data and data[0] >> 4 == 6 else ipv4.parse
        packet = parse(view, checksum_trusted=False)
    except WireError:
        return "not IP"
    if isinstance(packet, Fragment):
        return "fragment"
    if packet.protocol == UDP:
        _by_byte(packet)
    bed, socket = Bed(), _Socket()
    forwarded: list[bytes] = []
    for any_address in (bytes(4), bytes(16)):
        bed.udp.bind(socket, (any_address, 53))

    def forward(packet: IpPacket, source_port: int, destination_port: int, payload: memoryview) -> None:
        assert not bed.is_local(packet.destination)
        assert 0 < source_port < 65536
        assert 0 < destination_port < 65536
        forwarded.append(bytes(payload))

    bed.udp.forward = forward
    bed.udp.packet_received(packet)
    answers = bed.sent()
    assert len(socket.taken) + len(forwarded) + len(answers) + bed.udp.counters.malformed <= 1
    for payload in socket.taken + forwarded:
        assert payload in data
        assert len(payload) + 8 <= len(packet.payload)
    for answer in answers:
        assert len(answer) <= (576 if packet.version == 4 else 1280)
        assert answer.endswith(data[: len(answer) - (28 if packet.version == 4 else 48)][:1228])
    return packet.version, bool(socket.taken), bool(forwarded), bool(answers), bed.udp.counters.malformed
