"""Timestamps and ECN through the whole stack: what stands in the packets, with scapy as the peer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from scapy.layers.inet import TCP

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.flow import Flow

from .peer import GATEWAY, PEER_ISN, Peer, User

LINUX = (("MSS", 1460), ("SAckOK", b""), ("Timestamp", (5000, 0)), ("NOP", None), ("WScale", 7))


@pytest.fixture(params=[4, 6])
async def peer(request: pytest.FixtureRequest) -> AsyncIterator[Peer]:
    peer = Peer(version=request.param, config=TcpConfig(time_wait=60.0))
    yield peer
    peer.close()


def tos(packet: Any) -> int:
    return int(packet.tos if packet.version == 4 else packet.tc)


def stamp_of(segment: Any) -> tuple[int, int]:
    value, echo = dict(segment.options)["Timestamp"]
    return value, echo


def congested(packet: Any) -> Any:
    """A router marked it."""
    setattr(packet, "tos" if packet.version == 4 else "tc", 3)
    return packet


def opened(peer: Peer, user: User, flags: str = "S") -> tuple[Flow, int]:
    """A connection as Linux opens it, and our ISN. The peer's clock stands at 5000."""
    peer.says(flags, PEER_ISN, options=LINUX)
    flow = peer.requests.pop().accept(user)
    answer = peer.hears("SAE" if "E" in flags else "SA", ack=PEER_ISN + 1)
    assert [kind for kind, _ in answer.options] == ["MSS", "SAckOK", "Timestamp", "NOP", "WScale"]
    assert stamp_of(answer)[1] == 5000
    peer.says("A", PEER_ISN + 1, answer.seq + 1, options=stamped(5001))
    assert user.calls == ["connected"]
    return flow, int(answer.seq)


def stamped(value: int, echo: int = 0) -> list[tuple[str, object]]:
    return [("NOP", None), ("NOP", None), ("Timestamp", (value, echo))]


async def test_every_segment_is_stamped(peer: Peer) -> None:
    user = User()
    _, isn = opened(peer, user)
    peer.says("A", PEER_ISN + 1, isn + 1, bytes(2896), options=stamped(6000))
    first = stamp_of(peer.hears("A", ack=PEER_ISN + 2897))
    assert first[1] == 6000
    peer.says("A", PEER_ISN + 2897, isn + 1, bytes(2896), options=stamped(6001))
    second = stamp_of(peer.hears("A", ack=PEER_ISN + 5793))
    assert second[1] == 6001
    assert (second[0] - first[0]) & 0xFFFFFFFF < 60_000  # milliseconds
    peer.says("A", PEER_ISN + 5793, isn + 1, bytes(2896), options=stamped(5999))  # old by its stamp
    peer.hears("A", ack=PEER_ISN + 5793)
    peer.says("A", PEER_ISN + 5793, isn + 1, bytes(2896))  # without one
    peer.silent()
    assert len(user.data) == 5792


async def test_a_mark_in_the_ip_header_comes_back_as_ece(peer: Peer) -> None:
    user = User()
    flow, isn = opened(peer, user, "SEC")
    peer.inject(congested(peer.segment("A", PEER_ISN + 1, isn + 1, b"marked", options=stamped(6000))))
    peer.hears("AE", ack=PEER_ISN + 7)
    flow.write(b"answer")
    (packet,) = peer.heard()
    assert str(packet[TCP].flags) == "PAE"
    assert tos(packet) == 2  # ECT(0)
    peer.says("AC", PEER_ISN + 7, isn + 7, b"less", options=stamped(6001))
    peer.hears("A", ack=PEER_ISN + 11)


async def test_marks_mean_nothing_where_ecn_was_not_asked_for(peer: Peer) -> None:
    user = User()
    flow, isn = opened(peer, user)
    peer.inject(congested(peer.segment("A", PEER_ISN + 1, isn + 1, bytes(2896), options=stamped(6000))))
    peer.hears("A", ack=PEER_ISN + 2897)
    flow.write(b"answer")
    (packet,) = peer.heard()
    assert tos(packet) == 0


async def test_a_syn_that_is_repeated_without_asking_for_ecn_decides(peer: Peer) -> None:
    peer.says("SEC", PEER_ISN, options=LINUX)
    peer.says("S", PEER_ISN, options=LINUX)
    peer.requests.pop().accept(User())
    peer.hears("SA", ack=PEER_ISN + 1)


async def test_the_ports_of_time_wait_go_to_a_syn_with_a_newer_timestamp(peer: Peer) -> None:
    """RFC 6191: though its sequence number is a lower one."""
    user = User()
    flow, isn = opened(peer, user)
    flow.shutdown()
    peer.hears("FA")
    peer.says("FA", PEER_ISN + 1, isn + 2, options=stamped(6000))
    peer.hears("A", ack=PEER_ISN + 2)
    older = [*LINUX[:2], ("Timestamp", (5999, 0)), *LINUX[3:]]
    peer.says("S", PEER_ISN + 500, options=older)
    assert not peer.requests
    peer.hears("A", ack=PEER_ISN + 2)
    newer = [*LINUX[:2], ("Timestamp", (6001, 0)), *LINUX[3:]]
    peer.says("S", PEER_ISN - 500, options=newer)
    peer.requests.pop().accept(User())
    answer = peer.hears("SA", ack=PEER_ISN - 499)
    assert stamp_of(answer)[1] == 6001


async def test_a_listener_follows_a_peer_that_asks_for_ecn_no_more(peer: Peer) -> None:
    users: list[User] = []

    def opened(flow: Flow) -> User:
        flows.append(flow)
        users.append(User())
        return users[-1]

    flows: list[Flow] = []
    here = GATEWAY[peer.version]
    peer.tcp.listen(None, 80, opened)
    peer.says("SEC", PEER_ISN, options=LINUX, destination=here)
    peer.hears("SAE", ack=PEER_ISN + 1)
    peer.says("S", PEER_ISN, options=LINUX, destination=here)
    isn = peer.hears("SA", ack=PEER_ISN + 1).seq
    peer.says("A", PEER_ISN + 1, isn + 1, options=stamped(5001), destination=here)
    assert users[0].calls == ["connected"]
    assert not flows[0].connection.ecn
