"""What is answered to segments for which there is no connection (RFC 9293, sections 3.10.7.1 and 3.10.7.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from netbridge.stack.tcp.flow import Flow
from netbridge.stack.tcp.states import State
from tests.stack.fake import GATEWAY4
from tests.stack.tcp.peer import PEER_ISN, Peer, User


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.mark.parametrize("flags", ["F", "", "P", "U"])
async def test_a_listener_ignores_what_is_neither_syn_nor_ack(peer: Peer, flags: str) -> None:
    peer.tcp.listen(None, 80, lambda _flow: User())
    peer.says(flags, PEER_ISN, data=b"x", destination=GATEWAY4)
    peer.silent()
    assert peer.tcp.counters.unanswered == 1
    peer.says(flags, PEER_ISN, data=b"x", dport=81, destination=GATEWAY4)
    peer.hears("RA", 0, PEER_ISN + 1 + flags.count("F"))


async def test_a_listener_resets_an_acknowledgement(peer: Peer) -> None:
    peer.tcp.listen(None, 80, lambda _flow: User())
    peer.says("A", PEER_ISN, 777, destination=GATEWAY4)
    peer.hears("R", 777)


async def test_the_refusal_of_a_syn_with_data_acknowledges_both(peer: Peer) -> None:
    peer.says("S", PEER_ISN, data=b"hello", destination=GATEWAY4)
    peer.hears("RA", 0, PEER_ISN + 6)
    peer.says("S", PEER_ISN, data=b"hello")
    peer.requests.pop().refuse()
    peer.hears("RA", 0, PEER_ISN + 6)


async def in_time_wait(peer: Peer, port: int = 80) -> tuple[Flow, int]:
    flows: list[Flow] = []

    def opened(flow: Flow) -> User:
        flows.append(flow)
        return User()

    close = peer.tcp.listen(None, port, opened)
    peer.says("S", PEER_ISN, dport=port, destination=GATEWAY4)
    isn = peer.hears("SA").seq
    peer.says("A", PEER_ISN + 1, isn + 1, dport=port, destination=GATEWAY4)
    flows[0].shutdown()
    peer.hears("FA", isn + 1)
    peer.says("FA", PEER_ISN + 1, isn + 2, dport=port, destination=GATEWAY4)
    peer.hears("A", isn + 2)
    assert flows[0].connection.state is State.TIME_WAIT
    close()
    return flows[0], isn


async def test_a_syn_ends_time_wait_only_where_somebody_takes_it(peer: Peer) -> None:
    flow, isn = await in_time_wait(peer)
    peer.says("S", PEER_ISN + 100_000, destination=GATEWAY4)
    peer.hears("A", isn + 2, PEER_ISN + 2)
    assert flow.connection.state is State.TIME_WAIT
    peer.tcp.listen(None, 80, lambda _flow: User())
    peer.says("S", PEER_ISN + 100_000, destination=GATEWAY4)
    peer.hears("SA", ack=PEER_ISN + 100_001)
    assert not peer.tcp.flows


@pytest.mark.parametrize("last", ["peer first", "both at once"])
async def test_an_abort_after_the_last_fin_is_silent(peer: Peer, last: str) -> None:
    """Section 3.10.5: in CLOSING and LAST-ACK the peer has said all, and would only be confused."""
    user = User()
    flow, isn = peer.established(user)
    if last == "peer first":
        peer.says("FA", PEER_ISN + 1, isn + 1)
        peer.hears("A")
        flow.shutdown()
        peer.hears("FA")
    else:
        flow.shutdown()
        peer.hears("FA")
        peer.says("FA", PEER_ISN + 1, isn + 1)
        peer.hears("A")
    flow.abort()
    peer.silent()
    assert not peer.tcp.flows
