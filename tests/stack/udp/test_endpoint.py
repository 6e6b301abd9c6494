from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6

from netbridge.stack.icmp.wire import Problem, Quoted
from netbridge.stack.packet import IpPacket
from netbridge.stack.udp.endpoint import EPHEMERAL, Address
from tests.stack.fake import CLIENT4, CLIENT6, GATEWAY4, GATEWAY6, SERVER4, SERVER6, FakeStack, packed, raw, whole


@dataclass
class Socket:
    datagrams: list[tuple[Address, bytes]] = field(default_factory=list)
    problems: list[tuple[Problem, int]] = field(default_factory=list)
    lost_with: list[Exception | None] = field(default_factory=list)

    def packet_received(self, source: Address, payload: memoryview) -> None:
        self.datagrams.append((source, bytes(payload)))

    def problem_received(self, problem: Problem, mtu: int) -> None:
        self.problems.append((problem, mtu))

    def lost(self, error: Exception | None) -> None:
        self.lost_with.append(error)


def to_gateway(port: int, payload: bytes = b"x", *, source: str = CLIENT4, source_port: int = 5000) -> IpPacket:
    return whole(IP(src=source, dst=GATEWAY4) / UDP(sport=source_port, dport=port) / payload)


def test_a_bound_port_gets_its_datagrams_empty_ones_too() -> None:
    stack, socket = FakeStack(), Socket()
    assert stack.udp.bind(socket, (packed(GATEWAY4), 53)) == (packed(GATEWAY4), 53)
    stack.udp.packet_received(to_gateway(53, b"query"))
    stack.udp.packet_received(to_gateway(53, b""))
    assert socket.datagrams == [((packed(CLIENT4), 5000), b"query"), ((packed(CLIENT4), 5000), b"")]
    assert stack.sent() == []


def test_a_port_bound_for_all_addresses_yields_to_one_bound_for_this_one() -> None:
    stack, everything, exact = FakeStack(), Socket(), Socket()
    stack.udp.bind(everything, (bytes(4), 53))
    stack.udp.packet_received(to_gateway(53))
    stack.udp.bind(exact, (packed(GATEWAY4), 53))
    stack.udp.packet_received(to_gateway(53))
    assert (len(everything.datagrams), len(exact.datagrams)) == (1, 1)


def test_the_versions_have_ports_of_their_own() -> None:
    stack, four, six = FakeStack(), Socket(), Socket()
    stack.udp.bind(four, (bytes(4), 53))
    stack.udp.bind(six, (bytes(16), 53))
    stack.udp.packet_received(whole(IPv6(src=CLIENT6, dst=GATEWAY6) / UDP(sport=5, dport=53) / b"six"))
    assert four.datagrams == []
    assert six.datagrams == [((packed(CLIENT6), 5), b"six")]


def test_a_connected_port_hears_only_its_remote() -> None:
    stack, socket = FakeStack(), Socket()
    stack.udp.bind(socket, (packed(GATEWAY4), 53), (packed(CLIENT4), 5000))
    stack.udp.packet_received(to_gateway(53, b"mine"))
    stack.udp.packet_received(to_gateway(53, b"other port", source_port=5001))
    stack.udp.packet_received(to_gateway(53, b"other host", source="198.18.0.3"))
    assert [payload for _, payload in socket.datagrams] == [b"mine"]
    assert stack.udp.counters.unclaimed == 2


def test_nobody_listens_port_unreachable() -> None:
    stack = FakeStack()
    packet = IP(src=CLIENT4, dst=GATEWAY4) / UDP(sport=5000, dport=7) / b"anyone?"
    stack.udp.packet_received(whole(packet))
    (error,) = stack.sent()
    assert (error.src, error.dst) == (GATEWAY4, CLIENT4)
    assert (error[ICMP].type, error[ICMP].code) == (3, 3)
    assert raw(error[ICMP].payload) == raw(packet)
    six = IPv6(src=CLIENT6, dst=GATEWAY6) / UDP(sport=5000, dport=7) / b"anyone?"
    stack.udp.packet_received(whole(six))
    (error,) = stack.sent()
    assert (error[ICMPv6DestUnreach].code, error.src) == (4, GATEWAY6)


def test_a_port_is_bound_once_and_free_after() -> None:
    stack, socket = FakeStack(), Socket()
    local = stack.udp.bind(socket, (packed(GATEWAY4), 53))
    with pytest.raises(OSError, match="in use"):
        stack.udp.bind(Socket(), (packed(GATEWAY4), 53))
    stack.udp.unbind(local)
    stack.udp.packet_received(to_gateway(53))
    assert socket.datagrams == []
    assert len(stack.sent()) == 1
    stack.udp.bind(Socket(), (packed(GATEWAY4), 53))


def test_ephemeral_ports_are_random_and_run_out_cleanly(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = FakeStack()
    ports = [stack.udp.bind(Socket(), (packed(GATEWAY4), 0))[1] for _ in range(100)]
    assert len(set(ports)) == 100
    assert all(port in EPHEMERAL for port in ports)
    assert ports != sorted(ports)
    monkeypatch.setattr("netbridge.stack.udp.endpoint.EPHEMERAL", range(50000, 50003))
    crowded = FakeStack()
    assert {crowded.udp.bind(Socket(), (packed(GATEWAY4), 0))[1] for _ in range(3)} == {50000, 50001, 50002}
    with pytest.raises(OSError, match="in use"):
        crowded.udp.bind(Socket(), (packed(GATEWAY4), 0))


def test_a_datagram_for_others_goes_to_the_forwarder() -> None:
    stack = FakeStack()
    seen: list[tuple[bytes, int, int, bytes, int]] = []
    packet = whole(IP(src=CLIENT4, dst=SERVER4, ttl=5) / UDP(sport=5000, dport=53) / b"query")
    stack.udp.packet_received(packet)
    assert stack.udp.counters.unclaimed == 1
    assert stack.sent() == []  # without a forwarder it is not ours to answer

    def forward(packet: IpPacket, source_port: int, destination_port: int, payload: memoryview) -> None:
        seen.append((packet.destination, source_port, destination_port, bytes(payload), packet.ttl))

    stack.udp.forward = forward
    stack.udp.packet_received(packet)
    assert seen == [(packed(SERVER4), 5000, 53, b"query", 5)]


@pytest.mark.parametrize("offload", [False, True])
def test_sending_in_the_name_of_others(offload: bool) -> None:
    stack = FakeStack(offload=offload)
    assert stack.udp.send((packed(SERVER4), 53), (packed(CLIENT4), 5000), b"answer", ttl=9, tos=4, dont_fragment=True)
    if not offload:
        (packet,) = stack.sent()
        ip = IP(src=SERVER4, dst=CLIENT4, ttl=9, tos=4, id=0, flags="DF")
        assert raw(packet) == raw(ip / UDP(sport=53, dport=5000) / b"answer")


def test_what_does_not_fit_is_not_sent() -> None:
    stack = FakeStack()
    source, destination = (packed(SERVER4), 53), (packed(CLIENT4), 5)
    assert not stack.udp.send(source, destination, bytes(65508))
    assert not stack.udp.send(source, destination, bytes(1473), dont_fragment=True)
    assert not stack.udp.send((packed(SERVER6), 53), (packed(CLIENT6), 5), bytes(65528))
    assert stack.sent() == []
    assert stack.udp.counters.not_sent == 3


def unreachable(quoted: Any, *, to: str, kind: int = 3, code: int = 3, mtu: int = 0) -> IpPacket:
    return whole(IP(src=CLIENT4, dst=to) / ICMP(type=kind, code=code, nexthopmtu=mtu) / quoted)


def test_errors_reach_the_connected_endpoint_they_are_about() -> None:
    stack, connected, other, loose = FakeStack(), Socket(), Socket(), Socket()
    gateway, client = packed(GATEWAY4), packed(CLIENT4)
    stack.udp.bind(connected, (gateway, 6000), (client, 5000))
    stack.udp.bind(other, (gateway, 6001), (client, 5001))
    stack.udp.bind(loose, (gateway, 6002))
    for port, remote in ((6000, 5000), (6001, 5000), (6002, 5000), (6003, 5000)):
        quoted = IP(src=GATEWAY4, dst=CLIENT4) / UDP(sport=port, dport=remote) / b"x"
        stack.icmp.packet_received(unreachable(quoted, to=GATEWAY4))
    quoted = IP(src=GATEWAY4, dst=CLIENT4) / UDP(sport=6000, dport=5000) / b"x"
    stack.icmp.packet_received(unreachable(quoted, to=GATEWAY4, code=4, mtu=1300))
    assert connected.problems == [(Problem.PORT_UNREACHABLE, 0), (Problem.TOO_BIG, 1300)]
    assert other.problems == loose.problems == []


def test_errors_about_forwarded_datagrams_reach_the_forwarder() -> None:
    stack = FakeStack()
    seen: list[tuple[bytes, int, bytes, int, Problem]] = []

    def hear(quoted: Quoted, problem: Problem, _mtu: int) -> bool:
        seen.append((quoted.source, quoted.source_port, quoted.destination, quoted.destination_port, problem))
        return True

    stack.udp.forward_error = hear
    quoted = IP(src=SERVER4, dst=CLIENT4) / UDP(sport=53, dport=5000) / b"late answer"
    stack.icmp.packet_received(unreachable(quoted, to=SERVER4))
    assert seen == [(packed(SERVER4), 53, packed(CLIENT4), 5000, Problem.PORT_UNREACHABLE)]


def test_garbage_is_counted() -> None:
    stack = FakeStack()
    stack.udp.packet_received(whole(IP(src=CLIENT4, dst=GATEWAY4, proto=17) / b"short"))
    assert stack.udp.counters.malformed == 1
    assert stack.sent() == []


def test_the_end_of_the_stack_ends_all() -> None:
    stack, socket = FakeStack(), Socket()
    stack.udp.bind(socket, (packed(GATEWAY4), 53))
    stack.udp.close(None)
    assert socket.lost_with == [None]
    stack.udp.bind(Socket(), (packed(GATEWAY4), 53))


def test_server_six_is_not_ours() -> None:
    stack = FakeStack()
    stack.udp.packet_received(whole(IPv6(src=CLIENT6, dst=SERVER6) / UDP(sport=1, dport=2)))
    assert stack.udp.counters.unclaimed == 1
