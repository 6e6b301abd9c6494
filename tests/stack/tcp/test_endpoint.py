"""TCP in its stack: what finds its connection, what is answered without one, requests, and the pump."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import IPv6

from netbridge.stack.icmp.wire import Problem
from netbridge.stack.link.fault import FaultLink, Faults
from netbridge.stack.link.memory import memory_link
from netbridge.stack.packet import text
from netbridge.stack.stack import Stack
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import NewReno, Unlimited
from netbridge.stack.tcp.request import TcpRequest
from netbridge.stack.tcp.states import State
from netbridge.stack.vnet import F_DATA_VALID, VNET
from tests.stack.fake import CLIENT4, GATEWAY4, SERVER4, packed
from tests.stack.tcp.peer import CLIENT, GATEWAY, PEER_ISN, SERVER, Peer, User

NEXT = PEER_ISN + 1
"""The peer's sequence number after its SYN."""


@pytest.fixture(params=[4, 6])
async def peer(request: pytest.FixtureRequest) -> AsyncIterator[Peer]:
    peer = Peer(version=request.param)
    yield peer
    peer.close()


@pytest.fixture
async def peer4() -> AsyncIterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
async def complaints() -> AsyncIterator[list[dict[str, Any]]]:
    """What the event loop's exception handler is told."""
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    yield told
    loop.set_exception_handler(None)


# -- segments of no connection (RFC 9293, section 3.10.7.1)


@pytest.mark.parametrize("destination", ["own", "other"])
async def test_a_stray_is_reset(peer: Peer, destination: str) -> None:
    to = (GATEWAY if destination == "own" else SERVER)[peer.version]
    peer.says("A", 1000, 77, destination=to)
    reset = peer.hears("R", 77)
    assert (reset.sport, reset.dport) == (80, 5000)
    peer.says("F", 1000, data=b"abc", destination=to)
    peer.hears("RA", 0, 1004)
    peer.says("SA", 1000, 5, destination=to)
    peer.hears("R", 5)
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


# -- requests


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


# -- TIME-WAIT


def time_wait(peer: Peer, user: User) -> tuple[Any, int]:
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


# -- two stacks on a link


class Source(User):
    """Writes `left` bytes as room is made, and reads with a limit that it lifts by and by."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.left = memoryview(data)
        self.flow: Any = None
        self.over = asyncio.get_running_loop().create_future()
        self.parts: list[bytes] = []

    def connected(self) -> None:
        super().connected()
        asyncio.get_running_loop().call_soon(self.feed)

    def data_received(self, data: memoryview) -> int:
        self.parts.append(bytes(data))
        return len(data)

    def acked(self) -> None:
        self.feed()

    def feed(self) -> None:
        while self.left and self.flow.room > 0 and not self.flow.queued:
            piece, self.left = self.left[: self.flow.room], self.left[self.flow.room :]
            self.flow.write(bytes(piece))
        if not self.left and "done" not in self.calls:
            self.calls.append("done")
            self.flow.shutdown()

    def closed(self, error: OSError | None) -> None:
        super().closed(error)
        if not self.over.done():
            self.over.set_result(None)


async def transfer(
    config: TcpConfig, *, version: int, offload: bool, size: int, faults: Faults | None = None
) -> tuple[Stack, Stack]:
    """Send `size` bytes one way and half as many the other; everything must arrive and nothing be left."""
    one, other = memory_link(offload=offload)
    own = ["10.0.0.1/24", "fd00::1/64"]
    far = ["10.0.0.2/24", "fd00::2/64"]
    link = one if faults is None else FaultLink(one, seed=version, sent=faults, received=faults, offload=False)
    up, down = bytes(range(256)) * (size // 256), bytes(reversed(range(256))) * (size // 512)
    servers: list[Source] = []

    def accept(request: TcpRequest) -> None:
        server = Source(down)
        servers.append(server)
        server.flow = request.accept(server)

    async with Stack(link, own, tcp=config) as left, Stack(other, far, tcp=config) as right:
        right.tcp.listeners[None, 80] = accept
        client = Source(up)
        at = 0 if version == 4 else 1
        local, remote = (packed(addresses[at].partition("/")[0]) for addresses in (own, far))
        client.flow = left.tcp.connect(local, (remote, 80), client)
        async with asyncio.timeout(20):
            await client.over
            await servers[0].over
        for side, expected in ((client, down), (servers[0], up)):
            assert side.error is None
            assert side.calls[-1] == "closed"
            assert b"".join(side.parts) == expected
        for stack in (left, right):
            assert not stack.tcp.flows
            assert stack.tcp.budget.used == 0
        return left, right


QUICK = TcpConfig(time_wait=0.05, min_rto=0.02)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("congestion", [NewReno, Unlimited])
async def test_two_stacks_exchange_megabytes(version: int, offload: bool, congestion: Any) -> None:
    config = TcpConfig(time_wait=0.05, congestion=congestion)
    for stack in await transfer(config, version=version, offload=offload, size=3_000_000):
        # With a congestion window the end is asked about where this machine is slow to answer (RFC 8985, section 7).
        assert stack.tcp.counters.retransmitted <= (0 if congestion is Unlimited else 8)
        assert stack.counters.malformed == stack.tcp.counters.bad_checksum == 0


@pytest.mark.parametrize("version", [4, 6])
async def test_two_stacks_over_a_path_that_loses_and_reorders(version: int) -> None:
    faults = Faults(loss=0.01, duplicate=0.01, reorder=0.01, reorder_delay=0.003, delay=0.001)
    stacks = await transfer(QUICK, version=version, offload=False, size=400_000, faults=faults)
    assert any(stack.tcp.counters.retransmitted for stack in stacks)


async def test_two_stacks_over_a_path_that_corrupts() -> None:
    """A flipped bit is a lost packet, whatever it hits."""
    faults = Faults(corrupt=0.03, delay=0.001)
    stacks = await transfer(QUICK, version=4, offload=False, size=1_000_000, faults=faults)
    assert any(stack.tcp.counters.bad_checksum for stack in stacks)
    assert any(stack.counters.malformed for stack in stacks)


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
