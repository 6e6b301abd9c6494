"""What all connections together hold to be sent is bounded, and none of them starves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from netbridge.stack.tcp.config import SEND_FLOOR, TcpConfig
from netbridge.stack.tcp.congestion import Unlimited
from netbridge.stack.tcp.flow import QUANTUM, Flow
from tests.stack.tcp.peer import PEER_ISN, Peer, User

BUDGET = 300_000
MANY = 8


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer(config=TcpConfig(send_budget=BUDGET, congestion=Unlimited, timestamps=False), offload=True)
    yield peer
    peer.close()


def flows(peer: Peer) -> list[tuple[Flow, int]]:
    """Connections whose peers take 8 MB each."""
    made = [peer.established(User(), window=65535, sport=6000 + number) for number in range(MANY)]
    assert peer.tcp.sending == 0
    return made


def acknowledges(peer: Peer, flow: Flow, isn: int, upto: int) -> None:
    peer.says("A", PEER_ISN + 1, isn + 1 + upto, sport=flow.remote[1], window=65535)


async def test_beyond_the_budget_each_has_its_floor_in_flight(peer: Peer) -> None:
    made = flows(peer)
    for flow, _ in made:
        flow.write(bytes(1_000_000))
    flights = [flow.connection.sender.flight for flow, _ in made]
    assert flights[0] == 1_000_000, "alone it may"
    assert all(SEND_FLOOR <= flight <= SEND_FLOOR + QUANTUM for flight in flights[1:])
    assert peer.tcp.sending == MANY * 1_000_000


async def test_each_goes_on_by_its_own_acknowledgements(peer: Peer) -> None:
    made = flows(peer)
    for flow, _ in made:
        flow.write(bytes(1_000_000))
    flow, isn = made[-1]
    done = 0
    while done < 1_000_000:
        flight = flow.connection.sender.flight
        assert 0 < flight <= SEND_FLOOR + QUANTUM
        done += flight
        acknowledges(peer, flow, isn, done)
    assert flow.connection.sender.flight == 0
    assert peer.tcp.sending == (MANY - 1) * 1_000_000


async def test_what_was_lost_is_sent_again_whatever_others_hold(peer: Peer) -> None:
    made = flows(peer)
    for flow, _ in made:
        flow.write(bytes(1_000_000))
    flow, isn = made[-1]
    peer.heard()
    flow.handle_timeout(flow.next_timeout())
    assert [packet.seq for packet in (one["TCP"] for one in peer.heard())] == [isn + 1 & 0xFFFFFFFF]


async def test_an_end_of_any_kind_gives_it_back(peer: Peer) -> None:
    made = flows(peer)
    for flow, _ in made:
        flow.write(bytes(100_000))
    made[0][0].abort()
    peer.says("R", PEER_ISN + 1, sport=made[1][0].remote[1])
    acknowledges(peer, *made[2], 100_000)
    assert peer.tcp.sending == (MANY - 3) * 100_000
    peer.stack.close()
    assert peer.tcp.sending == 0


async def test_nobody_counts_where_nobody_asks() -> None:
    peer = Peer(config=TcpConfig(send_budget=0, congestion=Unlimited), offload=True)
    flow, _ = peer.established(User(), window=65535)
    flow.write(bytes(1_000_000))
    assert flow.connection.sender.flight == 1_000_000
    assert peer.tcp.sending == 0
    peer.close()
