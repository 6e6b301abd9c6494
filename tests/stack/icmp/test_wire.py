from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)

from netbridge.stack.errors import WireError
from netbridge.stack.icmp import wire
from netbridge.stack.icmp.wire import Problem
from tests.stack.fake import CLIENT4, CLIENT6, SERVER4, SERVER6, packed, raw, whole

ECHO4 = IP(src=CLIENT4, dst=SERVER4) / ICMP(type=8, id=0x1234, seq=0x5678) / b"abc"
ECHO6 = IPv6(src=CLIENT6, dst=SERVER6) / ICMPv6EchoRequest(id=0x1234, seq=0x5678, data=b"abc")


def test_echo_requests() -> None:
    for packet, kind in ((ECHO4, 8), (ECHO6, 128)):
        *fields, data = wire.parse(whole(packet))
        assert (fields, bytes(data)) == ([kind, 0, 0x1234, 0x5678], b"abc")


@pytest.mark.parametrize("packet", [ECHO4, ECHO6], ids=["v4", "v6"])
def test_checksum_and_length_are_checked(packet: IP) -> None:
    data = bytearray(raw(packet))
    data[-1] ^= 1
    with pytest.raises(WireError, match="checksum"):
        wire.parse(whole(packet.__class__(bytes(data))))
    wire.parse(whole(packet.__class__(bytes(data)), trusted=True))
    short = IP(src=CLIENT4, dst=SERVER4, proto=1) / bytes(7)
    with pytest.raises(WireError, match="short"):
        wire.parse(whole(short))


@given(st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=100))
def test_emitted_echo_is_as_scapy_emits_it(identifier: int, sequence: int, data: bytes) -> None:
    four = wire.emit(4, packed(SERVER4), packed(CLIENT4), 0, 0, identifier, sequence, data)
    assert four == raw(ICMP(type=0, id=identifier, seq=sequence) / data)
    six = wire.emit(6, packed(SERVER6), packed(CLIENT6), 129, 0, identifier, sequence, data)
    packet = IPv6(src=SERVER6, dst=CLIENT6) / ICMPv6EchoReply(id=identifier, seq=sequence, data=data)
    assert six == raw(packet)[40:]


# RFC 792, RFC 1812 section 5.2.7.1; RFC 4443 section 3; what Linux's sockets say (icmp_err_convert)
TABLE = {
    Problem.NET_UNREACHABLE: ((3, 0), (1, 0), errno.ENETUNREACH),
    Problem.HOST_UNREACHABLE: ((3, 1), (1, 3), errno.EHOSTUNREACH),
    Problem.PROTOCOL_UNREACHABLE: ((3, 2), (4, 1), errno.ENOPROTOOPT),
    Problem.PORT_UNREACHABLE: ((3, 3), (1, 4), errno.ECONNREFUSED),
    Problem.PROHIBITED: ((3, 13), (1, 1), errno.EACCES),
    Problem.TOO_BIG: ((3, 4), (2, 0), errno.EMSGSIZE),
    Problem.TIME_EXCEEDED: ((11, 0), (3, 0), errno.EHOSTUNREACH),
    Problem.REASSEMBLY_TIME_EXCEEDED: ((11, 1), (3, 1), errno.EHOSTUNREACH),
}


@pytest.mark.parametrize("problem", list(TABLE))
def test_problems_and_their_codes(problem: Problem) -> None:
    assert (problem.v4, problem.v6, problem.errno) == TABLE[problem]
    assert problem.error().errno == problem.errno
    for version in (4, 6):
        assert wire.problem_of(version, *problem.wire(version)) is problem


@pytest.mark.parametrize("problem", list(Problem))
def test_every_problem_goes_out_as_an_error(problem: Problem) -> None:
    for version in (4, 6):
        assert wire.is_error(version, problem.wire(version)[0])


def test_every_code_is_told_on_as_it_came() -> None:
    for version, kind, codes in ((4, 3, 16), (4, 11, 2), (6, 1, 7), (6, 2, 1), (6, 3, 2)):
        for code in range(codes):
            problem = wire.problem_of(version, kind, code)
            assert problem is not None
            assert problem.wire(version) == (kind, code)


def test_port_unreachable_is_a_refused_connection() -> None:
    assert isinstance(Problem.PORT_UNREACHABLE.error(), ConnectionRefusedError)


def test_other_types_mean_nothing() -> None:
    for kind, code in ((5, 0), (12, 0), (4, 0), (3, 16), (8, 0), (0, 0)):
        assert wire.problem_of(4, kind, code) is None
    for kind, code in ((137, 0), (4, 0), (1, 7), (128, 0), (135, 0)):
        assert wire.problem_of(6, kind, code) is None


def test_what_is_an_error() -> None:
    assert [kind for kind in range(20) if wire.is_error(4, kind)] == [3, 4, 5, 11, 12]
    assert [kind for kind in range(256) if wire.is_error(6, kind)] == [*range(128), 137]


def test_quoted_packets() -> None:
    quoted = wire.parse_quoted(4, memoryview(raw(IP(src=SERVER4, dst=CLIENT4) / TCP(sport=80, dport=5000, seq=77))))
    assert (quoted.source, quoted.destination) == (packed(SERVER4), packed(CLIENT4))
    assert (quoted.source_port, quoted.destination_port, quoted.sequence) == (80, 5000, 77)
    data = raw(IPv6(src=SERVER6, dst=CLIENT6) / IPv6ExtHdrDestOpt() / UDP(sport=53, dport=5000) / b"cut")
    quoted = wire.parse_quoted(6, memoryview(data[:-3]))
    assert (quoted.protocol, quoted.source_port, quoted.destination_port) == (17, 53, 5000)


@pytest.mark.parametrize("length", range(28))
def test_a_quote_cut_before_its_ports_is_refused(length: int) -> None:
    data = raw(IP(src=SERVER4, dst=CLIENT4) / UDP(sport=53, dport=5000))
    wire.parse_quoted(4, memoryview(data))
    with pytest.raises(WireError):
        wire.parse_quoted(4, memoryview(data[:length]))


def test_later_fragments_quoted_name_no_port() -> None:
    with pytest.raises(WireError, match="fragment"):
        wire.parse_quoted(4, memoryview(raw(IP(src=SERVER4, dst=CLIENT4, frag=3, proto=17) / bytes(16))))
    later = IPv6(src=SERVER6, dst=CLIENT6) / IPv6ExtHdrFragment(offset=3, m=1, nh=17) / bytes(16)
    with pytest.raises(WireError, match="fragment"):
        wire.parse_quoted(6, memoryview(raw(later)))


@given(st.sampled_from([4, 6]), st.binary(max_size=100))
def test_any_quote_parses_or_raises_wire_error(version: int, data: bytes) -> None:
    for candidate in (data, bytes([version << 4 | 5]) + data):
        try:
            quoted = wire.parse_quoted(version, memoryview(candidate))
        except WireError:
            continue
        assert len(quoted.transport) >= 8


def test_the_whole_error_fits_the_smallest_packet() -> None:
    data = bytes(wire.MAX_QUOTE[6])
    packet = IPv6(src=SERVER6, dst=CLIENT6) / ICMPv6DestUnreach() / data
    assert len(raw(packet)) == 1280
    assert wire.MAX_QUOTE[4] == 548
