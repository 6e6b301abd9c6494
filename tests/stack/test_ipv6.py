from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
)

from netbridge.stack import ipv6
from netbridge.stack.errors import WireError
from netbridge.stack.packet import Fragment, IpPacket
from tests.stack.fake import CLIENT6, SERVER6, packed, raw, whole

BASE = IPv6(src=CLIENT6, dst=SERVER6, hlim=9, tc=0xA3, fl=0x12345)
DATAGRAM = UDP(sport=1, dport=2) / b"hello"


def parse(data: bytes | bytearray) -> IpPacket | Fragment:
    return ipv6.parse(memoryview(data), checksum_trusted=False)


def refused(packet: Any) -> WireError:
    with pytest.raises(WireError) as caught:
        parse(raw(packet))
    return caught.value


def test_fields() -> None:
    packet = whole(BASE / DATAGRAM)
    assert (packet.version, packet.protocol, packet.ttl, packet.tos) == (6, 17, 9, 0xA3)
    assert (packet.source, packet.destination) == (packed(CLIENT6), packed(SERVER6))
    assert packet.dont_fragment
    assert packet.packet == raw(BASE / DATAGRAM)
    assert packet.payload == raw(BASE / DATAGRAM)[40:]


def test_extension_headers_are_walked() -> None:
    pad = PadN(optdata=b"\0\0")
    packet = whole(
        BASE / IPv6ExtHdrHopByHop(options=[pad]) / IPv6ExtHdrRouting(type=4, segleft=0)
        / IPv6ExtHdrDestOpt(options=[pad]) / DATAGRAM,
    )
    assert packet.protocol == 17
    assert bytes(packet.payload[8:]) == b"hello"


def test_what_is_no_extension_header_we_know_is_a_protocol() -> None:
    for number in (50, 51, 59, 135, 200):
        packet = whole(BASE.copy().__class__(src=CLIENT6, dst=SERVER6, nh=number) / b"abcdefgh")
        assert packet.protocol == number


def test_the_number_of_extension_headers_is_bounded() -> None:
    chain = BASE
    for _ in range(ipv6.MAX_EXTENSIONS):
        chain = chain / IPv6ExtHdrDestOpt()
    assert whole(chain / DATAGRAM).protocol == 17
    assert "too many" in str(refused(chain / IPv6ExtHdrDestOpt() / DATAGRAM))


def test_the_number_of_options_is_bounded() -> None:
    alerts = [PadN(otype=0x1E, optdata=b"")] * (ipv6.MAX_OPTIONS + 1)
    assert whole(BASE / IPv6ExtHdrHopByHop(options=alerts[1:]) / DATAGRAM).protocol == 17
    assert "too many" in str(refused(BASE / IPv6ExtHdrHopByHop(options=alerts) / DATAGRAM))


def test_hop_by_hop_options_only_come_first() -> None:
    error = refused(BASE / IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop() / DATAGRAM)
    assert (error.code, error.pointer) == (ipv6.UNRECOGNIZED_NEXT_HEADER, 40)


@pytest.mark.parametrize(("kind", "code"), [(0x5E, None), (0x9E, 2), (0xDE, 2)])
def test_unknown_options_say_what_is_to_become_of_the_packet(kind: int, code: int | None) -> None:
    error = refused(BASE / IPv6ExtHdrHopByHop(options=[PadN(otype=kind, optdata=b"ab")]) / DATAGRAM)
    assert error.code == code
    assert error.pointer == (42 if code else 0)


def test_router_alert_and_other_skippable_options_are_skipped() -> None:
    assert whole(BASE / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / DATAGRAM).protocol == 17


def test_source_routing_is_refused() -> None:
    error = refused(BASE / IPv6ExtHdrRouting(type=0, segleft=1, addresses=[SERVER6]) / DATAGRAM)
    assert (error.code, error.pointer) == (ipv6.ERRONEOUS_FIELD, 42)


ATOMIC = BASE / IPv6ExtHdrFragment(offset=0, m=0, id=5) / DATAGRAM
FULL = (
    BASE / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0")]) / IPv6ExtHdrFragment(offset=0, m=1, id=5, nh=17)
    / (raw(DATAGRAM) + bytes(3))
)


def test_an_atomic_fragment_is_a_datagram() -> None:
    packet = whole(ATOMIC)
    assert packet.protocol == 17
    assert bytes(packet.payload[8:]) == b"hello"
    assert packet.packet == raw(ATOMIC)


def test_fragment_fields() -> None:
    data = raw(BASE / IPv6ExtHdrFragment(offset=3, m=1, id=0xDEADBEEF, nh=17) / bytes(16))
    fragment = parse(data)
    assert isinstance(fragment, Fragment)
    assert fragment.key == (packed(CLIENT6), packed(SERVER6), 0xDEADBEEF, 0)
    assert (fragment.offset, fragment.more, len(fragment.payload)) == (24, True, 16)
    assert fragment.header == data[:40]
    assert fragment.header[fragment.link_offset] == ipv6.FRAGMENT


def test_a_first_fragment_holds_all_headers() -> None:
    cut = raw(IPv6ExtHdrDestOpt(nh=17, options=[PadN(optdata=bytes(20))]) / DATAGRAM)
    for nh, data, code in ((60, cut[:8], None), (17, bytes(0), 3), (6, bytes(16), 3), (58, bytes(0), 3)):
        error = refused(BASE / IPv6ExtHdrFragment(offset=0, m=1, id=1, nh=nh) / data)
        assert error.code == code
    nested = refused(BASE / IPv6ExtHdrFragment(m=1, id=1) / IPv6ExtHdrFragment(m=1, id=2, nh=17) / bytes(8))
    assert "inside" in str(nested)


@pytest.mark.parametrize(("offset", "more", "length", "code"), [
    (0, True, 0, 3), (8, True, 0, None), (8, False, 0, None), (8, True, 9, 0), (65528, False, 8, 0),
    (65528, True, 1200, 0),
])
def test_fragments_of_impossible_length(offset: int, more: bool, length: int, code: int | None) -> None:
    error = refused(BASE / IPv6ExtHdrFragment(offset=offset // 8, m=int(more), id=1, nh=17) / bytes(length))
    assert error.code == code


@pytest.mark.parametrize("sample", [BASE / DATAGRAM, ATOMIC, FULL], ids=["plain", "atomic", "fragment"])
def test_cut_at_any_byte_it_is_refused(sample: Any) -> None:
    data = raw(sample)
    parse(data)
    for length in range(len(data)):
        with pytest.raises(WireError):
            parse(data[:length])


def test_a_payload_length_of_zero_is_no_jumbogram() -> None:
    data = bytearray(raw(BASE / DATAGRAM))
    data[4:6] = b"\0\0"
    packet = parse(data)
    assert isinstance(packet, IpPacket)
    assert len(packet.payload) == 0


@given(st.sampled_from(sorted(ipv6.EXTENSIONS) + [17]), st.binary(max_size=90))
def test_any_bytes_parse_or_raise_wire_error(protocol: int, data: bytes) -> None:
    packet = raw(IPv6(src=CLIENT6, dst=SERVER6, nh=protocol) / data)
    for candidate in (packet, data, b"\x60" + data):
        try:
            parsed = parse(candidate)
        except WireError:
            continue
        assert len(parsed.packet) <= len(candidate)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.integers(0, 0xFFFFF), st.integers(0, 1400))
def test_emitted_headers_are_as_scapy_computes_them(protocol: int, ttl: int, tos: int, label: int, length: int) -> None:
    header = ipv6.emit_header(packed(SERVER6), packed(CLIENT6), protocol, length, ttl=ttl, tos=tos, flow_label=label)
    assert header == raw(IPv6(src=SERVER6, dst=CLIENT6, nh=protocol, plen=length, hlim=ttl, tc=tos, fl=label))


def test_transport_of_a_cut_packet() -> None:
    data = raw(FULL)
    assert ipv6.transport_of(memoryview(data[:60])) == (48, 17, 56)
    later = raw(BASE / IPv6ExtHdrFragment(offset=3, m=1, id=1, nh=17) / bytes(16))
    assert ipv6.transport_of(memoryview(later))[1] == ipv6.FRAGMENT
