"""TCP in its stack: what finds its connection, what is answered without one, and what opens one."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import IPv6

from netbridge.stack.vnet import F_DATA_VALID, VNET
from tests.stack.fake import CLIENT4, GATEWAY4, SERVER4, packed
from tests.stack.tcp.peer import CLIENT, GATEWAY, NEXT, PEER_ISN, SERVER, Peer, User

# -- segments of no connection (RFC 9293, section 3.10.7.1)


@pytest.mark.parametrize("destination", ["own", "other"])
async def test_a_stray_is_reset(peer: Peer, destination: str) -> None:
    to = (GATEWAY if destination == "own" else SERVER)[peer.version]
    peer.says("A", 1000, 77, destination=to)
    reset = peer.hears("R", 77)
    assert (reset.sport, reset.dport) == (80, 5000)
    peer.says("SA", 1000, 5, destination=to)
    peer.hears("R", 5)
    peer.tcp.forward = None
    peer.says("F", 1000, data=b"abc", destination=to)
    peer.hears("RA", 0, 1004)
    assert peer.tcp.counters.resets_sent == 3


async def test_a_stray_reset_is_never_answered(peer: Peer) -> None:
    peer.says("R", 1000)
    peer.says("RA", 1000, 5)
    peer.silent()


async def test_a_syn_to_a_closed_port_is_refused(peer: Peer) -> None:
    peer.says("S", PEER_ISN, destination=GATEWAY[peer.version])
    reset = peer.hears("RA", 0, NEXT)
    assert reset.window == 0
    assert not peer.tcp.requests


async def test_without_a_forwarder_other_addresses_refuse(peer: Peer) -> None:
    peer.tcp.forward = None
    peer.says("S", PEER_ISN)
    peer.hears("RA", 0, NEXT)


async def test_a_wrong_checksum_is_dropped_unless_the_link_vouches(peer4: Peer) -> None:
    packet = bytearray(bytes(peer4.segment("A", 1000, 77)))
    packet[36] ^= 1
    peer4.inject(bytes(packet))
    peer4.silent()
    assert peer4.tcp.counters.bad_checksum == 1
    peer4.stack.packet_received(memoryview(VNET.pack(F_DATA_VALID, 0, 0, 0, 0, 0) + bytes(packet)))
    peer4.hears("R", 77)


async def test_a_wrong_checksum_reaches_no_connection(peer: Peer) -> None:
    user = User()
    peer.established(user)
    packet = bytearray(bytes(peer.segment("A", NEXT, 1, b"data")))
    packet[-1] ^= 1
    peer.inject(bytes(packet))
    assert user.data == b""
    assert peer.tcp.counters.bad_checksum == 1


async def test_headers_that_lie_about_their_length_are_dropped(peer: Peer) -> None:
    for offset in (0, 4, 15):
        packet = peer.segment("S", 1)
        packet[TCP].dataofs = offset
        peer.inject(packet)
    assert peer.tcp.counters.bad_header == 3
    peer.inject(_cut(peer))
    assert peer.tcp.counters.bad_header == 4
    peer.silent()


def _cut(peer: Peer) -> bytes:
    """A packet with 19 bytes of TCP, which the IP header admits."""
    layer = IP(src=CLIENT4, dst=SERVER4, proto=6) if peer.version == 4 else IPv6(src=CLIENT[6], dst=SERVER[6], nh=6)
    return bytes(layer / bytes(19))


@pytest.mark.parametrize(("sport", "dport"), [(0, 80), (5000, 0), (0, 0)])
async def test_port_0_is_no_port(peer: Peer, sport: int, dport: int) -> None:
    for flags in ("S", "A", "F"):
        peer.says(flags, 1, sport=sport, dport=dport)
    peer.silent()
    assert peer.requests == []
    assert peer.tcp.counters.bad_header == 3


async def test_land_and_other_martians_start_nothing(peer: Peer) -> None:
    own, server = GATEWAY[peer.version], SERVER[peer.version]
    for source, destination in ((own, own), (server, server), (own, server)):
        peer.says("S", 1, sport=80, dport=80, source=source, destination=destination)
        peer.says("A", 1, sport=80, dport=80, source=source, destination=destination)
    assert peer.stack.counters.martian == 6
    peer.silent()
    assert peer.requests == []
    assert not peer.tcp.requests


@pytest.mark.parametrize("flags", ["S", "A", "SA", "F"])
async def test_what_comes_from_outside_the_links_networks_is_dropped(peer: Peer, flags: str) -> None:
    peer.says(flags, 1, source="192.0.2.7" if peer.version == 4 else "2001:db8:bad::7")
    assert peer.stack.counters.spoofed == 1
    assert peer.requests == []
    peer.silent()


@pytest.mark.parametrize("flags", ["S", "A"])
async def test_a_segment_without_hops_left_is_told(peer: Peer, flags: str) -> None:
    peer.says(flags, 1, ttl=1)
    assert peer.hears_icmp() == ((11, 0) if peer.version == 4 else (3, 0))
    assert peer.requests == []
    request = peer.asks(ttl=5)
    assert request.ttl == 4


# -- opening


async def test_connect_uses_a_free_ephemeral_port(peer: Peer) -> None:
    ports = set()
    for _ in range(20):
        flow = peer.tcp.connect(packed(GATEWAY[peer.version]), (packed(SERVER[peer.version]), 80), User())
        ports.add(flow.local[1])
        assert peer.hears("S").sport == flow.local[1]
    assert len(ports) == 20
    assert min(ports) >= 49152


@pytest.mark.parametrize("version", [4, 6])
async def test_a_connection_opens_and_the_mss_fits_the_link(version: int) -> None:
    peer = Peer(version=version, sources=[])
    user = User()
    peer.tcp.connect(packed(GATEWAY[peer.version]), (packed(SERVER[peer.version]), 80), user)
    syn = peer.hears("S")
    assert dict(syn.options)["MSS"] == (1460 if peer.version == 4 else 1440)
    back = {"sport": 80, "dport": syn.sport, "source": SERVER[peer.version], "destination": GATEWAY[peer.version]}
    peer.says("SA", 9, syn.seq + 1, **back)
    peer.hears("A", syn.seq + 1, 10)
    assert user.calls == ["connected"]
    (flow,) = peer.tcp.flows.values()
    assert flow.connection.sender.mss == (536 if peer.version == 4 else 1220)
    peer.close()


@pytest.mark.parametrize(
    ("kind", "code", "error"),
    [(3, 3, ConnectionRefusedError), (3, 1, OSError), (3, 0, OSError), (3, 13, PermissionError)],
)
async def test_an_icmp_error_ends_an_opening(peer4: Peer, kind: int, code: int, error: type[OSError]) -> None:
    user = User()
    peer4.tcp.connect(packed(GATEWAY4), (packed(SERVER4), 80), user)
    (syn,) = peer4.heard()
    forged = syn.copy()
    forged[TCP].seq = (syn[TCP].seq + 5000) & 0xFFFFFFFF
    for quoted, closes in ((forged, 0), (syn, 1)):
        peer4.inject(IP(src=CLIENT4, dst=GATEWAY4) / ICMP(type=kind, code=code) / bytes(quoted)[:28])
        assert user.closes == closes
    assert isinstance(user.error, error)
    assert not peer4.tcp.flows


async def test_an_icmp_error_does_not_end_what_is_open(peer4: Peer) -> None:
    """Hard errors are soft once synchronized (RFC 5927, section 5.2)."""
    user = User()
    flow, _ = peer4.established(user)
    flow.write(b"x")
    (sent,) = peer4.heard()
    peer4.inject(IP(src=CLIENT4, dst=SERVER4) / ICMP(type=3, code=3) / bytes(sent)[:28])
    assert user.closes == 0
    assert peer4.tcp.flows
