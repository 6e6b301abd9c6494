"""The pump: what a burst is answered with, and how flows share the link."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP

from tests.stack.tcp.peer import NEXT, PEER_ISN, Peer, User

# -- bursts


async def test_many_segments_of_a_burst_get_one_acknowledgement(peer: Peer) -> None:
    user = User()
    _, isn = peer.established(user)
    peer.inject(*(peer.segment("A", NEXT + 1000 * number, isn + 1, b"x" * 1000) for number in range(20)))
    peer.hears("A", isn + 1, NEXT + 20_000)
    assert len(user.data) == 20_000


async def test_what_a_user_writes_from_inside_a_callback_leaves_with_the_bursts_answer(peer: Peer) -> None:
    class Echo(User):
        def data_received(self, data: memoryview) -> int:
            flow.write(bytes(data))
            assert peer.link.sent == []
            return len(data)

    flow, isn = peer.established(Echo())
    peer.inject(*(peer.segment("A", NEXT + number, isn + 1, bytes([65 + number])) for number in range(3)))
    assert bytes(peer.hears("A", isn + 1, NEXT + 3).payload) == b"ABC"


async def test_a_user_that_aborts_from_inside_a_callback_resets_once(peer: Peer) -> None:
    class Picky(User):
        def data_received(self, data: memoryview) -> int:
            assert flow.abort()
            assert not flow.abort()
            return len(data)

    flow, isn = peer.established(Picky())
    segments = [peer.segment("A", NEXT + number, isn + 1, b"x") for number in range(3)]
    peer.inject(segments[0])
    peer.hears("RA", isn + 1)
    assert not peer.tcp.flows
    peer.inject(*segments[1:])
    assert [str(packet[TCP].flags) for packet in peer.heard()] == ["R", "R"]


async def test_reset_and_syn_of_the_same_ports_in_one_burst(peer: Peer) -> None:
    user = User()
    peer.established(user)
    peer.inject(peer.segment("R", NEXT), peer.segment("S", NEXT + 1000))
    assert isinstance(user.error, ConnectionResetError)
    (request,) = peer.requests
    assert request.seq == (NEXT + 1000) & 0xFFFFFFFF
    peer.silent()


async def test_fin_and_syn_of_the_same_ports_in_one_burst(peer: Peer) -> None:
    """passt f984003: the last ACK of the old connection and the SYN of the next may come together."""
    user = User()
    flow, isn = peer.established(user)
    peer.says("FA", NEXT, isn + 1)
    peer.hears("A", isn + 1, NEXT + 1)
    flow.shutdown()
    peer.hears("FA", isn + 1)
    peer.inject(peer.segment("A", NEXT + 1, isn + 2), peer.segment("S", NEXT + 1000))
    assert user.calls == ["connected", "eof", "closed"]
    assert user.error is None
    (request,) = peer.requests
    request.accept(User())
    peer.hears("SA", ack=NEXT + 1001)


async def test_a_timer_in_the_midst_of_a_burst_waits_for_its_end(peer: Peer) -> None:
    """A link may tell of a burst's end a turn later, and a retry be due in between; nothing may spin for it."""
    flow, _ = peer.syn_received(User())
    peer.inject(peer.segment("S", PEER_ISN), burst_ends=False)  # our SYN-ACK was lost
    flow.connection._retry_at = monotonic() - 0.01
    peer.stack.timers.update(flow)
    async with asyncio.timeout(1):
        await asyncio.sleep(0.02)
    assert flow.connection._syn_tries == 1
    peer.stack.burst_ended()
    peer.hears("SA")
    assert flow.connection._syn_tries == 2


# -- sharing the link


async def test_while_the_link_is_busy_acknowledgements_leave_and_data_takes_turns(peer4: Peer) -> None:
    peer, users = peer4, (User(), User())
    flows = []
    for number, user in enumerate(users):
        flows.append(peer.established(user, sport=5000 + number, window=4096)[0])
    peer.link.is_ready = False
    for flow in flows:
        flow.write(b"x" * 5000)
    peer.silent()
    assert len(peer.tcp.waiting) == 2
    peer.says("A", NEXT, flows[0].connection.sender.una, b"y" * 5000, sport=5000)
    assert bytes(peer.hears("A").payload) == b""

    order: list[int] = []
    send = peer.link.send

    def one_at_a_time(header: Any, payload: Any = b"") -> None:
        send(header, payload)
        order.append(IP(peer.link.sent[-1][10:])[TCP].dport)
        peer.link.is_ready = False

    peer.link.send = one_at_a_time  # type: ignore[method-assign]
    while peer.tcp.waiting:
        peer.link.is_ready = True
        peer.stack.link_ready()
    assert set(order[:4]) == {5000}  # a turn is a super-segment's worth
    assert set(order[4:]) == {5001}
    assert len(order) == 8


async def test_new_data_queues_behind_what_waits(peer4: Peer) -> None:
    peer = peer4
    first, second = (peer.established(User(), sport=port, window=4096)[0] for port in (5000, 5001))
    peer.link.is_ready = False
    first.write(b"a")
    peer.link.is_ready = True  # the link has room again, but has not said so yet
    second.write(b"b")
    peer.silent()
    peer.stack.link_ready()
    assert [bytes(packet[TCP].payload) for packet in peer.heard()] == [b"a", b"b"]
    assert not peer.tcp.waiting


async def test_a_user_hears_of_room_when_its_data_left(peer4: Peer) -> None:
    rooms: list[int] = []

    class Writer(User):
        def acked(self) -> None:
            rooms.append(flow.queued)

    flow, isn = peer4.established(Writer(), window=4096)
    rooms.clear()
    peer4.link.is_ready = False
    flow.write(b"x" * 3000)
    assert flow.queued == 3000
    peer4.link.is_ready = True
    peer4.stack.link_ready()
    assert rooms == [0]
    peer4.heard()
    flow.write(b"y" * 30_000)  # more than the congestion window
    peer4.heard()
    assert flow.queued > 0
    peer4.says("A", NEXT, isn + 1 + 3000 + 1460 * 8)
    assert rooms[-1] < 30_000 - 1460 * 8  # what the acknowledgement made room for has left first


@pytest.mark.timeout(10)
async def test_a_flow_that_ends_while_it_waits_for_the_link(peer4: Peer) -> None:
    users = User(), User(), User()
    flows = [peer4.established(user, sport=5000 + number)[0] for number, user in enumerate(users)]
    peer4.link.is_ready = False
    for flow in flows:
        flow.write(b"x" * 3000)
        flow.shutdown()
    flows[0].abort()
    peer4.says("R", NEXT, sport=5001)
    assert [str(packet[TCP].flags) for packet in peer4.heard()] == ["RA"]
    peer4.link.is_ready = True
    peer4.stack.link_ready()
    heard = peer4.heard()
    assert {packet[TCP].dport for packet in heard} == {5002}
    assert "F" in str(heard[-1][TCP].flags)
    assert not peer4.tcp.waiting
