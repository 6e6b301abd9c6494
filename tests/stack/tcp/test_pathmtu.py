"""Claims about a path's MTU: which are believed, and for how long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from scapy.layers.inet import ICMP, TCP
from scapy.layers.inet6 import ICMPv6PacketTooBig

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.pathmtu import LEAST, MOST, PLATEAUS, REMEMBERED, PathMtus, claimed_mtu
from tests.stack.tcp.peer import PEER_ISN, SERVER, Peer, User

A, B = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])


@pytest.mark.parametrize(
    ("version", "mtu", "quoted", "used"),
    [
        (4, 1400, 1500, 1400),
        (4, 1500, 1500, 0),  # not smaller than what it complains about
        (4, 9000, 1500, 0),
        (4, 68, 1500, LEAST[4]),  # legal and absurd: a forger's favourite
        (4, 68, 552, 0),
        (4, 0, 1500, 1492),  # RFC 1191, section 5: an old router
        (4, 0, 1492, 1006),
        (4, 0, 40, 0),
        (6, 1280, 1500, 1280),
        (6, 1279, 1500, 0),  # RFC 8201, section 4
        (6, 0, 1500, 0),
        (6, 1400, 1300, 0),
    ],
)
def test_claims(version: int, mtu: int, quoted: int, used: int) -> None:
    assert claimed_mtu(version, mtu, quoted) == used


def test_plateaus_fall_and_end_at_the_least() -> None:
    assert list(PLATEAUS) == sorted(PLATEAUS, reverse=True)
    assert PLATEAUS[-1] == LEAST[4]


def test_what_was_learned_is_used_for_ten_minutes() -> None:
    paths = PathMtus()
    paths.learn(A, 1400, 100.0)
    assert paths.get(A, 1500, 100.0) == 1400
    assert paths.get(B, 1500, 100.0) == 1500
    assert paths.get(A, 1300, 100.0) == 1300, "the link itself takes less"
    assert paths.get(A, 1500, 100.0 + REMEMBERED) == 1500
    assert len(paths) == 0


def test_the_oldest_is_forgotten() -> None:
    paths = PathMtus()
    for number in range(MOST + 10):
        paths.learn(number.to_bytes(4, "big"), 1400, 0.0)
    assert len(paths) == MOST
    assert paths.get((0).to_bytes(4, "big"), 1500, 0.0) == 1500
    assert paths.get((MOST + 9).to_bytes(4, "big"), 1500, 0.0) == 1400


# -- in a stack


def too_big(peer: Peer, sent: Any, mtu: int) -> None:
    """A router says that a packet the stack sent is too big for it."""
    quoted = bytes(sent)[:28 if peer.version == 4 else 48]
    error: Any = ICMP(type=3, code=4, nexthopmtu=mtu) if peer.version == 4 else ICMPv6PacketTooBig(mtu=mtu)
    peer.inject(peer.ip("203.0.113.1" if peer.version == 4 else "2001:db8:9::1", SERVER[peer.version]) / error / quoted)


@pytest.fixture(params=[4, 6])
async def peer(request: pytest.FixtureRequest) -> AsyncIterator[Peer]:
    peer = Peer(version=request.param, sources=[], config=TcpConfig(timestamps=False))
    yield peer
    peer.close()


def sizes(peer: Peer) -> list[int]:
    return [len(bytes(packet)) for packet in peer.heard()]


async def test_a_path_that_takes_less_is_believed_at_once_while_it_is_not_known(peer: Peer) -> None:
    flow, isn = peer.established(User())
    flow.write(bytes(4000))
    sent = peer.heard()
    assert {len(bytes(packet)) for packet in sent[:2]} == {1500}
    too_big(peer, sent[0], 1400)
    again = peer.heard()
    assert again, "what did not arrive is sent again at once"
    assert all(len(bytes(packet)) <= 1400 for packet in again)
    assert again[0][TCP].seq == isn + 1
    # The next connection to there knows.
    other, _ = peer.established(User(), sport=6000)
    other.write(bytes(4000))
    assert max(sizes(peer)) == 1400


async def test_a_path_that_took_such_packets_is_believed_only_when_they_are_lost(peer: Peer) -> None:
    flow, isn = peer.established(User())
    flow.write(bytes(8000))
    peer.heard()
    peer.says("A", PEER_ISN + 1, isn + 1 + 8000)
    flow.write(bytes(4000))
    sent = peer.heard()
    too_big(peer, sent[0], 1400)
    peer.silent()
    flow.handle_timeout(flow.next_timeout())
    assert max(sizes(peer)) <= 1400


async def test_a_path_is_known_even_after_all_sequence_numbers_were_used(peer: Peer) -> None:
    """4 GiB later SND.UNA stands where it began."""
    flow, _ = peer.established(User())
    flow.connection.sender.base = 1 << 32
    flow.write(bytes(4000))
    sent = peer.heard()
    too_big(peer, sent[0], 1400)
    peer.silent()


async def test_a_claim_about_what_passed_is_forgotten(peer: Peer) -> None:
    """RFC 5927, section 7.2: or it would be believed at the next loss of anything, hours later."""
    flow, isn = peer.established(User())
    flow.write(bytes(8000))
    peer.heard()
    peer.says("A", PEER_ISN + 1, isn + 1 + 8000)
    flow.write(bytes(4000))
    sent = peer.heard()
    too_big(peer, sent[0], 1400)
    peer.says("A", PEER_ISN + 1, isn + 1 + 12000)
    flow.write(bytes(4000))
    peer.heard()
    flow.handle_timeout(flow.next_timeout())
    flow.handle_timeout(flow.next_timeout())
    assert max(sizes(peer)) == 1500


async def test_a_claim_about_what_is_not_in_flight_is_not_believed(peer: Peer) -> None:
    flow, isn = peer.established(User())
    flow.write(bytes(2000))
    sent = peer.heard()
    peer.says("A", PEER_ISN + 1, isn + 1 + 2000)
    too_big(peer, sent[0], 1400)
    assert peer.stack.icmp.counters.errors_disbelieved == 1
    flow.write(bytes(2000))
    assert max(sizes(peer)) == 1500


async def test_an_absurd_claim_costs_little(peer: Peer) -> None:
    flow, _ = peer.established(User())
    flow.write(bytes(4000))
    sent = peer.heard()
    too_big(peer, sent[0], 68)
    again = sizes(peer)
    assert not again if peer.version == 6 else max(again) == LEAST[4]
