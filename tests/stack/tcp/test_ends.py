"""How a flow ends in its stack: TIME-WAIT and its ports, resets, a stack that closes, users that fail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from scapy.layers.inet import TCP

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.flow import Flow
from netbridge.stack.tcp.states import State
from tests.stack.fake import GATEWAY4, SERVER4, packed
from tests.stack.tcp.peer import GATEWAY, NEXT, PEER_ISN, SERVER, Peer, User

# -- TIME-WAIT


def time_wait(peer: Peer, user: User) -> tuple[Flow, int]:
    """A connection in TIME-WAIT: we closed first, then the peer did."""
    flow, isn = peer.established(user)
    flow.shutdown()
    peer.hears("FA", isn + 1)
    peer.says("A", NEXT, isn + 2)
    peer.says("FA", NEXT, isn + 2)
    peer.hears("A", isn + 2, NEXT + 1)
    assert flow.connection.state is State.TIME_WAIT
    return flow, isn


async def test_a_newer_syn_takes_the_ports_over_from_time_wait(peer: Peer) -> None:
    user = User()
    old, _ = time_wait(peer, user)
    peer.says("S", NEXT + 2)
    assert user.calls == ["connected", "eof", "closed"]  # whoever counts on `closed` is told
    assert user.error is None
    (request,) = peer.requests
    new = request.accept(User())
    peer.hears("SA", ack=NEXT + 3)
    assert list(peer.tcp.flows.values()) == [new]
    assert old.connection.next_timeout() > 1e9


async def test_an_old_syn_does_not(peer: Peer) -> None:
    user = User()
    _, isn = time_wait(peer, user)
    peer.says("S", PEER_ISN - 5)
    peer.hears("A", isn + 2, NEXT + 1)
    assert peer.requests == []
    assert user.closes == 0


async def test_unread_data_outlives_the_ports(peer: Peer) -> None:
    user = User()
    user.room = 1
    flow, isn = peer.established(user)
    flow.shutdown()
    peer.heard()
    peer.says("FA", NEXT, isn + 2, b"last words")
    assert flow.connection.state is State.TIME_WAIT
    peer.heard()
    peer.says("S", NEXT + 1000)
    (request,) = peer.requests
    new = request.accept(User())
    assert user.closes == 0
    user.room = 1 << 20
    flow.drain()
    assert user.data == b"last words"
    assert user.calls == ["connected", "eof", "closed"]
    assert list(peer.tcp.flows.values()) == [new]
    assert peer.tcp.budget.used == 0


async def test_a_repeated_fin_in_time_wait_is_acknowledged_again(peer: Peer) -> None:
    _, isn = time_wait(peer, User())
    peer.says("FA", NEXT, isn + 2)
    peer.hears("A", isn + 2, NEXT + 1)


async def test_time_wait_ends() -> None:
    peer = Peer(config=TcpConfig(time_wait=0.02))
    user = User()
    time_wait(peer, user)
    await asyncio.sleep(0.06)
    assert user.calls[-1] == "closed"
    assert user.error is None
    assert not peer.tcp.flows
    peer.close()


# -- ends


async def test_abort_of_what_is_over_but_unread_leaves_nothing(peer: Peer) -> None:
    user = User()
    user.room = 0
    flow, isn = peer.established(user)
    peer.says("FA", NEXT, isn + 1, b"data")
    flow.shutdown()
    peer.heard()
    peer.says("A", NEXT + 5, isn + 2)
    assert flow.connection.state is State.CLOSED
    assert user.closes == 0
    assert peer.tcp.budget.used == 4
    assert flow.abort()
    assert peer.tcp.budget.used == 0
    assert not peer.tcp.flows
    peer.silent()


@pytest.mark.timeout(10)
async def test_a_reset_while_the_fin_waits_for_the_window(peer: Peer) -> None:
    user = User()
    flow, _ = peer.established(user, window=8)
    flow.write(b"x" * 10_000)
    flow.shutdown()
    peer.heard()
    peer.says("R", NEXT)
    assert isinstance(user.error, ConnectionResetError)
    assert user.closes == 1
    assert not peer.tcp.flows
    peer.silent()


async def test_close_resets_everything_and_tells_everybody(peer: Peer) -> None:
    user, opening, held = User(), User(), []
    peer.established(user)
    peer.tcp.connect(packed(GATEWAY[peer.version]), (packed(SERVER[peer.version]), 80), opening)
    peer.hears("S")
    peer.asks(sport=5001).on_cancel = lambda: held.append(True)
    peer.inject(peer.segment("A", NEXT, data=b"x"), burst_ends=False)
    peer.close()
    peer.hears("RA")
    assert isinstance(user.error, ConnectionAbortedError)
    assert isinstance(opening.error, ConnectionAbortedError)
    assert (user.closes, opening.closes, held) == (1, 1, [True])
    assert not peer.tcp.flows
    assert not peer.tcp.requests
    assert len(peer.stack.timers) == 0
    peer.says("S", PEER_ISN, sport=5002)  # what still comes in starts nothing
    assert peer.requests == []
    with pytest.raises(OSError, match="Network is down"):
        peer.tcp.connect(packed(GATEWAY4), (packed(SERVER4), 80), User())


async def test_a_user_that_fails_loses_its_flow_and_nobody_else_does(
    peer: Peer, complaints: list[dict[str, Any]]
) -> None:
    class Broken(User):
        def data_received(self, data: memoryview) -> int:
            raise OSError("disk full")

    class BrokenAtAcked(User):
        def acked(self) -> None:
            raise ValueError("acked")

    broken, late, fine = Broken(), BrokenAtAcked(), User()
    _, isn1 = peer.established(broken, sport=5001)
    late_flow, isn2 = peer.established(late, sport=5002)
    _, isn3 = peer.established(fine, sport=5003)
    late_flow.write(b"x")
    peer.heard()
    peer.inject(
        peer.segment("A", NEXT, isn1 + 1, b"x", sport=5001), peer.segment("A", NEXT, isn2 + 2, sport=5002),
        peer.segment("A", NEXT, isn3 + 1, b"x" * 3000, sport=5003),
    )  # fmt: skip
    flags = {packet[TCP].dport: str(packet[TCP].flags) for packet in peer.heard()}
    assert flags == {5001: "RA", 5002: "RA", 5003: "A"}
    assert isinstance(broken.error, ConnectionAbortedError)
    assert isinstance(late.error, ConnectionAbortedError)
    assert len(fine.data) == 3000
    assert sorted(str(context["exception"]) for context in complaints) == ["acked", "disk full"]
    assert len(peer.tcp.flows) == 1
    assert peer.tcp.counters.broken == 2


async def test_a_user_that_fails_even_when_told_of_the_end(peer: Peer, complaints: list[dict[str, Any]]) -> None:
    class Hopeless(User):
        def eof_received(self) -> None:
            raise ValueError("eof")

        def closed(self, error: OSError | None) -> None:
            raise ValueError("closed")

    _, isn = peer.established(Hopeless())
    peer.says("FA", NEXT, isn + 1)
    peer.hears("RA")
    assert [str(context["exception"]) for context in complaints] == ["eof", "closed"]
    _, isn = peer.established(Hopeless())
    peer.says("R", NEXT)
    assert not peer.tcp.flows
    peer.established(Hopeless())
    peer.close()
    assert not peer.tcp.flows


async def test_a_user_that_fails_at_a_timeout(complaints: list[dict[str, Any]]) -> None:
    class Broken(User):
        def closed(self, error: OSError | None) -> None:
            super().closed(error)
            raise ValueError("closed")

    peer = Peer(config=TcpConfig(time_wait=0.01))
    user = Broken()
    time_wait(peer, user)
    other = User()
    peer.established(other, sport=5001)
    await asyncio.sleep(0.03)
    assert user.closes == 1
    assert len(complaints) == 1
    (flow,) = peer.tcp.flows.values()
    assert flow._user is other
    peer.close()


async def test_who_has_not_read_all_hears_of_the_end_of_the_stack() -> None:
    peer, user = Peer(), User()
    user.room = 1
    flow, isn = peer.established(user)
    flow.shutdown()
    peer.says("FA", NEXT, isn + 2, b"last words")
    peer.says("S", NEXT + 1000)
    assert peer.tcp.aside == {flow}
    peer.close()
    assert user.calls == ["connected", "closed"]
    assert isinstance(user.error, ConnectionAbortedError)
    assert not peer.tcp.aside
    assert peer.tcp.budget.used == 0


async def test_of_too_many_in_time_wait_the_oldest_is_over() -> None:
    peer = Peer(config=TcpConfig(most_time_wait=3))
    flows = []
    for number in range(5):
        user = User()
        peer.says("S", PEER_ISN, sport=6000 + number)
        flow = peer.requests.pop().accept(user)
        isn = peer.hears("SA").seq
        peer.says("A", NEXT, isn + 1, sport=6000 + number)
        flow.shutdown()
        peer.hears("FA", isn + 1, NEXT)
        peer.says("FA", NEXT, isn + 2, sport=6000 + number)
        peer.hears("A", isn + 2, NEXT + 1)
        assert flow.connection.state is State.TIME_WAIT
        flows.append((flow, user))
    assert [flow.over for flow, _ in flows] == [True, True, False, False, False]
    assert [user.error for _, user in flows] == [None] * 5
    assert list(peer.tcp.flows.values()) == list(peer.tcp.time_waits) == [flow for flow, _ in flows[2:]]
    assert peer.tcp.counters.time_waits_cut == 2
    peer.close()
    assert not peer.tcp.time_waits


async def test_who_has_not_read_all_when_its_time_wait_is_cut_hears_of_the_end_of_the_stack() -> None:
    peer = Peer(config=TcpConfig(most_time_wait=0))
    user = User()
    user.room = 1
    flow, isn = peer.established(user)
    flow.shutdown()
    peer.says("FA", NEXT, isn + 2, b"last words")
    assert peer.tcp.counters.time_waits_cut == 1
    assert not peer.tcp.flows
    assert peer.tcp.aside == {flow}
    peer.close()
    assert isinstance(user.error, ConnectionAbortedError)
    assert peer.tcp.budget.used == 0
