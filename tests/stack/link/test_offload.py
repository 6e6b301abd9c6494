from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from netbridge.stack.checksum import pseudo_header_sum
from netbridge.stack.errors import WireError
from netbridge.stack.link.offload import MIN_GSO_SIZE, finish
from netbridge.stack.vnet import (
    F_DATA_VALID,
    F_NEEDS_CSUM,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NO_OFFLOAD,
    VNET,
    VNET_LEN,
)
from tests.stack.fake import CLIENT4, CLIENT6, SERVER4, SERVER6, dissect, packed, raw, rebuilt

TCP_OPTIONS = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]


def super_segment(
    version: int, payload: bytes, gso_size: int, *, flags: str = "PA", options: Any = (), hdr_len: int = 0,
) -> bytes:
    """What a stack hands to a link with offload: lengths of the whole, the pseudo-header's sum as checksum."""
    tcp = TCP(sport=80, dport=5000, seq=0xFFFFFF00, ack=7, flags=flags, options=list(options), chksum=0)
    if version == 4:
        data = bytearray(raw(IP(src=SERVER4, dst=CLIENT4, id=0xFFFF, tos=4) / tcp / payload))
        start, addresses, kind = 20, (packed(SERVER4), packed(CLIENT4)), GSO_TCPV4
    else:
        data = bytearray(raw(IPv6(src=SERVER6, dst=CLIENT6) / tcp / payload))
        start, addresses, kind = 40, (packed(SERVER6), packed(CLIENT6)), GSO_TCPV6
    data[start + 16 : start + 18] = pseudo_header_sum(*addresses, 6, len(data) - start).to_bytes(2, "big")
    if "C" in flags:
        kind |= GSO_ECN
    return VNET.pack(F_NEEDS_CSUM, kind, hdr_len or len(data), gso_size, start, 16) + bytes(data)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("length", [1, 1448, 1449, 2896, 20_000, 65_000])
@pytest.mark.parametrize("options", [[], TCP_OPTIONS], ids=["plain", "timestamps"])
def test_segments_are_what_scapy_computes_and_make_up_the_whole(version: int, length: int, options: Any) -> None:
    payload = bytes(index * 7 & 0xFF for index in range(length))
    pieces = finish(super_segment(version, payload, 1448, options=options))
    assert len(pieces) == -(-length // 1448)
    together = b""
    for index, piece in enumerate(pieces):
        assert piece[:VNET_LEN] == NO_OFFLOAD
        packet = dissect(piece[VNET_LEN:])
        assert rebuilt(packet) == piece[VNET_LEN:]
        assert packet[TCP].seq == (0xFFFFFF00 + len(together)) & 0xFFFFFFFF
        assert packet[TCP].ack == 7
        if version == 4:
            assert packet.id == (0xFFFF + index) & 0xFFFF
        together += raw(packet[TCP].payload)
    assert together == payload


def test_given_in_two_parts_it_is_the_same() -> None:
    data = super_segment(4, bytes(5000), 1448)
    assert finish(data[:50], data[50:]) == finish(data) == finish(bytearray(data[:50]), memoryview(data)[50:])


def test_fin_push_and_cwr_stand_where_they_belong() -> None:
    pieces = finish(super_segment(4, bytes(3000), 1000, flags="FPAC"))
    assert [str(dissect(piece[VNET_LEN:])[TCP].flags) for piece in pieces] == ["AC", "A", "FPA"]


@pytest.mark.parametrize("hdr_len", [1, 20, 54, 65535])
def test_hdr_len_is_not_believed(hdr_len: int) -> None:
    assert finish(super_segment(4, bytes(3000), 1000, hdr_len=hdr_len)) == finish(super_segment(4, bytes(3000), 1000))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_an_unfinished_checksum_is_finished(version: int, protocol: str) -> None:
    transport = TCP(sport=1, dport=2) if protocol == "tcp" else UDP(sport=1, dport=2)
    ip: Any = IP(src=SERVER4, dst=CLIENT4) if version == 4 else IPv6(src=SERVER6, dst=CLIENT6)
    right = raw(ip / transport / b"odd")
    start, offset = (20 if version == 4 else 40), (16 if protocol == "tcp" else 6)
    addresses = (packed(SERVER4), packed(CLIENT4)) if version == 4 else (packed(SERVER6), packed(CLIENT6))
    partial = bytearray(right)
    pseudo = pseudo_header_sum(*addresses, 6 if protocol == "tcp" else 17, len(right) - start)
    partial[start + offset : start + offset + 2] = pseudo.to_bytes(2, "big")
    vnet = VNET.pack(F_NEEDS_CSUM, GSO_NONE, 0, 0, start, offset)
    assert finish(vnet + partial) == [NO_OFFLOAD + right]


def test_what_asks_for_nothing_is_left_alone() -> None:
    packet = raw(IP(src=SERVER4, dst=CLIENT4) / UDP() / b"x")
    for flags in (0, F_DATA_VALID):
        assert finish(VNET.pack(flags, 0, 0, 0, 0, 0) + packet) == [NO_OFFLOAD + packet]


GOOD = super_segment(4, bytes(3000), 1000)


def changed(at: int, value: int) -> bytes:
    data = bytearray(GOOD)
    data[at] = value
    return bytes(data)


@pytest.mark.parametrize(("data", "why"), [
    (changed(1, GSO_TCPV6), "IP version"),
    (changed(1, GSO_UDP_L4), "IP version"),
    (changed(1, 77), "IP version"),
    (VNET.pack(1, GSO_TCPV4, 0, 0, 20, 16) + GOOD[10:], "tiny"),
    (VNET.pack(1, GSO_TCPV4, 0, MIN_GSO_SIZE - 1, 20, 16) + GOOD[10:], "tiny"),
    (VNET.pack(1, GSO_TCPV4, 0, 1000, 24, 16) + GOOD[10:], "start"),
    (VNET.pack(1, GSO_TCPV4, 0, 1000, 65535, 16) + GOOD[10:], "start"),
    (VNET.pack(1, GSO_TCPV4, 0, 1000, 20, 16) + GOOD[10:40], "start"),
    (changed(10, 0x4F), "start"),
    (changed(10, 0x40), "not TCP"),
    (changed(19, 17), "not TCP"),
    (changed(10 + 20 + 12, 0x40), "header length"),
    (VNET.pack(1, GSO_TCPV4, 0, 1000, 20, 16) + changed(42, 0xF0)[10:55], "header length"),
    (VNET.pack(1, GSO_NONE, 0, 0, 20, 65535) + GOOD[10:], "outside"),
    (VNET.pack(1, GSO_NONE, 0, 0, 65535, 0) + GOOD[10:], "outside"),
    (VNET.pack(1, GSO_NONE, 0, 0, 19, 0) + GOOD[10:], "outside"),
    (b"", "short"),
    (GOOD[:29], "short"),
])
def test_a_header_that_contradicts_the_packet_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        finish(data)


@given(st.binary(min_size=10, max_size=10), st.binary(max_size=120))
def test_any_header_before_any_bytes_yields_packets_or_wire_error(vnet: bytes, data: bytes) -> None:
    for packet in (data, GOOD[10 : 10 + len(data)], b"\x60\0\0\0\0\x50\x06" + data):
        try:
            pieces = finish(vnet + packet)
        except WireError:
            continue
        assert all(piece[:VNET_LEN] == NO_OFFLOAD for piece in pieces)
        assert sum(map(len, pieces)) <= (len(packet) // MIN_GSO_SIZE + 1) * (len(packet) + VNET_LEN)
