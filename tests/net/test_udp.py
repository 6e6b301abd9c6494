"""UDP through the bridge is as UDP from the laptop: every size, every error, nobody else's datagrams."""

from __future__ import annotations

import errno
import socket
import statistics
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers import inet, inet6
from scapy.packet import Packet, Raw

from netbridge.bridge.forward.hostsocket import IPV6_HOPLIMIT, IPV6_RECVHOPLIMIT, IPV6_UNICAST_HOPS
from tests.world import World
from tests.world.addresses import BRANCH, CLOSED_PORT, CORP, CORP_TO_BRANCH, ECHO_PORT, NARROW

from .conftest import CONTROL, Through
from .datagrams import (
    FAMILY,
    IP,
    MTU,
    MTU_DISCOVER,
    RECVERR,
    ancillary_number,
    client,
    error_of,
    hears_nothing,
    inject,
    own_address,
    peer_seen,
    serving,
    where,
)

pytestmark = pytest.mark.net

both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])
MOST = {4: 65507, 6: 65527}
"""65,535 less the headers; IPv6 does not count its own."""
PMTUDISC_DONT, PMTUDISC_DO = 0, 2


@both
def test_empty_datagrams_are_data(through: Through, world: World, version: int) -> None:
    with serving(world.corp, CORP[version]) as (server,), client(through, version) as sock:
        peer = peer_seen(sock, server, b"")
        for payload in (b"", b"", b"after"):
            server.sendto(payload, peer)
            assert sock.recv(100) == payload


@both
def test_the_largest_datagram(through: Through, world: World, version: int) -> None:
    data = bytes(range(256)) * 256
    with serving(world.corp, CORP[version]) as (server,), client(through, version) as sock:
        up, down = data[: MOST[version]], data[::-1][: MOST[version]]
        peer = peer_seen(sock, server, up)
        server.sendto(down, peer)
        assert sock.recv(70000) == down
        with pytest.raises(OSError, match="Message too long"):
            sock.sendto(data[: MOST[version] + 1], where(server))


@both
def test_fragments_in_any_order_and_twice(through: Through, world: World, version: int) -> None:
    """The kernel sends fragments in order; networks need not deliver them so."""
    if through.transport == CONTROL:
        pytest.skip("raw packets need the bridge's device")
    data = bytes(number % 251 for number in range(6000))
    with serving(world.corp, CORP[version]) as (server,), client(through, version) as sock:
        sock.bind((own_address(through, version), 0))
        for number, order in enumerate(([4, 3, 2, 1, 0], [1, 0, 1, 4, 0, 2, 2, 3, 3])):
            sent = data[number:]
            packets = fragments(version, where(sock), where(server), sent, 0x5000 + number)
            assert len(packets) == 5
            inject(through, version, *(packets[at] for at in order))
            received, peer = server.recvfrom(65536)
            assert received == sent
            server.sendto(received, peer)
            assert sock.recv(65536) == sent
        assert hears_nothing(server)


def fragments(
    version: int, source: tuple[str, int], destination: tuple[str, int], payload: bytes, number: int
) -> list[bytes]:
    """The packets of one datagram, some 1,300 bytes each."""
    body: Packet = inet.UDP(sport=source[1], dport=destination[1]) / Raw(payload)
    split: Any = inet.fragment if version == 4 else inet6.fragment6
    if version == 4:
        return [bytes(packet) for packet in split(inet.IP(src=source[0], dst=destination[0], id=number) / body, 1280)]
    header: Packet = inet6.IPv6(src=source[0], dst=destination[0]) / inet6.IPv6ExtHdrFragment(id=number)
    return [bytes(packet) for packet in split(header / body, 1340)]


@pytest.fixture
def unlearnt(world: World, through: Through) -> Iterator[None]:
    """Neither end knows a path MTU yet, and they forget it afterwards."""

    def forget() -> None:
        for run in (through.run, world.laptop.run):
            run("ip", "route", "flush", "cache").check()
            run("ip", "-6", "route", "flush", "cache").check()

    forget()
    yield
    forget()


@both
@pytest.mark.usefixtures("unlearnt")
def test_path_mtu_is_discovered(through: Through, version: int) -> None:
    """The first datagram that is too long meets a router, the second EMSGSIZE, and IP_MTU tells why."""
    with client(through, version) as sock:
        sock.setsockopt(IP[version], MTU_DISCOVER[version], PMTUDISC_DO)
        sock.connect((BRANCH[version], ECHO_PORT))
        assert sock.getsockopt(IP[version], MTU[version]) == 1500
        sock.send(bytes(1400))
        with pytest.raises(OSError, match="Message too long"):
            sock.recv(2000)
        assert sock.getsockopt(IP[version], MTU[version]) == NARROW
        with pytest.raises(OSError, match="Message too long"):
            sock.send(bytes(1400))
        most = NARROW - {4: 28, 6: 48}[version]
        sock.send(bytes(most))
        assert len(sock.recv(2000)) == most
        with pytest.raises(OSError, match="Message too long"):
            sock.send(bytes(most + 1))


@pytest.mark.usefixtures("unlearnt")
def test_without_df_routers_fragment(through: Through) -> None:
    with client(through, 4) as sock:
        sock.setsockopt(socket.IPPROTO_IP, MTU_DISCOVER[4], PMTUDISC_DONT)
        sock.connect((BRANCH[4], ECHO_PORT))
        for size in (1400, 4000):
            sock.send(bytes(size))
            assert len(sock.recv(5000)) == size
        assert sock.getsockopt(socket.IPPROTO_IP, MTU[4]) == 1500


@both
def test_closed_port_refuses_a_connected_socket_at_once(through: Through, version: int) -> None:
    seconds = []
    with client(through, version) as sock:
        sock.connect((CORP[version], CLOSED_PORT))
        for _attempt in range(5):
            begun = time.monotonic()
            sock.send(b"anybody there?")
            with pytest.raises(ConnectionRefusedError):
                sock.recv(100)
            seconds.append(time.monotonic() - begun)
    assert statistics.median(seconds) < 0.1, seconds


@both
def test_closed_port_is_told_to_an_unconnected_socket(through: Through, version: int) -> None:
    """By IP_RECVERR: what, by whom, about which destination."""
    with client(through, version) as sock:
        sock.setsockopt(IP[version], RECVERR[version], 1)
        sock.sendto(b"anybody there?", (CORP[version], CLOSED_PORT))
        error, target = error_of(sock, version)
    assert error.errno == errno.ECONNREFUSED
    assert (error.type, error.code) == {4: (3, 3), 6: (1, 4)}[version]
    assert error.offender == socket.inet_pton(FAMILY[version], CORP[version])
    assert target == (CORP[version], CLOSED_PORT)
    assert error.data == b"anybody there?"


@both
def test_an_unconnected_socket_hears_whom_it_spoke_to(through: Through, world: World, version: int) -> None:
    """Three destinations see it at one port; a stranger who learns that port is refused."""
    with (
        serving(world.corp, CORP[version], CORP_TO_BRANCH[version], CORP[version]) as (one, two, stranger),
        serving(world.branch, BRANCH[version]) as (three,),
        client(through, version) as sock,
    ):
        known = (one, two, three)
        (peer,) = {peer_seen(sock, server) for server in known}
        if through.transport != CONTROL:
            stranger.connect(peer)
            stranger.send(b"forged")
            with pytest.raises(ConnectionRefusedError):
                stranger.recv(100)
        for number, server in enumerate(known):
            server.sendto(b"answer %d" % number, peer)
        answers = {}
        for _server in known:
            answer, source = sock.recvfrom(100)
            answers[source[:2]] = answer
        assert answers == {where(server): b"answer %d" % number for number, server in enumerate(known)}
        assert hears_nothing(sock)


@both
def test_one_question_a_socket(through: Through, version: int) -> None:
    """As a resolver does; every one is answered."""
    for number in range(300):
        with client(through, version) as sock:
            question = b"question %d" % number
            sock.sendto(question, (CORP[version], ECHO_PORT))
            assert sock.recv(100) == question


def test_checksum_0_is_fine_on_ipv4(through: Through, world: World) -> None:
    so_no_check = 11
    with serving(world.corp, CORP[4]) as (server,), client(through, 4) as sock:
        sock.setsockopt(socket.SOL_SOCKET, so_no_check, 1)
        peer_seen(sock, server)


def test_checksum_0_is_dropped_on_ipv6(through: Through, world: World) -> None:
    """RFC 8200 section 8.1."""
    udp_no_check6_tx = 101
    if through.bridge is None:
        pytest.skip("a kernel that receives decides for itself (UDP_NO_CHECK6_RX); here the bridge is looked at")
    with serving(world.corp, CORP[6]) as (server,), client(through, 6) as sock:
        before = through.bridge.status()["counters"]["udp"]["malformed"]
        sock.setsockopt(socket.IPPROTO_UDP, udp_no_check6_tx, 1)
        sock.sendto(b"unchecked", where(server))
        assert hears_nothing(server)
        assert through.bridge.status()["counters"]["udp"]["malformed"] == before + 1
        sock.setsockopt(socket.IPPROTO_UDP, udp_no_check6_tx, 0)
        peer_seen(sock, server)


def test_ttl_df_and_dscp_are_carried(through: Through, world: World) -> None:
    """As corp's wire shows them. The bridge is one hop; the laptop itself is none."""
    raw = world.corp.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP))
    with raw, serving(world.corp, CORP[4]) as (server,), client(through, 4) as sock:
        raw.settimeout(3)
        for ttl, discover, tos in ((20, PMTUDISC_DO, 0), (9, PMTUDISC_DONT, 0x28), (200, PMTUDISC_DO, 0xB8)):
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            sock.setsockopt(socket.IPPROTO_IP, MTU_DISCOVER[4], discover)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
            sock.sendto(b"look at me", where(server))
            while not (packet := raw.recv(100)).endswith(b"look at me"):
                pass
            (flags,) = struct.unpack_from("!H", packet, 6)
            seen = (packet[8], bool(flags & 0x4000), packet[1])
            assert seen == (ttl - (through.transport != CONTROL), discover == PMTUDISC_DO, tos)


def test_hop_limit_is_carried(through: Through, world: World) -> None:
    with serving(world.corp, CORP[6]) as (server,), client(through, 6) as sock:
        server.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1)
        for hops in (20, 200):
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_UNICAST_HOPS, hops)
            sock.sendto(b"look at me", where(server))
            assert ancillary_number(server, IPV6_HOPLIMIT) == hops - (through.transport != CONTROL)
