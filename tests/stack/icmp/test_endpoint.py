from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)

from netbridge.stack.errors import WireError
from netbridge.stack.icmp.endpoint import ErrorHandler, Icmp
from netbridge.stack.icmp.limit import BURST
from netbridge.stack.icmp.wire import Problem, Quoted
from netbridge.stack.packet import IpPacket
from tests.stack.fake import (
    CLIENT4,
    CLIENT6,
    GATEWAY4,
    GATEWAY6,
    SERVER4,
    SERVER6,
    FakeStack,
    packed,
    parse,
    raw,
    rebuilt,
    whole,
)

UDP4 = IP(src=CLIENT4, dst=SERVER4, ttl=3) / UDP(sport=5000, dport=53) / bytes(range(200))
UDP6 = IPv6(src=CLIENT6, dst=SERVER6, hlim=3) / UDP(sport=5000, dport=53) / bytes(range(200))


# -- echo


@pytest.mark.parametrize("size", [0, 1, 56, 1472, 5000, 65507])
def test_own_addresses_answer_with_exactly_what_was_asked(size: int) -> None:
    stack = FakeStack()
    payload = bytes(index & 0xFF for index in range(size))
    stack.icmp.packet_received(whole(IP(src=CLIENT4, dst=GATEWAY4) / ICMP(type=8, id=7, seq=9) / payload))
    sent = stack.sent()
    assert b"".join(raw(packet.payload) for packet in sent) == raw(ICMP(type=0, id=7, seq=9) / payload)
    assert {(packet.src, packet.dst) for packet in sent} == {(GATEWAY4, CLIENT4)}


def test_own_ipv6_address_answers() -> None:
    stack = FakeStack()
    stack.icmp.packet_received(whole(IPv6(src=CLIENT6, dst=GATEWAY6) / ICMPv6EchoRequest(id=7, seq=9, data=b"abc")))
    (reply,) = stack.sent()
    assert raw(reply) == raw(IPv6(src=GATEWAY6, dst=CLIENT6, hlim=64) / ICMPv6EchoReply(id=7, seq=9, data=b"abc"))


def test_other_addresses_are_never_answered_for() -> None:
    stack = FakeStack()
    seen: list[tuple[bytes, int, int, bytes]] = []
    request = whole(IP(src=CLIENT4, dst=SERVER4) / ICMP(type=8, id=7, seq=9) / b"abc")
    stack.icmp.packet_received(request)
    stack.icmp.forward = lambda packet, identifier, sequence, payload: seen.append(
        (packet.destination, identifier, sequence, bytes(payload)),
    )
    stack.icmp.packet_received(request)
    assert stack.sent() == []
    assert seen == [(packed(SERVER4), 7, 9, b"abc")]
    stack.icmp.echo_reply(packed(SERVER4), packed(CLIENT4), 7, 9, b"abc", ttl=55)
    (reply,) = stack.sent()
    assert raw(reply) == raw(IP(src=SERVER4, dst=CLIENT4, ttl=55, id=reply.id) / ICMP(type=0, id=7, seq=9) / b"abc")


def test_garbage_and_what_nobody_acts_on_is_counted() -> None:
    stack = FakeStack()
    for packet in (
        IP(src=CLIENT4, dst=GATEWAY4, proto=58) / raw(ICMP(type=8)),  # ICMPv6 over IPv4
        IP(src=CLIENT4, dst=GATEWAY4, proto=1) / b"short",
        IP(src=CLIENT4, dst=GATEWAY4) / ICMP(type=8, chksum=1) / b"wrong",
        IP(src=CLIENT4, dst=GATEWAY4) / ICMP(type=3, code=3) / b"no packet in here",
    ):
        stack.icmp.packet_received(whole(packet))
    assert stack.icmp.counters.malformed == 4
    for kind in (0, 5, 13, 17, 40):
        stack.icmp.packet_received(whole(IP(src=CLIENT4, dst=GATEWAY4) / ICMP(type=kind)))
    assert stack.icmp.counters.ignored == 5
    assert stack.sent() == []


# -- sending errors


@pytest.mark.parametrize("problem", list(Problem))
def test_errors_as_scapy_understands_them(problem: Problem) -> None:
    stack = FakeStack()
    assert stack.icmp.error(problem, raw(UDP4), mtu=1300 if problem is Problem.TOO_BIG else 0)
    assert stack.icmp.error(problem, raw(UDP6), mtu=1300 if problem is Problem.TOO_BIG else 0, source=packed(SERVER6))
    four, six = stack.sent()
    assert (four.src, four.dst, four.tos) == (GATEWAY4, CLIENT4, 0xC0)
    assert (four[ICMP].type, four[ICMP].code) == problem.v4
    assert raw(four)[28:] == raw(UDP4)
    assert rebuilt(four) == raw(four)
    assert (six.src, six.dst) == (SERVER6, CLIENT6)
    assert raw(six)[40:42] == bytes(problem.v6)
    assert raw(six)[48:] == raw(UDP6)
    assert rebuilt(six) == raw(six)
    if problem is Problem.TOO_BIG:
        assert four[ICMP].nexthopmtu == 1300
        assert six[ICMPv6PacketTooBig].mtu == 1300
    if problem is Problem.PROTOCOL_UNREACHABLE:
        assert six[ICMPv6ParamProblem].ptr == 6


def test_the_quote_is_cut_to_what_every_network_takes() -> None:
    stack = FakeStack()
    stack.icmp.error(Problem.PORT_UNREACHABLE, raw(IP(src=CLIENT4, dst=SERVER4) / UDP(dport=5) / bytes(2000)))
    stack.icmp.error(Problem.PORT_UNREACHABLE, raw(IPv6(src=CLIENT6, dst=SERVER6) / UDP(dport=5) / bytes(2000)))
    assert [len(raw(packet)) for packet in stack.sent()] == [576, 1280]


def test_the_pointer_names_the_next_header_field_behind_extension_headers() -> None:
    stack = FakeStack()
    packet = IPv6(src=CLIENT6, dst=SERVER6) / IPv6ExtHdrDestOpt(nh=200) / b"abcdefgh"
    stack.icmp.error(Problem.PROTOCOL_UNREACHABLE, raw(packet))
    (error,) = stack.sent()
    assert (error[ICMPv6ParamProblem].code, error[ICMPv6ParamProblem].ptr) == (1, 40)


SILENCE: dict[str, Any] = {
    "an error": IP(src=CLIENT4, dst=SERVER4) / ICMP(type=3, code=3) / raw(UDP4),
    "time exceeded": IP(src=CLIENT4, dst=SERVER4) / ICMP(type=11) / raw(UDP4),
    "redirect": IP(src=CLIENT4, dst=SERVER4) / ICMP(type=5) / raw(UDP4),
    "icmp without a type": IP(src=CLIENT4, dst=SERVER4, proto=1),
    "later fragment": IP(src=CLIENT4, dst=SERVER4, proto=17, frag=1) / bytes(8),
    "later fragment far away": IP(src=CLIENT4, dst=SERVER4, proto=17, frag=0x100) / bytes(8),
    "from nobody": IP(src="0.0.0.0", dst=SERVER4) / UDP(),
    "from loopback": IP(src="127.0.0.1", dst=SERVER4) / UDP(),
    "from a group": IP(src="224.0.0.1", dst=SERVER4) / UDP(),
    "from broadcast": IP(src="255.255.255.255", dst=SERVER4) / UDP(),
    "to a group": IP(src=CLIENT4, dst="239.255.255.250") / UDP(),
    "to broadcast": IP(src=CLIENT4, dst="255.255.255.255") / UDP(),
    "from ourselves": IP(src=GATEWAY4, dst=SERVER4) / UDP(),
    "v6 error": IPv6(src=CLIENT6, dst=SERVER6) / ICMPv6DestUnreach() / raw(UDP6),
    "v6 unknown error": IPv6(src=CLIENT6, dst=SERVER6, nh=58) / bytes([100, 0, 0, 0, 0, 0, 0, 0]),
    "v6 redirect": IPv6(src=CLIENT6, dst=SERVER6, nh=58) / bytes([137, 0, 0, 0, 0, 0, 0, 0]),
    "v6 error behind options": IPv6(src=CLIENT6, dst=SERVER6) / IPv6ExtHdrDestOpt() / ICMPv6TimeExceeded() / raw(UDP6),
    "v6 later fragment": IPv6(src=CLIENT6, dst=SERVER6) / IPv6ExtHdrFragment(offset=1, nh=17) / bytes(8),
    "v6 from nobody": IPv6(src="::", dst=SERVER6) / UDP(),
    "v6 from loopback": IPv6(src="::1", dst=SERVER6) / UDP(),
    "v6 from a group": IPv6(src="ff02::1", dst=SERVER6) / UDP(),
    "v6 to a group": IPv6(src=CLIENT6, dst="ff02::fb") / UDP(),
}


@pytest.mark.parametrize("name", SILENCE)
def test_no_error_about(name: str) -> None:
    stack = FakeStack()
    assert not stack.icmp.error(Problem.PORT_UNREACHABLE, raw(SILENCE[name]))
    assert stack.sent() == []
    assert stack.icmp.counters.errors_withheld == 1


def test_echo_requests_and_first_fragments_may_be_answered() -> None:
    stack = FakeStack()
    assert stack.icmp.error(Problem.HOST_UNREACHABLE, raw(IP(src=CLIENT4, dst=SERVER4) / ICMP(type=8)))
    assert stack.icmp.error(Problem.HOST_UNREACHABLE, raw(IPv6(src=CLIENT6, dst=SERVER6) / ICMPv6EchoRequest()))
    first = IP(src=CLIENT4, dst=SERVER4, proto=17, flags="MF") / bytes(16)
    assert stack.icmp.error(Problem.REASSEMBLY_TIME_EXCEEDED, raw(first))
    assert stack.icmp.error(Problem.TOO_BIG, raw(IPv6(src=CLIENT6, dst="ff0e::1") / UDP()), mtu=1280)
    assert len(stack.sent()) == 4


@pytest.mark.parametrize("data", [b"", b"\x45", b"\x60" + bytes(10), b"\x10" + bytes(50), bytes(60)])
def test_garbage_is_not_answered(data: bytes) -> None:
    stack = FakeStack()
    assert not stack.icmp.error(Problem.PROTOCOL_UNREACHABLE, data)
    assert not stack.icmp.bad_header(data, WireError("x", code=2, pointer=9))
    assert stack.sent() == []


def test_headers_the_parser_refused_are_answered_where_ipv6_wants_it() -> None:
    stack = FakeStack()
    option = IPv6ExtHdrHopByHop(options=[PadN(otype=0x9E, optdata=b"ab")])
    for destination in (SERVER6, "ff02::fb"):
        packet = raw(IPv6(src=CLIENT6, dst=destination) / option / UDP())
        with pytest.raises(WireError) as caught:
            parse(packet)
        assert stack.icmp.bad_header(packet, caught.value)
    for error in stack.sent():
        assert (error[ICMPv6ParamProblem].code, error[ICMPv6ParamProblem].ptr) == (2, 42)
    assert not stack.icmp.bad_header(raw(UDP6), WireError("just dropped"))


def test_errors_are_limited_with_noise() -> None:
    counts = []
    quoted = raw(UDP4)
    for _ in range(20):
        stack = FakeStack()
        for _ in range(500):
            stack.icmp.error(Problem.PORT_UNREACHABLE, quoted)
        counts.append(len(stack.link.sent))
        assert stack.icmp.counters.errors_limited == 500 - counts[-1]
        stack.time += 1.0
        assert stack.icmp.error(Problem.PORT_UNREACHABLE, raw(UDP4))
    assert len(set(counts)) > 3
    assert BURST / 2 < sum(counts) / len(counts) < BURST * 2


# -- received errors


def receive(stack: FakeStack, icmp: Any, quoted: Any, *, to: str = GATEWAY4) -> None:
    stack.icmp.packet_received(whole(IP(src=CLIENT4, dst=to) / icmp / raw(quoted)))


def into(seen: list[tuple[Quoted, Problem, int]]) -> ErrorHandler:
    """Believes every error, and writes it down."""

    def hear(quoted: Quoted, problem: Problem, mtu: int) -> bool:
        seen.append((quoted, problem, mtu))
        return True

    return hear


def test_errors_go_to_whom_they_concern() -> None:
    stack = FakeStack()
    tcp: list[tuple[Quoted, Problem, int]] = []
    udp: list[tuple[Quoted, Problem, int]] = []
    stack.icmp.tcp_error = into(tcp)
    stack.icmp.udp_error = into(udp)
    segment = IP(src=SERVER4, dst=CLIENT4) / TCP(sport=80, dport=9, seq=5)
    receive(stack, ICMP(type=3, code=4, nexthopmtu=1300), segment, to=SERVER4)
    receive(stack, ICMP(type=11), IP(src=GATEWAY4, dst=CLIENT4) / UDP(sport=53, dport=9))
    ((quoted, problem, mtu),) = tcp
    assert (quoted.source_port, quoted.destination_port, quoted.sequence) == (80, 9, 5)
    assert (problem, mtu) == (Problem.TOO_BIG, 1300)
    ((quoted, problem, mtu),) = udp
    assert (quoted.source_port, problem, mtu) == (53, Problem.TIME_EXCEEDED, 0)


def test_a_big_ipv6_mtu_is_32_bits() -> None:
    stack = FakeStack()
    seen: list[tuple[Quoted, Problem, int]] = []
    stack.icmp.tcp_error = into(seen)
    quoted = raw(IPv6(src=GATEWAY6, dst=CLIENT6) / TCP(sport=80, dport=9))
    stack.icmp.packet_received(whole(IPv6(src=CLIENT6, dst=GATEWAY6) / ICMPv6PacketTooBig(mtu=70000) / quoted))
    assert [mtu for _, _, mtu in seen] == [70000]


def test_an_error_about_somebody_elses_packet_is_not_believed() -> None:
    stack = FakeStack()
    seen: list[tuple[Quoted, Problem, int]] = []
    stack.icmp.tcp_error = into(seen)
    receive(stack, ICMP(type=3, code=1), IP(src=SERVER4, dst=CLIENT4) / TCP(), to=GATEWAY4)
    assert seen == []
    assert stack.icmp.counters.malformed == 1


def test_an_error_that_its_room_does_not_believe_is_counted() -> None:
    stack = FakeStack()
    stack.icmp.tcp_error = lambda _quoted, _problem, _mtu: False
    receive(stack, ICMP(type=3, code=1), IP(src=SERVER4, dst=CLIENT4) / TCP(), to=SERVER4)
    receive(stack, ICMP(type=3, code=1), IP(src=SERVER4, dst=CLIENT4) / UDP(), to=SERVER4)
    assert (stack.icmp.counters.errors_received, stack.icmp.counters.errors_disbelieved) == (2, 2)


# -- pings of our own


def pinged(stack: FakeStack, payload: bytes = b"abcd") -> tuple[Any, list[tuple[IpPacket | None, Problem | None]]]:
    answers: list[tuple[IpPacket | None, Problem | None]] = []
    stack.icmp.send_ping(packed(GATEWAY4), packed(CLIENT4), payload, lambda *answer: answers.append(answer))
    (request,) = stack.sent()
    assert (request.src, request.dst, request[ICMP].type, raw(request[ICMP].payload)) == (GATEWAY4, CLIENT4, 8, payload)
    return request, answers


def reply(request: Any, payload: bytes, **changed: Any) -> IpPacket:
    fields = {"id": request[ICMP].id, "seq": request[ICMP].seq} | changed
    return whole(IP(src=fields.pop("src", CLIENT4), dst=fields.pop("dst", GATEWAY4)) / ICMP(type=0, **fields) / payload)


def test_the_reply_is_told_once() -> None:
    stack = FakeStack()
    request, answers = pinged(stack)
    answer = reply(request, b"abcd")
    stack.icmp.packet_received(answer)
    stack.icmp.packet_received(answer)
    assert answers == [(answer, None)]


@pytest.mark.parametrize("wrong", [
    {"payload": b"abce"}, {"payload": b"abcdX"}, {"payload": b"abc"}, {"src": SERVER4}, {"dst": SERVER4},
    {"id": 1}, {"seq": 1},
], ids=str)
def test_a_reply_that_is_not_quite_it_is_ignored(wrong: dict[str, Any]) -> None:
    stack = FakeStack()
    request, answers = pinged(stack)
    if wrong.get("id") == request[ICMP].id or wrong.get("seq") == request[ICMP].seq:
        pytest.skip("one in 65,536")
    stack.icmp.packet_received(reply(request, wrong.pop("payload", b"abcd"), **wrong))
    assert answers == []


def test_an_error_about_a_ping_is_told() -> None:
    stack = FakeStack()
    request, answers = pinged(stack)
    receive(stack, ICMP(type=3, code=1), request)
    receive(stack, ICMP(type=3, code=1), request)
    assert answers == [(None, Problem.HOST_UNREACHABLE)]


def test_identifiers_are_random() -> None:
    stack = FakeStack()
    seen = {(request[ICMP].id, request[ICMP].seq) for request, _ in (pinged(stack) for _ in range(50))}
    assert len(seen) == 50
    assert len({identifier for identifier, _ in seen}) > 40


def test_no_gateway_no_error() -> None:
    stack = FakeStack()
    del stack.own[6]
    assert not Icmp(stack).error(Problem.PORT_UNREACHABLE, raw(UDP6))
