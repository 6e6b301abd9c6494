from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, IPOption_RR

from netbridge.stack import ipv4
from netbridge.stack.checksum import checksum
from netbridge.stack.errors import WireError
from netbridge.stack.packet import Fragment, IpPacket
from tests.stack.fake import CLIENT4, SERVER4, dissect, packed, raw, rebuilt, whole


def parse(data: bytes | bytearray) -> IpPacket | Fragment:
    return ipv4.parse(memoryview(data), checksum_trusted=False)


def fixed(data: bytearray) -> bytearray:
    """With the header checksum made right again, so that other checks are reached."""
    length = (data[0] & 15) * 4
    data[10:12] = b"\0\0"
    data[10:12] = checksum(data[:length]).to_bytes(2, "big")
    return data


PACKET = raw(IP(src=CLIENT4, dst=SERVER4, ttl=7, tos=0x2E, flags="DF") / UDP(sport=1, dport=2) / b"hello")


def test_fields() -> None:
    packet = whole(IP(src=CLIENT4, dst=SERVER4, ttl=7, tos=0x2E, flags="DF") / UDP(sport=1, dport=2) / b"hello")
    assert (packet.version, packet.protocol, packet.ttl, packet.tos) == (4, 17, 7, 0x2E)
    assert (packet.source, packet.destination) == (packed(CLIENT4), packed(SERVER4))
    assert packet.dont_fragment
    assert packet.packet == PACKET
    assert packet.payload == PACKET[20:]


def test_options_are_skipped() -> None:
    data = raw(IP(src=CLIENT4, dst=SERVER4, options=[IPOption_RR(routers=["1.2.3.4"])]) / UDP(sport=1, dport=2))
    packet = parse(data)
    assert isinstance(packet, IpPacket)
    assert data[0] & 15 > 5
    assert len(packet.payload) == 8


def test_padding_behind_the_packet_is_cut_off() -> None:
    packet = parse(PACKET + bytes(26))
    assert isinstance(packet, IpPacket)
    assert packet.packet == PACKET


@pytest.mark.parametrize("length", range(len(PACKET)))
def test_cut_at_any_byte_it_is_refused(length: int) -> None:
    with pytest.raises(WireError):
        parse(PACKET[:length])


@pytest.mark.parametrize("first", [0x40, 0x44, 0x4F, 0x55, 0x65, 0x00])
def test_lying_version_or_header_length(first: int) -> None:
    data = bytearray(PACKET)
    data[0] = first
    with pytest.raises(WireError):
        parse(fixed(data) if first & 15 >= 5 else data)


@pytest.mark.parametrize("total", [0, 19, len(PACKET) + 1, 65535])
def test_lying_total_length(total: int) -> None:
    data = bytearray(PACKET)
    data[2:4] = total.to_bytes(2, "big")
    with pytest.raises(WireError):
        parse(fixed(data))


@pytest.mark.parametrize("bit", range(160))
def test_any_flipped_bit_of_the_header_is_noticed(bit: int) -> None:
    data = bytearray(PACKET)
    data[bit >> 3] ^= 1 << (bit & 7)
    with pytest.raises(WireError):
        parse(data)


@pytest.mark.parametrize(("offset", "more", "length", "good"), [
    (0, True, 8, True), (0, True, 7, False), (0, True, 0, False), (8, False, 1, True), (8, False, 0, False),
    (65528 - 24, False, 8, True), (65528, False, 8, False), (65528, True, 1480, False), (65512, False, 16, False),
])
def test_fragments_of_possible_and_impossible_lengths(offset: int, more: bool, length: int, good: bool) -> None:
    flags = "MF" if more else 0
    data = raw(IP(src=CLIENT4, dst=SERVER4, proto=17, id=7, frag=offset // 8, flags=flags) / bytes(length))
    if good:
        fragment = parse(data)
        assert isinstance(fragment, Fragment)
        assert (fragment.offset, fragment.more, len(fragment.payload)) == (offset, more, length)
        assert fragment.key == (packed(CLIENT4), packed(SERVER4), 7, 17)
    else:
        with pytest.raises(WireError):
            parse(data)


@given(st.binary(max_size=120))
def test_any_bytes_parse_or_raise_wire_error(data: bytes) -> None:
    for candidate in (data, b"\x45" + data, fixed(bytearray(b"\x4f" + data)) if len(data) > 60 else data):
        try:
            packet = parse(candidate)
        except WireError:
            continue
        assert len(packet.packet) <= len(candidate)


@given(
    st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4), st.integers(0, 255), st.integers(0, 255),
    st.integers(0, 255), st.integers(0, 65535), st.sampled_from([0, ipv4.DONT_FRAGMENT, ipv4.MORE_FRAGMENTS | 5]),
    st.integers(0, 1400),
)
def test_emitted_headers_are_as_scapy_computes_them(
    source: bytes, destination: bytes, protocol: int, ttl: int, tos: int, identification: int, flags: int, length: int,
) -> None:
    header = ipv4.emit_header(
        source, destination, protocol, length, ttl=ttl, tos=tos, identification=identification, flags=flags,
    )
    data = header + bytes(length)
    assert rebuilt(dissect(data)) == data or protocol in (4, 41, 47)  # scapy would correct a tunnelled header too
    if not flags & ipv4.MORE_FRAGMENTS:
        packet = parse(data)
        assert isinstance(packet, IpPacket)
        assert (packet.source, packet.destination, packet.ttl, packet.tos) == (source, destination, ttl, tos)
