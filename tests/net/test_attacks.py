"""Known attacks below and beside TCP: root in the codespace, or a host in corp, against a running bridge."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.packet import Packet, Raw

from tests.hostile.raw import checksum, udp_packet
from tests.world import World
from tests.world.addresses import CORP, ECHO_PORT

from .attacker import Scene, scene
from .conftest import Bridges

pytestmark = pytest.mark.net

UDP_FLOWS = 300
"""Fewer than usual, so that the short version of the attack reaches the limit; test_udp_crowd does without."""

both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])


@pytest.fixture(scope="module")
def attack(bridges: Bridges, world: World) -> Iterator[Scene]:
    with scene(bridges, world, "--limit", f"udp-flows={UDP_FLOWS}") as made:
        yield made


def head(attack: Scene, version: int, **fields: Any) -> Packet:
    """An IP header from the codespace's own address to corp."""
    return (IPv6 if version == 6 else IP)(src=attack.own[version], dst=CORP[version], **fields)


def piece(attack: Scene, version: int, identification: int, offset: int, data: bytes, *, more: bool) -> Packet:
    """One fragment of a UDP datagram. `offset` is in bytes."""
    if version == 4:
        part = head(attack, 4, id=identification & 0xFFFF, flags="MF" if more else 0, frag=offset // 8, proto=17)
        return part / Raw(data)
    fragment = IPv6ExtHdrFragment(nh=17, offset=offset // 8, m=int(more), id=identification)
    return head(attack, 6) / fragment / Raw(data)


def numbered(fragment: bytes, identification: int) -> bytes:
    """The same fragment of another datagram."""
    if fragment[0] >> 4 == 6:
        return fragment[:44] + struct.pack("!I", identification) + fragment[48:]
    return with_sum(fragment[:4] + struct.pack("!H", identification) + fragment[6:])


def with_sum(packet: bytes) -> bytes:
    """An IPv4 packet whose header has 20 bytes, with the checksum of these."""
    return packet[:10] + checksum(packet[:10] + b"\0\0" + packet[12:20]) + packet[12:]


def echoed(attack: Scene, version: int, data: bytes) -> bool:
    """Whether the echo service of corp answers an ordinary socket of the codespace, which asks up to ten times."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with attack.world.codespace.inside(lambda: socket.socket(family, socket.SOCK_DGRAM)) as client:
        client.settimeout(1)
        client.connect((CORP[version], ECHO_PORT))
        for _attempt in range(10):
            client.send(data)
            with suppress(TimeoutError):
                return client.recv(65536) == data
    return False


# --- pieces -----------------------------------------------------------------------------------------------------------


@both
def test_fragments_of_datagrams_that_never_end(attack: Scene, version: int) -> None:
    """CVE-2018-5391: the memory for them is bounded, and a datagram that is whole still comes through."""
    dice = random.Random(5391)
    with attack.survived("ip.fragments", "fragments.evicted"):
        kinds = [(at, size) for at in (0, 1480) for size in (8, 1400, 1400)]
        shapes = [bytes(piece(attack, version, 1, at, bytes(size), more=True)) for at, size in kinds]
        for number in range(4000):
            attack.wire.send(numbered(shapes[number % len(shapes)], 1000 + number))
        for number in dice.sample(range(1, 8000), 500):  # one datagram in crumbs
            attack.wire.send(piece(attack, version, 77, number * 8, bytes(8), more=True))
        assert echoed(attack, version, os.urandom(8000))


@both
def test_fragments_that_overlap_or_contradict_each_other(attack: Scene, version: int) -> None:
    """Teardrop, and the shape of CVE-2019-14378 (a first fragment larger than what is reassembled from it): nothing of
    them is delivered."""
    whole = bytes(head(attack, version) / UDP(sport=4000, dport=ECHO_PORT) / bytes(64))[-72:]
    sound = [(0, whole[:32], True), (40, whole[40:], False), (32, whole[32:40], True)]
    shapes = [
        [(0, whole[:32], True), (24, bytes(8), True), (40, whole[40:], False)],  # as many bytes as the whole has
        [(0, whole[:64], True), (24, bytes(8), False), (64, whole[64:], False)],
        [(0, whole + bytes(1300), True), (8, bytes(8), True), (64, bytes(8), False)],
        [(32, whole[32:], False), (0, whole[:40], True)],
        [(0, whole[:32], True), (40, whole[40:], False), (40, b"x" * 32, False), (32, whole[32:40], True)],
        [(64, whole[64:], False), (128, bytes(8), True), (0, whole[:64], True)],
        [(0, whole[:32], True), (40, whole[40:], False), (40, whole[40:], True), (32, whole[32:40], True)],
    ]

    def reaches(number: int, shape: list[tuple[int, bytes, bool]]) -> bool:
        for offset, data, more in shape:
            attack.wire.send(piece(attack, version, 500 + number, offset, data, more=more))
        answer = attack.wire.hear(lambda it: UDP in it and it[UDP].dport == 4000, 0.3, to=attack.own[version])
        return answer is not None

    with attack.survived("fragments.contradicting"):
        assert reaches(0, sound)
        for number, shape in enumerate(shapes, 1):
            assert not reaches(number, shape), shape


@both
def test_fragments_that_end_beyond_64_kib(attack: Scene, version: int) -> None:
    """The ping of death."""
    with attack.survived("ip.malformed"):
        for number in range(50):
            start = bytes(UDP(dport=ECHO_PORT)) + bytes(56)
            attack.wire.send(piece(attack, version, 900 + number, 0, start, more=True))
            attack.wire.send(piece(attack, version, 900 + number, 65528, bytes(64), more=bool(number % 2)))


# --- headers that lie -------------------------------------------------------------------------------------------------


def test_ipv4_headers_that_lie_about_lengths(attack: Scene) -> None:
    sound = bytes(head(attack, 4) / UDP(sport=4000, dport=ECHO_PORT) / b"data")
    with attack.survived("ip.malformed"):
        for length in (*range(5), 15):
            attack.wire.send(with_sum(bytes([0x40 | length]) + sound[1:]))
        for total in (0, 1, 19, 20, 21, len(sound) + 1, 65535):
            attack.wire.send(with_sum(sound[:2] + struct.pack("!H", total) + sound[4:]))
        for size in range(1, len(sound)):
            attack.wire.send(sound[:size])
        for options in (b"\x44\0\0\0", b"\x44\1\0\0", b"\x07\xff\0\0", b"\x01\x01\x01\x83"):
            longer = b"\x46" + sound[1:2] + struct.pack("!H", len(sound) + 4) + sound[4:20] + options
            attack.wire.send(longer[:10] + checksum(longer[:10] + b"\0\0" + longer[12:]) + longer[12:] + sound[20:])


def test_ipv6_headers_that_lie_about_lengths(attack: Scene) -> None:
    udp = UDP(sport=4000, dport=ECHO_PORT) / b"data"
    sound = bytes(head(attack, 6) / udp)
    with attack.survived("ip.malformed", "udp.malformed"):
        for length in (0, 1, 7, len(sound), 65535):
            attack.wire.send(sound[:4] + struct.pack("!H", length) + sound[6:])
        for size in range(1, len(sound)):
            attack.wire.send(sound[:size])
        for kind in (IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt):
            for length in (1, 2, 255):
                attack.wire.send(head(attack, 6) / kind(len=length) / udp)
            for options in (b"\x01\xff\0\0\0\0", b"\x01\x01\0\x01\xff\0", b"\x05\x03\0\0\0\0"):
                before = head(attack, 6, nh=0 if kind is IPv6ExtHdrHopByHop else 60)
                attack.wire.send(before / Raw(b"\x11\0" + options) / udp)
        many = head(attack, 6)
        for _header in range(40):
            many = many / IPv6ExtHdrDestOpt()
        attack.wire.send(many / udp)


@both
def test_datagrams_that_lie_about_their_length(attack: Scene, version: int) -> None:
    """CVE-2021-3592 to -3595: what they claim and did not bring is never sent back."""
    with attack.survived("udp.malformed", "icmp.malformed"):
        for length in (0, 1, 7, 13, 1400, 65535):
            attack.wire.send(head(attack, version) / UDP(sport=4000, dport=ECHO_PORT, len=length) / b"data")
        for size in range(8):
            attack.wire.send(head(attack, version, **{"nh" if version == 6 else "proto": 17}) / Raw(bytes(size)))
            protocol = {"nh": 58} if version == 6 else {"proto": 1}
            attack.wire.send(head(attack, version, **protocol) / Raw(b"\x80\0\0\0\0\0\0\0"[:size]))
        answer = attack.wire.hear(
            lambda it: UDP in it and it[UDP].dport == 4000 and len(it[UDP].payload) > 4, 0.3, to=attack.own[version]
        )
        assert answer is None


# --- ICMP -------------------------------------------------------------------------------------------------------------


@contextmanager
def longer_replies(world: World, version: int) -> Iterator[list[int]]:
    """Corp answers every ping with ten times the bytes. Yields the sizes of the requests it saw."""
    switch = "ipv4/icmp_echo_ignore_all" if version == 4 else "ipv6/icmp/echo_ignore_all"
    world.corp.shell(f"echo 1 > /proc/sys/net/{switch}").check()
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if version == 6 else (socket.AF_INET, 1)
    raw = world.corp.inside(lambda: socket.socket(family, socket.SOCK_RAW, protocol))
    seen: list[int] = []

    over = False
    raw.settimeout(0.1)

    def answer() -> None:
        while not over:
            try:
                data, peer = raw.recvfrom(65536)
            except TimeoutError:
                continue
            message = data if version == 6 else data[(data[0] & 15) * 4 :]
            if message[0] != (128 if version == 6 else 8):
                continue
            seen.append(len(message))
            reply = bytes([129 if version == 6 else 0, 0, 0, 0]) + message[4:] + message[8:] * 10
            raw.sendto(reply if version == 6 else reply[:2] + checksum(reply) + reply[4:], peer)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over = True
        thread.join(5)
        raw.close()
        world.corp.shell(f"echo 0 > /proc/sys/net/{switch}").check()


@both
def test_ping_replies_longer_than_the_request(attack: Scene, version: int) -> None:
    """What a corp host sends beyond what was asked does not enter the codespace."""
    with attack.survived("forward_icmp.dropped_oversize"), longer_replies(attack.world, version) as seen:
        output = attack.world.codespace.run("ping", "-c", "2", "-i", "0.2", "-W", "1", "-s", "56", CORP[version])
        assert "0 received" in output.stdout
        assert seen.count(64) >= 2


@both
def test_forged_packet_too_big(attack: Scene, version: int) -> None:
    """RFC 5927: about a segment that is not on its way, about somebody else's packet, about nothing; an open connection
    sends on as before."""
    own, corp = attack.own[version], CORP[version]
    with (
        attack.survived("icmp.errors_disbelieved", "icmp.malformed"),
        attack.world.corp.listen(corp) as listener,
        attack.world.codespace.connect(corp, listener.getsockname()[1]) as victim,
    ):
        server, _peer = listener.accept()
        with server:
            quoted = TCP(sport=listener.getsockname()[1], dport=victim.getsockname()[1], seq=12345)
            network = IPv6 if version == 6 else IP
            to_bridge = network(src=own, dst=corp)
            error = ICMPv6PacketTooBig(mtu=68) if version == 6 else ICMP(type=3, code=4, nexthopmtu=68)
            for _number in range(100):
                attack.wire.send(to_bridge / error / network(src=corp, dst=own) / quoted)
            attack.wire.send(to_bridge / error / network(src=own, dst=corp) / quoted)
            attack.wire.send(to_bridge / error / Raw(b"\x45"))
            data = os.urandom(2_000_000)
            sending = threading.Thread(target=server.sendall, args=(data,), daemon=True)
            sending.start()
            got = b""
            victim.settimeout(5)
            while len(got) < len(data):
                got += victim.recv(1 << 16)
            assert got == data
            port = victim.getsockname()[1]

            def large(it: Packet) -> bool:
                return TCP in it and it[TCP].dport == port and len(it[TCP].payload) > 1000

            assert attack.wire.hear(large, to=own) is not None
            assert attack.wire.gso_size in {0, *range(1000, 1500)}


# --- many flows -------------------------------------------------------------------------------------------------------


def test_udp_flows_by_the_thousand(attack: Scene) -> None:
    """10,000 from as many addresses, of one datagram each, at once: the oldest give way, the honest one is served."""
    target = socket.inet_pton(socket.AF_INET6, CORP[6])
    with attack.survived("forward_udp.flows_recycled", growth=60):
        for number in range(10_000):
            attack.wire.send(udp_packet(attack.stranger_packed(), target, (1024 + number, ECHO_PORT), b"flow"))
        for version in (4, 6):
            assert echoed(attack, version, b"served")
