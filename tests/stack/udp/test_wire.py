from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from netbridge.stack.errors import WireError
from netbridge.stack.udp import wire
from tests.stack.fake import CLIENT4, CLIENT6, SERVER4, SERVER6, packed, raw, whole

V4, V6 = IP(src=CLIENT4, dst=SERVER4), IPv6(src=CLIENT6, dst=SERVER6)


@pytest.mark.parametrize("ip", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("payload", [b"", b"a", b"hello", bytes(1400)], ids=len)
def test_what_scapy_sends_is_understood(ip: Any, payload: bytes) -> None:
    source, destination, data = wire.parse(whole(ip / UDP(sport=5000, dport=53) / payload))
    assert (source, destination, bytes(data)) == (5000, 53, payload)


@pytest.mark.parametrize("ip", [V4, V6], ids=["v4", "v6"])
def test_a_wrong_checksum_is_refused_unless_it_is_trusted(ip: Any) -> None:
    packet = ip / UDP(sport=5000, dport=53, chksum=0x1234) / b"hello"
    with pytest.raises(WireError, match="checksum"):
        wire.parse(whole(packet))
    assert bytes(wire.parse(whole(packet, trusted=True))[2]) == b"hello"


def test_no_checksum_is_fine_over_ipv4_only() -> None:
    assert bytes(wire.parse(whole(V4 / UDP(sport=1, dport=2, chksum=0) / b"hello"))[2]) == b"hello"
    with pytest.raises(WireError, match="without a checksum"):
        wire.parse(whole(V6 / UDP(sport=1, dport=2, chksum=0) / b"hello"))


@pytest.mark.parametrize("length", [0, 7, 14, 65535])
def test_a_lying_length_is_refused(length: int) -> None:
    with pytest.raises(WireError, match="length"):
        wire.parse(whole(V4 / UDP(sport=1, dport=2, len=length, chksum=0) / b"hello"))


def test_a_shorter_length_cuts() -> None:
    assert bytes(wire.parse(whole(V4 / UDP(sport=1, dport=2, len=10, chksum=0) / b"hello"))[2]) == b"he"
    whole_packet = raw(V4 / UDP(sport=1, dport=2) / b"he")
    padded = whole(IP(whole_packet[:20], len=None, chksum=None) / (whole_packet[20:] + b"padding"))
    assert bytes(wire.parse(padded)[2]) == b"he"


@pytest.mark.parametrize("ports", [(0, 5), (5, 0), (0, 0)])
def test_port_zero_is_refused(ports: tuple[int, int]) -> None:
    with pytest.raises(WireError, match="port 0"):
        wire.parse(whole(V4 / UDP(sport=ports[0], dport=ports[1])))


@pytest.mark.parametrize("length", range(8))
def test_a_cut_header_is_refused(length: int) -> None:
    with pytest.raises(WireError):
        wire.parse(whole(IP(src=CLIENT4, dst=SERVER4, proto=17) / raw(UDP(sport=1, dport=2))[:length]))


@given(st.sampled_from([4, 6]), st.integers(1, 65535), st.integers(1, 65535), st.binary(max_size=300))
def test_emitted_is_as_scapy_emits_it(version: int, source_port: int, destination_port: int, payload: bytes) -> None:
    source, destination = (SERVER4, CLIENT4) if version == 4 else (SERVER6, CLIENT6)
    ip = IP(src=source, dst=destination) if version == 4 else IPv6(src=source, dst=destination)
    expected = raw(ip / UDP(sport=source_port, dport=destination_port) / payload)[-8 - len(payload) :]
    assert wire.emit(packed(source), source_port, packed(destination), destination_port, payload) == expected


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_parse_or_raise_wire_error(data: bytes, trusted: bool) -> None:
    try:
        _, _, payload = wire.parse(whole(IP(src=CLIENT4, dst=SERVER4, proto=17) / data, trusted=trusted))
    except WireError:
        return
    assert len(payload) <= len(data) - 8
