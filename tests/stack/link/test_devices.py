"""The devices that pass everything through: pcap writer and tracer."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
from scapy.utils import RawPcapNgReader

from netbridge.stack.link import PcapLink, TracerLink, describe
from netbridge.stack.link.base import Link
from netbridge.stack.vnet import NO_OFFLOAD
from tests.stack.fake import CLIENT4, CLIENT6, SERVER4, SERVER6, RecordingLink, RecordingUser, raw
from tests.stack.link.test_offload import super_segment

QUERY = raw(IP(src=CLIENT4, dst=SERVER4) / UDP(sport=5000, dport=53) / b"query")


def test_the_capture_is_what_scapy_reads(tmp_path: Path) -> None:
    inner, file = RecordingLink(), io.BytesIO()
    times = iter([1_700_000_000_123_456_789, 1_700_000_001_000_000_001])
    link = PcapLink(inner, file, clock=lambda: next(times))
    user = RecordingUser()
    link.start(user)
    segment = super_segment(4, bytes(64_000), 1448)
    link.send(segment[:60], segment[60:])
    link.packet_received(memoryview(NO_OFFLOAD + QUERY))
    assert inner.sent == [segment]
    assert user.packets == [NO_OFFLOAD + QUERY]
    path = tmp_path / "capture.pcapng"
    path.write_bytes(file.getvalue())
    with RawPcapNgReader(str(path)) as reader:
        records = list(reader)
    assert [data for data, _ in records] == [segment[10:], QUERY]
    about: Any = records[0][1]
    assert (about.linktype, about.tsresol) == (101, 1_000_000_000)
    assert about.tshigh << 32 | about.tslow == 1_700_000_000_123_456_789


@pytest.mark.parametrize("kind", ["pcap", "tracer"])
def test_a_device_is_transparent(kind: str) -> None:
    inner = RecordingLink(mtu=1300, offload=True)
    link: Link = PcapLink(inner, io.BytesIO()) if kind == "pcap" else TracerLink(inner, lambda _: None)
    user = RecordingUser()
    link.start(user)
    assert (link.mtu, link.offload, link.ready) == (1300, True, True)
    inner.is_ready = False
    assert not link.ready
    assert inner.user is not None
    inner.user.burst_ended()
    inner.user.link_ready()
    inner.user.link_lost(None)
    assert (user.bursts, user.readies, user.lost) == (1, 1, [None])
    link.close()
    assert inner.closed


def test_one_line_a_packet() -> None:
    lines: list[str] = []
    link = TracerLink(RecordingLink(), lines.append, clock=lambda: 1.5)
    link.start(RecordingUser())
    link.send(NO_OFFLOAD, QUERY)
    link.packet_received(memoryview(super_segment(6, bytes(3000), 1000, flags="FPA")))
    assert lines == [
        "1.500000 > 198.18.0.2:5000 > 10.7.0.9:53 UDP 5 ttl 64",
        (
            "1.500000 < [2001:db8::9]:80 > [fd6e:6272::2]:5000 TCP FPA seq 4294967040 ack 7 win 8192 len 3000 ttl 64"
            " partial gso 1000"
        ),
    ]


@pytest.mark.parametrize(("packet", "line"), [
    (IP(src=CLIENT4, dst=SERVER4) / ICMP(type=8, id=3, seq=4) / b"abc",
     "198.18.0.2 > 10.7.0.9 ICMP echo request 3 seq 4 len 3 ttl 64"),
    (IPv6(src=CLIENT6, dst=SERVER6) / ICMPv6EchoRequest(id=3, seq=4),
     "fd6e:6272::2 > 2001:db8::9 ICMP echo request 3 seq 4 len 0 ttl 64"),
    (IP(src=CLIENT4, dst=SERVER4) / ICMP(type=3, code=3) / QUERY,
     "198.18.0.2 > 10.7.0.9 ICMP port unreachable ttl 64"),
    (IP(src=CLIENT4, dst=SERVER4) / ICMP(type=5, code=1) / QUERY, "198.18.0.2 > 10.7.0.9 ICMP 5/1 ttl 64"),
    (IP(src=CLIENT4, dst=SERVER4, proto=47) / b"x", "198.18.0.2 > 10.7.0.9 protocol 47, 1 bytes ttl 64"),
    (IP(src=CLIENT4, dst=SERVER4) / TCP(sport=1, dport=2, flags=""),
     "198.18.0.2:1 > 10.7.0.9:2 TCP - seq 0 ack 0 win 8192 len 0 ttl 64"),
    (IPv6(src=CLIENT6, dst=SERVER6) / IPv6ExtHdrFragment(offset=2, m=1, id=255, nh=17) / bytes(8),
     "fd6e:6272::2 > 2001:db8::9 fragment 0xff of protocol 17: 16..24 and more"),
])
def test_lines(packet: IP, line: str) -> None:
    assert describe(NO_OFFLOAD + raw(packet)) == line


def test_malformed_packets_say_why() -> None:
    assert describe(NO_OFFLOAD + QUERY[:10]) == "10 bytes, IPv4 header is cut short"
    assert describe(b"abc") == "3 bytes, no packet"


@given(st.binary(max_size=100))
def test_anything_can_be_described(data: bytes) -> None:
    assert "\n" not in describe(data)
    assert describe(NO_OFFLOAD + b"\x45" + data)
    assert describe(NO_OFFLOAD + b"\x60" + data)
