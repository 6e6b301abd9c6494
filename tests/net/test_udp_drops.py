"""What the bridge does not carry: who sent it is told where a router would tell, and each drop is counted."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from scapy.layers import inet, inet6
from scapy.packet import Packet, Raw

from netbridge.bridge.forward.hostsocket import MSG_ERRQUEUE
from netbridge.stack.icmp.limit import BURST, RATE
from tests.world import Bridge, World
from tests.world.addresses import CORP

from .conftest import Through
from .datagrams import FAMILY, IP, RECVERR, error_of, hears_nothing, inject, own_address, serving, where

pytestmark = pytest.mark.net

both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])
SCTP, EXPERIMENTAL = 132, 253
SO_RCVBUFFORCE = 33
NOWHERE = {4: ("10.1.2.3", "172.30.7.2", "192.0.2.1"), 6: ("fd01::3", "fd30:7::2", "2001:db8::1")}
"""Sources that are not the bridge's: somebody's, the codespace's own on the cloud's network, documentation's."""
GROUPS = {4: ("224.0.0.251", "239.1.2.3", "255.255.255.255"), 6: ("ff02::fb", "ff05::2", "ff0e::1")}


@pytest.fixture
def through(idle: World, start: Callable[..., Bridge]) -> Through:
    """A sandbox with a bridge of the test's own: what the bridge drops does not depend on the transport."""
    bridge = start("sandbox").ready()
    return Through("sandbox", bridge, idle.laptop, bridge.inside())


def counters(through: Through, group: str) -> dict[str, int]:
    assert through.bridge is not None
    found: dict[str, int] = through.bridge.status()["counters"][group]
    return found


def packet(version: int, source: str, destination: str, port: int, payload: bytes = b"forged") -> bytes:
    header: Packet = (inet.IP if version == 4 else inet6.IPv6)(src=source, dst=destination)
    return bytes(header / inet.UDP(sport=4000, dport=port) / Raw(payload))


def raw_client(through: Through, version: int, protocol: int, destination: str) -> socket.socket:
    """A raw socket in the codespace that is told errors."""
    made = through.inside(lambda: socket.socket(FAMILY[version], socket.SOCK_RAW, protocol))
    made.setsockopt(IP[version], RECVERR[version], 1)
    made.settimeout(3)
    made.connect((destination, 0))
    return made


def test_forged_sources_multicast_and_broadcast(through: Through, world: World) -> None:
    """A source outside the bridge's networks gets nothing through (BCP 38), and groups are nobody's."""
    sources, groups = 0, 0
    for version in (4, 6):
        own = own_address(through, version)
        with serving(world.corp, CORP[version]) as (server,):
            port = where(server)[1]
            inject(through, version, *(packet(version, source, CORP[version], port) for source in NOWHERE[version]))
            inject(through, version, *(packet(version, own, group, port) for group in GROUPS[version]))
            inject(through, version, packet(version, own, CORP[version], port, b"true"))
            assert server.recv(100) == b"true"
            assert hears_nothing(server)
        sources += len(NOWHERE[version])
        groups += len(GROUPS[version])
    counted = counters(through, "ip")
    assert (counted["spoofed"], counted["group"]) == (sources, groups)
    assert counters(through, "forward_udp")["packets_up"] == 2
    assert counters(through, "icmp")["errors_sent"] == 0, "nobody is told about a forged or a group's packet"


@both
def test_unknown_protocols_are_told(through: Through, version: int) -> None:
    """ICMP 3/2; ICMPv6 has a parameter problem at the next-header field (RFC 8200 section 4, RFC 4443 section 3.4)."""
    for protocol in (SCTP, EXPERIMENTAL):
        with raw_client(through, version, protocol, CORP[version]) as sock:
            begun = time.monotonic()
            sock.send(b"anybody?")
            error, _target = error_of(sock, version)
            assert time.monotonic() - begun < 1
            if version == 4:
                assert (error.type, error.code, error.errno) == (3, 2, errno.ENOPROTOOPT)
            else:
                assert (error.type, error.code, error.errno) == (4, 1, errno.EPROTO)
    assert counters(through, "ip")["unknown_protocol"] == 2


def test_errors_are_limited_and_their_number_is_no_oracle(through: Through) -> None:
    """Of a burst twice as long as allowed some half is answered, and never just the same number (SAD DNS)."""
    own = own_address(through, 4)
    flood = [bytes(inet.IP(src=own, dst=CORP[4], proto=EXPERIMENTAL) / Raw(b"anybody?"))] * BURST
    told = []
    with raw_client(through, 4, EXPERIMENTAL, CORP[4]) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20)
        for _burst in range(6):
            for _half in range(2):
                inject(through, 4, *flood)
            time.sleep(0.1 + BURST / RATE)
            told.append(errors_waiting(sock))
    counted = counters(through, "icmp")
    assert counted["errors_sent"] == sum(told)
    assert counted["errors_limited"] == counters(through, "ip")["unknown_protocol"] - sum(told) > BURST
    assert all(BURST / 2 < count < BURST * 1.8 for count in told), told
    assert len(set(told)) > 1, told


def errors_waiting(sock: socket.socket) -> int:
    """Take all errors there are; how many."""
    count = 0
    sock.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            sock.recvmsg(2000, 512, MSG_ERRQUEUE)
            count += 1
    return count
