from __future__ import annotations

from typing import Any

import pytest
from scapy.layers import inet
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from netbridge.stack.checksum import pseudo_header_sum
from netbridge.stack.ip_output import IpOutput, finished
from netbridge.stack.packet import UDP
from netbridge.stack.udp import wire
from netbridge.stack.vnet import F_NEEDS_CSUM, GSO_NONE, NO_OFFLOAD, VNET, VNET_LEN
from tests.stack.fake import CLIENT4, CLIENT6, SERVER4, SERVER6, RecordingLink, dissect, packed, raw, rebuilt

ADDRESSES = {4: (packed(SERVER4), packed(CLIENT4)), 6: (packed(SERVER6), packed(CLIENT6))}


def send(link: RecordingLink, version: int, payload: bytes, *, dont_fragment: bool = False) -> bool:
    source, destination = ADDRESSES[version]
    header = wire.emit_partial(source, 53, destination, 5353, len(payload))
    return IpOutput(link).send_ip(
        version, source, destination, UDP, header, payload, ttl=9, tos=8, dont_fragment=dont_fragment,
        checksum_offset=wire.CHECKSUM_OFFSET,
    )


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("payload", [b"", b"x", b"hello", bytes(1400)], ids=len)
def test_without_offload_the_packet_is_complete(version: int, payload: bytes) -> None:
    link = RecordingLink()
    assert send(link, version, payload)
    (packet,) = link.sent
    assert packet[:VNET_LEN] == NO_OFFLOAD
    expected: Any = IP(src=SERVER4, dst=CLIENT4, ttl=9, tos=8, id=int.from_bytes(packet[14:16], "big"))
    if version == 6:
        expected = IPv6(src=SERVER6, dst=CLIENT6, hlim=9, tc=8)
    assert packet[VNET_LEN:] == raw(expected / inet.UDP(sport=53, dport=5353) / payload)


@pytest.mark.parametrize("version", [4, 6])
def test_with_offload_the_checksum_is_left_to_the_far_end(version: int) -> None:
    link = RecordingLink(offload=True)
    assert send(link, version, b"hello")
    (packet,) = link.sent
    flags, gso, _, _, start, offset = VNET.unpack_from(packet)
    assert (flags, gso) == (F_NEEDS_CSUM, GSO_NONE)
    assert start == (20 if version == 4 else 40)
    field = packet[VNET_LEN + start + offset :][:2]
    assert int.from_bytes(field, "big") == pseudo_header_sum(*ADDRESSES[version], UDP, 13)


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("version", [4, 6])
def test_above_the_mtu_it_goes_in_complete_fragments(version: int, offload: bool) -> None:
    link = RecordingLink(offload=offload)
    payload = bytes(range(256)) * 16
    assert send(link, version, payload)
    assert len(link.sent) == 3
    assert all(packet[:VNET_LEN] == NO_OFFLOAD and len(packet) <= VNET_LEN + 1500 for packet in link.sent)
    from netbridge.stack.fragments import Reassembler
    from netbridge.stack.packet import Fragment
    from tests.stack.fake import parse

    reassembler = Reassembler()
    for packet in link.sent:
        piece = parse(packet[VNET_LEN:])
        assert isinstance(piece, Fragment)
        result = reassembler.add(piece, 0.0)
    assert result is not None
    assert rebuilt(dissect(bytes(result.packet))) == result.packet  # its UDP checksum too
    assert bytes(result.payload[8:]) == payload


def test_only_what_may_be_fragmented_on_the_way_has_an_identification() -> None:
    link = RecordingLink()
    for dont_fragment in (False, True):
        for _ in range(20):
            send(link, 4, b"x", dont_fragment=dont_fragment)
    identifications = [dissect(packet[VNET_LEN:]).id for packet in link.sent]
    assert len(set(identifications[:20])) > 10
    assert set(identifications[20:]) == {0}


def test_what_must_not_be_fragmented_is_not_sent_above_the_mtu() -> None:
    link = RecordingLink()
    assert send(link, 4, bytes(1472), dont_fragment=True)
    assert dissect(link.sent[0][VNET_LEN:]).flags == "DF"
    assert not send(link, 4, bytes(1473), dont_fragment=True)
    assert len(link.sent) == 1
    assert send(link, 6, bytes(1473), dont_fragment=True)  # IPv6 never fragments on the way, only at the source
    assert len(link.sent) == 3


@pytest.mark.parametrize(("version", "largest"), [(4, 65507), (6, 65527)])
def test_the_largest_datagram(version: int, largest: int) -> None:
    link = RecordingLink()
    assert send(link, version, bytes(largest))
    output = IpOutput(link)
    assert not output.send_ip(version, *ADDRESSES[version], 99, bytes(65536))
    assert output.counters.too_big == 1


def test_a_udp_checksum_of_zero_is_sent_as_all_ones() -> None:
    for value in range(65536):
        header = bytearray(8)
        header[6:8] = value.to_bytes(2, "big")
        if finished(header, b"\x12\x34", 6, 6)[6:] == b"\0\0":
            assert finished(header, b"\x12\x34", UDP, 6)[6:] == b"\xff\xff"
            break
    else:
        pytest.fail("no sum made it zero")
