"""The words of `netbridge capture --filter`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment

from netbridge.bridge.capturefilter import parse_filter
from netbridge.bridge.errors import UsageError
from netbridge.stack.vnet import NO_OFFLOAD
from tests.stack.fake import raw

WEB = IP(src="198.18.0.2", dst="10.20.0.5") / TCP(sport=40000, dport=443)
NAME = IP(src="198.18.0.2", dst="198.18.0.1") / UDP(sport=40000, dport=53) / b"query"
PING = IP(src="198.18.0.2", dst="10.20.0.5") / ICMP()
WEB6 = IPv6(src="fd00::2", dst="fd00::9") / IPv6ExtHdrDestOpt() / TCP(sport=40000, dport=443)
PING6 = IPv6(src="fd00::2", dst="fd00::9") / ICMPv6EchoRequest()
LATER = IP(src="198.18.0.2", dst="10.20.0.5", proto=17, frag=100) / (b"\x9c\x40\x01\xbb" + bytes(20))
LATER6 = IPv6(src="fd00::2", dst="fd00::9") / IPv6ExtHdrFragment(nh=17, offset=100) / (b"\x9c\x40\x01\xbb" + bytes(20))
FIRST6 = IPv6(src="fd00::2", dst="fd00::9") / IPv6ExtHdrFragment(nh=17, m=1) / UDP(sport=40000, dport=443)


@pytest.mark.parametrize(("text", "taken"), [
    ("tcp", [WEB, WEB6]),
    ("udp", [NAME, LATER, LATER6, FIRST6]),
    ("icmp", [PING, PING6]),
    ("icmp udp", [NAME, PING, PING6, LATER, LATER6, FIRST6]),
    ("host 10.20.0.5", [WEB, PING, LATER]),
    ("HOST 10.20.0.0/16 TCP", [WEB]),
    ("host 10.0.0.0/8,fd00::/8 port 443", [WEB, WEB6, FIRST6]),
    ("host 10.20.0.5 host 198.18.0.1", []),
    ("port 53,443", [WEB, NAME, WEB6, FIRST6]),
    ("port 40000 port 53", [NAME]),
    ("port 40000 udp", [NAME, FIRST6]),
])
def test_all_words_must_be_true(text: str, taken: list[object]) -> None:
    wanted = parse_filter(text)
    assert wanted is not None
    everything = [WEB, NAME, PING, WEB6, PING6, LATER, LATER6, FIRST6]
    assert [packet for packet in everything if wanted(NO_OFFLOAD + raw(packet))] == taken


def test_no_words_take_everything() -> None:
    assert parse_filter("") is None
    assert parse_filter("  ") is None


@pytest.mark.parametrize(("text", "said"), [
    ("tpc", "'tpc'"), ("port", "port"), ("port http", "'http'"), ("port 65536", "65536"),
    ("host web.corp.internal", "web.corp.internal"), ("tcp or udp", "'or'"), ("host ,", "0 stand"),
    (f"port {'9' * 5000}", "is no port"), (f"port {'1,' * 65}", "65 stand"),
])
def test_what_is_not_understood(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_filter(text)
    assert said in caught.value.why


@given(st.binary(max_size=100), st.sampled_from(["tcp port 80", "host ::/0,0.0.0.0/0"]))
def test_any_bytes_are_taken_or_not(data: bytes, text: str) -> None:
    wanted = parse_filter(text)
    assert wanted is not None
    assert wanted(NO_OFFLOAD + data) in {True, False}
