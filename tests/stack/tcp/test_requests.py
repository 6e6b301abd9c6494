"""Requests: SYNs that wait until somebody decides about them."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from netbridge.stack.icmp.wire import Problem
from netbridge.stack.packet import text
from netbridge.stack.tcp.request import TcpRequest
from netbridge.stack.tcp.states import State
from tests.stack.tcp.peer import CLIENT, GATEWAY, NEXT, PEER_ISN, SERVER, Peer, User


async def test_a_request_says_who_wants_what(peer: Peer) -> None:
    request = peer.asks()
    assert (text(request.source), request.source_port) == (CLIENT[peer.version], 5000)
    assert (text(request.destination), request.destination_port) == (SERVER[peer.version], 80)
    assert request.options.mss == 1460
    assert request.options.wscale == 7
    assert CLIENT[peer.version] in repr(request)
    peer.silent()


async def test_an_accepted_request_is_answered_and_opens(peer: Peer) -> None:
    user = User()
    flow, isn = peer.syn_received(user)
    assert flow.connection.state is State.SYN_RECEIVED
    assert user.calls == []
    peer.says("A", NEXT, isn + 1, b"hello")
    assert user.calls == ["connected"]
    assert user.data == b"hello"
    flow.write(b"answer")
    segment = peer.hears("A", isn + 1, NEXT + 5)
    assert bytes(segment.payload) == b"answer"
    assert not peer.tcp.requests
    assert list(peer.tcp.flows.values()) == [flow]


async def test_nothing_is_said_while_a_request_is_held(peer: Peer) -> None:
    request = peer.asks()
    peer.says("S", PEER_ISN)
    peer.says("A", NEXT, 7)
    peer.says("FA", NEXT, 7)
    peer.silent()
    assert peer.tcp.counters.syn_repeated == 1
    assert peer.requests == []
    request.accept(User())
    peer.hears("SA", ack=NEXT)


async def test_a_refused_request_is_reset(peer: Peer) -> None:
    peer.asks().refuse()
    peer.hears("RA", 0, NEXT)
    assert not peer.tcp.requests
    peer.asks()  # and may be asked again


async def test_an_unreachable_request_is_told_by_icmp(peer: Peer) -> None:
    peer.asks().unreachable(Problem.HOST_UNREACHABLE)
    (packet,) = peer.heard()
    assert packet.src == GATEWAY[peer.version]
    assert not peer.tcp.requests
    quoted = bytes(packet)[28:] if peer.version == 4 else bytes(packet)[48:]
    inner = IP(quoted) if peer.version == 4 else IPv6(quoted)
    assert (inner.dst, inner[TCP].sport, inner[TCP].dport) == (SERVER[peer.version], 5000, 80)
    assert inner[TCP].seq == PEER_ISN


async def test_a_dropped_request_is_silence(peer: Peer) -> None:
    peer.asks().drop()
    peer.silent()
    assert not peer.tcp.requests
    assert peer.tcp.counters.dropped == 1
    peer.asks()


@pytest.mark.parametrize(("flags", "seq"), [("R", NEXT), ("R", PEER_ISN), ("RA", NEXT)])
async def test_a_request_is_taken_back_by_a_reset(peer: Peer, flags: str, seq: int) -> None:
    request = peer.asks()
    cancelled: list[bool] = []
    request.on_cancel = lambda: cancelled.append(True)
    peer.says(flags, seq)
    assert cancelled == [True]
    assert not peer.tcp.requests
    peer.silent()


async def test_a_reset_of_something_else_takes_no_request_back(peer: Peer) -> None:
    request = peer.asks()
    request.on_cancel = lambda: pytest.fail("cancelled")
    peer.says("R", NEXT + 5)
    peer.says("R", NEXT, sport=5001)
    assert list(peer.tcp.requests.values()) == [request]
    request.on_cancel = None


async def test_what_is_over_cannot_be_decided_again(peer: Peer) -> None:
    request = peer.asks()
    peer.says("R", NEXT)
    request.refuse()
    request.drop()
    request.unreachable(Problem.PROHIBITED)
    with pytest.raises(RuntimeError):
        request.accept(User())
    again = peer.asks()
    request.refuse()  # the old one has no say in the new one
    peer.silent()
    assert list(peer.tcp.requests.values()) == [again]
    assert peer.tcp.counters.dropped == 0


async def test_a_port_used_again_while_its_request_is_held_is_answered_for_its_last_syn(peer: Peer) -> None:
    """The client gave up without a word, as kernels do, and its next attempt has the same port."""
    request = peer.asks()
    peer.says("S", PEER_ISN + 100_000, options=[("MSS", 1000)])
    request.accept(User())
    peer.hears("SA", ack=PEER_ISN + 100_001)
    assert request.options.mss == 1000


async def test_a_lost_syn_ack_is_asked_for_again(peer: Peer) -> None:
    user = User()
    _, isn = peer.syn_received(user)
    peer.says("S", PEER_ISN)
    peer.hears("SA", isn, NEXT)
    peer.says("A", NEXT, isn + 1)
    assert user.calls == ["connected"]


async def test_whoever_decides_may_fail(peer: Peer, complaints: list[dict[str, Any]]) -> None:
    def decide(request: TcpRequest) -> None:
        raise ValueError("not today")

    peer.tcp.forward = decide
    peer.says("S", PEER_ISN)
    peer.silent()
    assert not peer.tcp.requests
    assert peer.tcp.counters.broken == 1
    assert [str(context["exception"]) for context in complaints] == ["not today"]

    peer.tcp.forward = peer.requests.append
    request = peer.asks()
    request.on_cancel = lambda: decide(request)
    peer.says("R", NEXT)
    assert not peer.tcp.requests
    assert len(complaints) == 2
