"""SYN options, and the headers the writer makes, with scapy as the oracle."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from netbridge.stack.link.offload import finish
from netbridge.stack.tcp.output import HeaderWriter, largest_payload
from netbridge.stack.tcp.segment import (
    ACK,
    CWR,
    ECT_0,
    MAX_SACK_BLOCKS,
    MAX_SACK_BLOCKS_STAMPED,
    MAX_WSCALE,
    STAMP_LAYOUT,
    STAMPED,
    SYN,
    Stamp,
    emit_sacks,
    emit_syn_options,
    parse_options,
    read_options,
)
from netbridge.stack.tcp.seq import MASK
from netbridge.stack.vnet import F_NEEDS_CSUM, GSO_ECN, GSO_TCPV4, GSO_TCPV6, VNET

V4 = (socket.inet_pton(socket.AF_INET, "10.0.0.1"), socket.inet_pton(socket.AF_INET, "10.0.0.2"))
V6 = (socket.inet_pton(socket.AF_INET6, "fd00::1"), socket.inet_pton(socket.AF_INET6, "fd00::2"))


BLOCK = st.tuples(st.integers(0, MASK), st.integers(0, MASK))


@given(st.binary(max_size=40))
def test_any_options_are_read_without_harm(options: bytes) -> None:
    found = read_options(memoryview(b"ab" + options + b"c"), 2, 2 + len(options))
    whole = parse_options(options)
    assert whole.wscale is None or whole.wscale <= MAX_WSCALE
    assert len(whole.sacks) <= MAX_SACK_BLOCKS
    if isinstance(found, tuple):  # the short way says the same as the long one
        assert found == whole.stamp
        assert not (whole.sacks or whole.mss or whole.wscale or whole.sack_permitted)
    else:
        assert repr(found) == repr(whole)


@given(st.integers(0, 65535), st.one_of(st.none(), st.integers(0, 14)), st.booleans(), st.one_of(st.none(), BLOCK))
def test_what_is_emitted_is_parsed(mss: int, wscale: int | None, sack: bool, stamp: Stamp | None) -> None:
    options = emit_syn_options(mss, wscale, sack=sack, stamp=stamp)
    found = parse_options(options)
    assert (found.mss, found.wscale, found.sack_permitted, found.stamp) == (mss, wscale, sack, stamp)
    assert len(options) % 4 == 0
    assert len(options) <= 40


@given(st.lists(BLOCK, max_size=6), st.one_of(st.none(), BLOCK))
def test_reports_and_timestamps_are_parsed(blocks: list[tuple[int, int]], stamp: Stamp | None) -> None:
    most = MAX_SACK_BLOCKS if stamp is None else MAX_SACK_BLOCKS_STAMPED
    stamped = b"" if stamp is None else STAMPED.pack(STAMP_LAYOUT, *stamp)
    options = stamped + emit_sacks(blocks, most)
    assert len(options) <= 40
    found = parse_options(options)
    assert (found.stamp, list(found.sacks)) == (stamp, blocks[:most])
    if not blocks and stamp is not None:
        assert read_options(options, 0, len(options)) == stamp


@pytest.mark.parametrize(
    ("stamp", "sack", "wscale", "expected"),
    [
        ((1, 2), True, 7, "02 04 05b4  04 02  08 0a 00000001 00000002  01 03 03 07"),
        ((1, 2), False, 7, "02 04 05b4  01 01  08 0a 00000001 00000002  01 03 03 07"),
        (None, True, 7, "02 04 05b4  01 01 04 02  01 03 03 07"),
        (None, False, None, "02 04 05b4"),
    ],
)
def test_the_order_is_that_of_linux(stamp: Stamp | None, sack: bool, wscale: int | None, expected: str) -> None:
    assert emit_syn_options(1460, wscale, sack=sack, stamp=stamp) == bytes.fromhex(expected)


@pytest.mark.parametrize("options", [b"\x02", b"\x02\x00", b"\x02\x01\x05", b"\x02\xff", b"\x03\x03", b"\x01\x01\x02"])
def test_lengths_that_lie_end_the_walk(options: bytes) -> None:
    assert parse_options(options).mss is None


def test_a_scale_above_fourteen_counts_as_fourteen() -> None:
    assert parse_options(bytes([3, 3, 255])).wscale == 14


@pytest.mark.parametrize(("source", "destination"), [V4, V6])
@pytest.mark.parametrize("payload", [b"", b"x", b"hello world" * 90])
@pytest.mark.parametrize("options", [b"", emit_syn_options(1460, 8), emit_syn_options(1460, 8, stamp=(1, MASK))])
@pytest.mark.parametrize("tos", [0, ECT_0])
def test_without_offload_the_packet_is_what_scapy_would_send(
    source: bytes, destination: bytes, payload: bytes, options: bytes, tos: int
) -> None:
    writer = HeaderWriter(source, 80, destination, 40000, offload=False)
    packet = (writer.write(0xFFFFFFF0, 7, SYN | 0x10, 512, options, payload, 1460, tos) + payload)[10:]
    layer = IP if len(source) == 4 else IPv6
    parsed = layer(packet)
    again = layer(packet)
    del again[TCP].chksum
    if layer is IP:
        del again.chksum
    assert bytes(layer(bytes(again))) == packet
    assert (parsed[TCP].sport, parsed[TCP].dport, parsed[TCP].seq, parsed[TCP].ack) == (80, 40000, 0xFFFFFFF0, 7)
    assert (parsed.tos if layer is IP else parsed.tc) == tos


@pytest.mark.parametrize(("pair", "kind"), [(V4, GSO_TCPV4), (V6, GSO_TCPV6)])
def test_a_super_segment_says_how_it_is_to_be_cut(pair: tuple[bytes, bytes], kind: int) -> None:
    writer = HeaderWriter(pair[0], 80, pair[1], 40000, offload=True)
    header = writer.write(1, 1, 0x10, 512, b"", bytes(60000), 1448)
    flags, gso, hdr_len, size, start, offset = VNET.unpack_from(header)
    ip = 20 if kind == GSO_TCPV4 else 40
    assert (flags, gso, hdr_len, size, start, offset) == (F_NEEDS_CSUM, kind, ip + 20, 1448, ip, 16)
    assert VNET.unpack_from(writer.write(1, 1, 0x10, 512, b"", bytes(1448), 1448))[1] == 0


@pytest.mark.parametrize(("pair", "kind"), [(V4, GSO_TCPV4), (V6, GSO_TCPV6)])
def test_a_super_segment_with_cwr_says_that_its_first_segment_alone_bears_it(
    pair: tuple[bytes, bytes], kind: int
) -> None:
    writer = HeaderWriter(pair[0], 80, pair[1], 40000, offload=True)
    payload = bytes(range(256)) * 20
    header = writer.write(1, 1, ACK | CWR, 512, b"", payload, 1448, ECT_0)
    assert VNET.unpack_from(header)[1] == kind | GSO_ECN
    flags = [packet[10 + (20 if kind == GSO_TCPV4 else 40) + 13] for packet in finish(header, payload)]
    assert [bool(bits & CWR) for bits in flags] == [True, False, False, False]
    assert VNET.unpack_from(writer.write(1, 1, ACK, 512, b"", payload, 1448))[1] == kind
    assert VNET.unpack_from(writer.write(1, 1, ACK | CWR, 512, b"", bytes(9), 1448))[1] == 0


def test_the_largest_super_segment_fits_ip() -> None:
    for version, headers in ((4, 40), (6, 60)):
        for mss in (88, 536, 1220, 1460, 8960):
            size = largest_payload(version, mss, offload=True)
            assert size % mss == 0
            assert size + headers <= 65535
            assert largest_payload(version, mss, offload=False) == mss
