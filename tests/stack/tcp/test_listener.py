"""A listener under a flood, and what becomes of the handshakes it holds."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from netbridge.stack.packet import text
from netbridge.stack.tcp.flow import Flow
from netbridge.stack.tcp.listener import BACKLOG, Listener
from netbridge.stack.vnet import F_NEEDS_CSUM, VNET_LEN
from tests.stack.fake import GATEWAY4, packed
from tests.stack.tcp.peer import PEER_ISN, Peer, User

OFFER = [("MSS", 1460), ("SAckOK", b""), ("NOP", None), ("WScale", 7)]


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


class Users:
    """Who gets the listener's connections."""

    def __init__(self) -> None:
        self.flows: list[Flow] = []
        self.users: list[User] = []

    def __call__(self, flow: Flow) -> User:
        self.flows.append(flow)
        self.users.append(User())
        return self.users[-1]


def listen(peer: Peer, *, backlog: int = BACKLOG) -> tuple[Listener, Users]:
    users = Users()
    peer.tcp.listen(None, 80, users, backlog)
    return peer.tcp.listeners[None, 80], users


def asks(peer: Peer, port: int = 5000, seq: int = PEER_ISN, **more: Any) -> int:
    """A SYN is answered; the listener's ISN."""
    peer.says("S", seq, sport=port, destination=GATEWAY4, options=OFFER, **more)
    return int(peer.hears("SA", ack=seq + 1).seq)


async def test_a_connection_exists_when_the_handshake_is_done_and_not_before(peer: Peer) -> None:
    listener, users = listen(peer)
    isn = asks(peer)
    assert not peer.tcp.flows
    assert not users.flows
    assert listener.half_open == 1
    peer.says("A", PEER_ISN + 1, isn + 1, destination=GATEWAY4)
    peer.silent()
    assert listener.half_open == 0
    assert list(peer.tcp.flows.values()) == users.flows
    assert users.users[0].calls == ["connected"]
    assert text(users.flows[0].remote[0]) == peer.ip().src
    assert users.flows[0].local == (packed(GATEWAY4), 80)
    peer.says("A", PEER_ISN + 1, isn + 1, b"hello", destination=GATEWAY4)
    assert users.users[0].data == b"hello"


async def test_data_and_fin_may_come_with_the_last_part_of_the_handshake(peer: Peer) -> None:
    _, users = listen(peer)
    isn = asks(peer)
    peer.says("FA", PEER_ISN + 1, isn + 1, b"all", destination=GATEWAY4)
    peer.hears("A", isn + 1, PEER_ISN + 5)
    assert users.users[0].data == b"all"
    assert users.users[0].calls == ["connected", "eof"]


async def test_what_the_syn_offered_holds_for_the_connection(peer: Peer) -> None:
    _, users = listen(peer)
    isn = asks(peer)
    peer.says("A", PEER_ISN + 1, isn + 1, window=100, destination=GATEWAY4)
    sender = users.flows[0].connection.sender
    assert sender.sack
    assert sender.wnd == 100 << 7
    assert sender.rtt.srtt > 0, "the handshake's round trip is known"


async def test_a_repeated_syn_is_answered_with_the_same_number(peer: Peer) -> None:
    listener, users = listen(peer)
    isn = asks(peer)
    assert asks(peer) == isn
    assert listener.half_open == 1
    peer.says("A", PEER_ISN + 1, isn + 1, destination=GATEWAY4)
    assert users.users[0].calls == ["connected"]


async def test_a_syn_ack_is_sent_again_after_1_2_4_seconds_and_then_forgotten(peer: Peer) -> None:
    listener, _ = listen(peer)
    isn = asks(peer)
    now = peer.stack.clock.now()
    at = []
    while listener.half_open:
        due = listener.next_timeout()
        listener.handle_timeout(due)
        if listener.half_open:
            at.append(round(due - now))
            peer.hears("SA", isn, PEER_ISN + 1)
    assert at == [1, 3, 7, 15, 31, 63]
    peer.silent()


async def test_only_the_right_answer_completes_a_handshake(peer: Peer) -> None:
    listener, users = listen(peer)
    isn = asks(peer)
    peer.says("A", PEER_ISN + 1, isn + 2, destination=GATEWAY4)
    peer.hears("R", isn + 2)  # RFC 9293, section 3.10.7.4, fifth
    assert listener.half_open == 1
    assert not users.flows


async def test_a_reset_ends_a_handshake_if_its_number_is_exact(peer: Peer) -> None:
    listener, users = listen(peer)
    asks(peer)
    peer.says("R", PEER_ISN + 1000, destination=GATEWAY4)
    assert listener.half_open == 1, "RFC 5961, section 3.2"
    peer.heard()
    peer.says("R", PEER_ISN + 1, destination=GATEWAY4)
    peer.silent()
    assert listener.half_open == 0
    assert not users.flows


async def test_beyond_the_backlog_the_oldest_handshake_gives_way(peer: Peer) -> None:
    listener, users = listen(peer, backlog=3)
    isns = [asks(peer, 5000 + number) for number in range(5)]
    assert listener.half_open == 3
    assert peer.tcp.counters.half_open_dropped == 2
    peer.says("A", PEER_ISN + 1, isns[4] + 1, sport=5004, destination=GATEWAY4)
    peer.silent()
    peer.says("A", PEER_ISN + 1, isns[0] + 1, sport=5000, destination=GATEWAY4)
    peer.hears("R", isns[0] + 1)
    assert len(users.flows) == 1


async def test_a_flood_touches_no_connection_and_is_bounded(peer: Peer) -> None:
    listener, users = listen(peer)
    isn = asks(peer)
    peer.says("A", PEER_ISN + 1, isn + 1, destination=GATEWAY4)
    syn = bytes(peer.segment("S", PEER_ISN, options=OFFER, destination=GATEWAY4))
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(BACKLOG + 1000):
            changed = bytearray(syn)
            changed[20:22] = (20000 + number).to_bytes(2, "big")
            peer.stack.packet_received(memoryview(bytes([F_NEEDS_CSUM]) + bytes(VNET_LEN - 1) + changed))
            peer.link.sent.clear()
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert listener.half_open == BACKLOG
    assert held / BACKLOG < 1024, "bytes of a handshake under way"
    assert list(peer.tcp.flows.values()) == users.flows
    peer.stack.burst_ended()
    peer.says("A", PEER_ISN + 1, isn + 1, b"still here", destination=GATEWAY4)
    assert users.users[0].data == b"still here"
    # Who asks now, beside the flood, gets through as well.
    isn = asks(peer, 6000)
    peer.says("A", PEER_ISN + 1, isn + 1, sport=6000, destination=GATEWAY4)
    assert len(users.flows) == 2


async def test_a_user_that_cannot_be_made_ends_that_connection_alone(peer: Peer) -> None:
    def opened(_flow: Flow) -> User:
        raise RuntimeError("no room")

    told: list[dict[str, Any]] = []
    peer.stack.loop.set_exception_handler(lambda _loop, context: told.append(context))
    peer.tcp.listen(None, 80, opened)
    isn = asks(peer)
    peer.says("A", PEER_ISN + 1, isn + 1, destination=GATEWAY4)
    peer.hears("RA", isn + 1)
    assert not peer.tcp.flows
    assert str(told[0]["exception"]) == "no room"


async def test_a_listener_that_closes_answers_as_a_closed_port(peer: Peer) -> None:
    close = peer.tcp.listen(None, 80, Users())
    isn = asks(peer)
    close()
    close()
    peer.says("A", PEER_ISN + 1, isn + 1, destination=GATEWAY4)
    peer.hears("R", isn + 1)
    with pytest.raises(ValueError, match="1 or more"):
        peer.tcp.listen(None, 80, Users(), 0)
