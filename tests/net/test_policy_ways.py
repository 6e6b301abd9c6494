"""The policy judges whole packets by where they lead: in pieces, by source routes, to a network's broadcast address."""

from __future__ import annotations

import contextlib
import errno
import functools
import socket
from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6ParamProblem, IPv6, IPv6ExtHdrFragment, IPv6ExtHdrRouting
from scapy.packet import Packet, Raw

from tests.hostile.raw import checksum
from tests.world import World
from tests.world.addresses import CORP, ECHO_PORT, HTTP_PORT, LAPTOP_IN_CORP
from tests.world.machine import wait_until

from .attacker import Scene, scene
from .conftest import Bridges
from .dialling import connect_errno
from .packets import each_protocol
from .state import counter, state

pytestmark = pytest.mark.net

both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])
DENIED = {4: "10.99.0.200", 6: "fd99::200"}
BROADCAST = "10.99.0.255"
FORWARDED = (("forward_tcp", "connects"), ("forward_udp", "packets_up"), ("forward_icmp", "packets_up"))


@pytest.fixture(scope="module")
def attack(bridges: Bridges, world: World) -> Iterator[Scene]:
    with scene(bridges, world, *(word for host in DENIED.values() for word in ("--deny", host))) as made:
        yield made


def forwarded(attack: Scene) -> list[int]:
    counters = state(attack.bridge)["counters"]
    return [counters[room][name] for room, name in FORWARDED]


def in_pieces(packet: Packet, number: int, first: int) -> list[Packet]:
    """Two fragments; the first has `first` bytes of what stands behind the IP header."""
    whole = type(packet)(bytes(packet))
    body = bytes(whole.payload)
    if whole.version == 4:
        head = IP(src=whole.src, dst=whole.dst, id=number, proto=whole.proto)
        second = head.copy()
        head.flags, second.frag = "MF", first // 8
        return [head / Raw(body[:first]), second / Raw(body[first:])]
    head6 = IPv6(src=whole.src, dst=whole.dst)
    return [
        head6 / IPv6ExtHdrFragment(nh=whole.nh, offset=at // 8, m=more, id=number) / Raw(data)
        for more, at, data in ((1, 0, body[:first]), (0, first, body[first:]))
    ]


@both
def test_denied_in_pieces(attack: Scene, version: int) -> None:
    """RFC 1858: pieces so small that the flags or even the whole header come with the second one, in either order."""
    for number, backwards in enumerate((False, True)):
        port = 43000 + number
        packets = each_protocol(attack.own[version], DENIED[version], HTTP_PORT, port)
        before, known = forwarded(attack), [counter(attack.bridge, room, "dropped_policy") for room, _ in FORWARDED]
        for each, (packet, (room, _)) in enumerate(zip(packets, FORWARDED, strict=True)):
            # IPv6 wants the whole transport header in the first piece (RFC 7112).
            first = 8 if version == 4 or TCP not in packet else 24
            if TCP in packet:
                packet /= Raw(bytes(32))
            pieces = in_pieces(packet, 700 + 10 * number + each, first)
            attack.wire.deafen()
            attack.wire.send(*(reversed(pieces) if backwards else pieces))
            told = attack.wire.hear(lambda it: ICMP in it or ICMPv6DestUnreach in it, to=attack.own[version])
            assert told is not None, packet.summary()
            assert counter(attack.bridge, room, "dropped_policy") == known[each] + 1
        assert forwarded(attack) == before
    # what is allowed comes through in the same pieces
    sound = (IP if version == 4 else IPv6)(src=attack.own[version], dst=CORP[version])
    sound /= TCP(sport=43100, dport=HTTP_PORT, flags="S", seq=1, options=[("MSS", 1000), ("EOL", b""), ("NOP", b"")])
    if version == 6:
        sound /= Raw(bytes(16))
    pieces = in_pieces(sound, 799, 8 if version == 4 else 32)
    attack.wire.send(*pieces)
    answer = attack.wire.hear(lambda it: TCP in it and it[TCP].dport == 43100, to=attack.own[version])
    assert answer is not None
    assert answer[TCP].flags == "SA"


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 253])
def test_routing_headers_lead_nowhere(attack: Scene, kind: int) -> None:
    """To corp, and then on to ::1 or to a denied host: who wants to be routed on is told that he is not (RFC 5095)."""
    before = forwarded(attack)
    for further in ("::1", DENIED[6], LAPTOP_IN_CORP[6]):
        for left in (1, 2, 255):
            packet = IPv6(src=attack.own[6], dst=CORP[6])
            packet /= IPv6ExtHdrRouting(type=kind, segleft=left, addresses=[further])
            attack.wire.deafen()
            attack.wire.send(packet / TCP(sport=43200, dport=HTTP_PORT, flags="S", seq=1))
            told = attack.wire.hear(lambda it: ICMPv6ParamProblem in it, to=attack.own[6])
            assert told is not None
            assert (told[ICMPv6ParamProblem].code, told[ICMPv6ParamProblem].ptr) == (0, 42)
    assert forwarded(attack) == before


def source_routed(attack: Scene, kind: int, last: str) -> bytes:
    """A SYN to corp whose IP option names another address to go to from there."""
    plain = IP(src=attack.own[4], dst=CORP[4]) / TCP(sport=43300 + kind, dport=HTTP_PORT, flags="S", seq=1)
    option = bytes([kind, 7, 4]) + socket.inet_aton(last) + b"\0"
    head = bytes(IP(src=plain.src, dst=plain.dst, proto=6, ihl=7, len=48, chksum=0)) + option
    return head[:10] + checksum(head) + head[12:] + bytes(plain)[20:]


@pytest.mark.parametrize("kind", [131, 137], ids=["loose", "strict"])
def test_ipv4_source_routes_are_not_followed(attack: Scene, kind: int) -> None:
    """They are skipped (RFC 7126): it is corp that answers, and what leaves the laptop has no options."""
    with attack.world.corp.inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.ntohs(3))) as tap:
        tap.bind(("eth0", 0x0800))
        tap.settimeout(3)
        attack.wire.send(source_routed(attack, kind, "127.0.0.1"))
        answer = attack.wire.hear(lambda it: TCP in it and it[TCP].dport == 43300 + kind, to=attack.own[4])
        assert answer is not None
        assert answer[TCP].flags == "SA"
        while True:
            packet = tap.recv(200)
            if packet[9] == 6 and packet[12:16] == socket.inet_aton(LAPTOP_IN_CORP[4]) and packet[33] & 2:
                assert packet[0] == 0x45
                return


def test_broadcast_address_of_a_network_of_the_laptops(attack: Scene) -> None:
    """No program of the laptop reaches it by an ordinary socket, and nobody over there does by one that may."""
    world = attack.world
    assert connect_errno(world.laptop, BROADCAST, HTTP_PORT) == errno.ENETUNREACH
    assert connect_errno(world.codespace, BROADCAST, HTTP_PORT) == errno.ENETUNREACH

    def shout() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            client.sendto(b"anybody?", (BROADCAST, 4567))

    with world.corp.udp("0.0.0.0", 4567) as ear:
        ear.settimeout(3)
        world.laptop.inside(shout)
        assert ear.recv(100) == b"anybody?"  # it does hear
        before = counter(attack.bridge, "forward_udp", "dropped_open")
        world.codespace.inside(shout)
        wait_until(lambda: counter(attack.bridge, "forward_udp", "dropped_open") > before, "the drop", 5, 0.05)
        ear.setblocking(False)
        with pytest.raises(BlockingIOError):
            ear.recv(100)
    ping = world.codespace.run("ping", "-b", "-c", "1", "-W", "1", BROADCAST)
    assert "Packet filtered" in ping.stdout, ping


def test_own_closed_ports_and_own_sockets(attack: Scene) -> None:
    """The laptop's address in corp: refused where nobody listens, and no loop where a datagram is sent to the very port
    that its own flow has."""
    world = attack.world
    host = LAPTOP_IN_CORP[4]
    assert connect_errno(world.codespace, host, 81) == errno.ECONNREFUSED
    with world.corp.udp(CORP[4]) as server, world.codespace.inside(
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ) as client:
        server.settimeout(3)
        client.settimeout(0.5)
        client.sendto(b"who am I?", server.getsockname())
        _, (seen, port) = server.recvfrom(100)
        assert seen == host
        before = forwarded(attack)[1]
        client.sendto(b"to myself", (seen, port))
        got = []
        with contextlib.suppress(TimeoutError):
            while True:
                got.append(client.recvfrom(100))
        assert got in ([], [(b"to myself", (seen, port))])
        assert forwarded(attack)[1] == before + 1


@both
def test_names_of_the_bridges_own_network(attack: Scene, version: int) -> None:
    """Nothing there is forwarded but the gateway's own services, in disguise neither."""
    network = attack.gateway[4].rpartition(".")[0]
    hosts = [f"{network}.3", f"{network}.4"] if version == 4 else [
        attack.gateway[6].rpartition(":")[0] + ":77", f"::ffff:{network}.3", f"64:ff9b::{network}.1",
        f"64:ff9b::{network}.2",
    ]  # fmt: skip
    before = forwarded(attack)
    for host in hosts:
        denied = state(attack.bridge)["counters"]
        attack.wire.send(*each_protocol(attack.own[version], host, ECHO_PORT, 43400))
        wait_until(functools.partial(moved, attack, denied, 3), host, 5, 0.05)
    assert forwarded(attack) == before


def moved(attack: Scene, before: dict[str, dict[str, int]], count: int) -> bool:
    """Whether so many more packets were dropped, by the policy or as a group's."""
    after = state(attack.bridge)["counters"]
    names = (*((room, "dropped_policy") for room, _ in FORWARDED), ("ip", "group"))
    dropped: int = sum(after[room][name] - before[room][name] for room, name in names)
    return dropped >= count
