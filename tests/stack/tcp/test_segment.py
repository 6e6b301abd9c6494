"""SYN options, and the headers the writer makes, with scapy as the oracle."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from netbridge.stack.tcp.output import HeaderWriter, largest_payload
from netbridge.stack.tcp.segment import SYN, emit_syn_options, parse_options
from netbridge.stack.vnet import F_NEEDS_CSUM, GSO_TCPV4, GSO_TCPV6, VNET

V4 = (socket.inet_pton(socket.AF_INET, "10.0.0.1"), socket.inet_pton(socket.AF_INET, "10.0.0.2"))
V6 = (socket.inet_pton(socket.AF_INET6, "fd00::1"), socket.inet_pton(socket.AF_INET6, "fd00::2"))


@given(st.binary(max_size=40))
def test_any_options_are_read_without_harm(options: bytes) -> None:
    parse_options(options)


@given(st.integers(0, 65535), st.one_of(st.none(), st.integers(0, 14)))
def test_what_is_emitted_is_parsed(mss: int, wscale: int | None) -> None:
    found = parse_options(emit_syn_options(mss, wscale))
    assert (found.mss, found.wscale) == (mss, wscale)


@pytest.mark.parametrize("options", [b"\x02", b"\x02\x00", b"\x02\x01\x05", b"\x02\xff", b"\x03\x03", b"\x01\x01\x02"])
def test_lengths_that_lie_end_the_walk(options: bytes) -> None:
    assert parse_options(options).mss is None


def test_a_scale_above_fourteen_counts_as_fourteen() -> None:
    assert parse_options(bytes([3, 3, 255])).wscale == 14


@pytest.mark.parametrize(("source", "destination"), [V4, V6])
@pytest.mark.parametrize("payload", [b"", b"x", b"hello world" * 90])
@pytest.mark.parametrize("options", [b"", emit_syn_options(1460, 8)])
def test_without_offload_the_packet_is_what_scapy_would_send(
    source: bytes, destination: bytes, payload: bytes, options: bytes
) -> None:
    writer = HeaderWriter(source, 80, destination, 40000, offload=False)
    packet = (writer.write(0xFFFFFFF0, 7, SYN | 0x10, 512, options, payload, 1460) + payload)[10:]
    layer = IP if len(source) == 4 else IPv6
    parsed = layer(packet)
    again = layer(packet)
    del again[TCP].chksum
    if layer is IP:
        del again.chksum
    assert bytes(layer(bytes(again))) == packet
    assert (parsed[TCP].sport, parsed[TCP].dport, parsed[TCP].seq, parsed[TCP].ack) == (80, 40000, 0xFFFFFFF0, 7)


@pytest.mark.parametrize(("pair", "kind"), [(V4, GSO_TCPV4), (V6, GSO_TCPV6)])
def test_a_super_segment_says_how_it_is_to_be_cut(pair: tuple[bytes, bytes], kind: int) -> None:
    writer = HeaderWriter(pair[0], 80, pair[1], 40000, offload=True)
    header = writer.write(1, 1, 0x10, 512, b"", bytes(60000), 1448)
    flags, gso, hdr_len, size, start, offset = VNET.unpack_from(header)
    ip = 20 if kind == GSO_TCPV4 else 40
    assert (flags, gso, hdr_len, size, start, offset) == (F_NEEDS_CSUM, kind, ip + 20, 1448, ip, 16)
    assert VNET.unpack_from(writer.write(1, 1, 0x10, 512, b"", bytes(1448), 1448))[1] == 0


def test_the_largest_super_segment_fits_ip() -> None:
    for version, headers in ((4, 40), (6, 60)):
        for mss in (88, 536, 1220, 1460, 8960):
            size = largest_payload(version, mss, offload=True)
            assert size % mss == 0
            assert size + headers <= 65535
            assert largest_payload(version, mss, offload=False) == mss
