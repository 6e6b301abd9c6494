"""Whatever happens to a stack, in whatever order: after each event everything adds up; at the end nothing is held."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP

from netbridge.stack.icmp.wire import Problem
from netbridge.stack.timers import Timed
from netbridge.stack.udp.endpoint import Address
from tests import balance
from tests.stack.fake import CLIENT4, GATEWAY4, SERVER4, dissect, packed
from tests.stack.tcp.peer import Peer, User

SOURCES = st.sampled_from([CLIENT4] * 6 + ["127.0.0.1", "203.0.113.5", GATEWAY4, "0.0.0.0"])
DESTINATIONS = st.sampled_from([GATEWAY4, SERVER4] * 4 + ["224.0.0.1", "255.255.255.255", CLIENT4])
PORTS = st.sampled_from([80, 81, 0])
HOPS = st.sampled_from([64, 64, 64, 1, 0])
DATA = st.sampled_from([b"", b"x", b"y" * 700])


class Bound:
    """A UDP port that takes what comes."""

    def packet_received(self, source: Address, payload: memoryview) -> None: ...

    def problem_received(self, problem: Problem, mtu: int) -> None: ...

    def lost(self, error: Exception | None) -> None: ...


class World:
    """A stack with a listener, a forwarder that decides later, a clock turned by hand, and a peer that remembers."""

    def __init__(self) -> None:
        self.peer = Peer(sources=["198.18.0.0/30", "fd6e:6272::/64"])
        self.stack = self.peer.stack
        self.time = 1000.0
        self.stack.clock.now = lambda: self.time
        self.stack.udp.bind(Bound(), (packed(GATEWAY4), 80))
        self.stack.icmp.forward = lambda *_: None
        self.users: list[User] = []
        self.unlisten = self.stack.tcp.listen(None, 80, lambda _flow: self.user())
        self.told: tuple[str, int, int, int, int] | None = None
        """Where the last segment heard stands: from whom, both ports, its next number, what it acknowledges."""

    def user(self) -> User:
        user = User()
        user.room = 500
        self.users.append(user)
        return user

    def arrives(self, packet: Any) -> None:
        self.peer.inject(packet)
        for data in self.peer.link.sent:
            sent = dissect(data[10:])
            if TCP in sent and sent.version == 4:
                length = sent[IP].len - 4 * sent[IP].ihl - 4 * sent[TCP].dataofs
                after = sent.seq + length + ("S" in sent[TCP].flags) + ("F" in sent[TCP].flags)
                self.told = sent.src, sent.sport, sent.dport, after & 0xFFFFFFFF, sent.ack
        self.peer.link.sent.clear()

    # -- events

    def segment(
        self, source: str, destination: str, port: int, ours: int, flags: str, data: bytes, hops: int
    ) -> None:
        tcp = TCP(sport=ours, dport=port, flags=flags, seq=1000, ack=5)
        self.arrives(IP(src=source, dst=destination, ttl=hops) / tcp / data)

    def answer(self, flags: str, data: bytes, ahead: int) -> None:
        """A segment that is in step with what was heard last."""
        if self.told is not None:
            host, port, ours, ack, seq = self.told
            tcp = TCP(sport=ours, dport=port, flags=flags, seq=(seq + ahead) & 0xFFFFFFFF, ack=ack)
            self.arrives(IP(src=CLIENT4, dst=host) / tcp / data)

    def datagram(self, source: str, destination: str, port: int, hops: int, wrong: bool) -> None:
        udp = UDP(sport=5, dport=port, chksum=1) if wrong else UDP(sport=5, dport=port)
        self.arrives(IP(src=source, dst=destination, ttl=hops) / udp / b"data")

    def message(self, source: str, destination: str, kind: int, code: int) -> None:
        quoted = bytes(IP(src=destination, dst=source) / TCP(sport=80, dport=5000)) if kind in (3, 11) else b"ping"
        self.arrives(IP(src=source, dst=destination) / ICMP(type=kind, code=code) / quoted)

    def fragment(self, number: int, at: int, more: bool, size: int) -> None:
        header = IP(src=CLIENT4, dst=GATEWAY4, proto=17, id=number, frag=at, flags="MF" if more else 0)
        self.arrives(header / bytes(8 * size))

    def noise(self, data: bytes) -> None:
        self.arrives(data)

    def other(self, protocol: int) -> None:
        self.arrives(IP(src=CLIENT4, dst=SERVER4, proto=protocol) / b"12345678")

    def decide(self, how: str) -> None:
        if self.peer.requests:
            request = self.peer.requests.pop(0)
            if how != "accept":
                getattr(request, how)(*([Problem.HOST_UNREACHABLE] if how == "unreachable" else []))
            elif request.pending:
                request.accept(self.user())

    def use(self, how: str) -> None:
        for flow in list(self.stack.tcp.flows.values())[:1]:
            if how == "write":
                flow.write(b"z" * 3000)
            elif how == "drain":
                for user in self.users:
                    user.room = 1 << 20
                flow.drain()
            else:
                getattr(flow, how)()

    def wait(self, seconds: float) -> None:
        self.time += seconds
        stack = self.stack
        stack.handle_timeout(self.time)
        every: list[Timed] = [*stack.tcp.listeners.values(), *stack.tcp.flows.values()]
        for timed in every:
            if timed.next_timeout() <= self.time:
                timed.handle_timeout(self.time)

    def send(self, size: int) -> None:
        self.stack.udp.send((packed(GATEWAY4), 9), (packed(CLIENT4), 9), bytes(size), dont_fragment=size % 2 == 1)

    def ping(self) -> None:
        self.stack.icmp.send_ping(packed(GATEWAY4), packed(CLIENT4), b"ping", lambda *_: None)


def _event(name: str, *values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, tuple[Any, ...]]]:
    return st.tuples(st.just(name), st.tuples(*values))


FLAGS = st.sampled_from(["S", "S", "SA", "A", "FA", "R", "RA", "F", "", "PA"])
EVENTS = st.one_of(
    _event("segment", SOURCES, DESTINATIONS, PORTS, st.sampled_from([5000, 5001, 0]), FLAGS, DATA, HOPS),
    _event("answer", FLAGS, DATA, st.sampled_from([0, 0, 0, 0, 700, -1, 70000])),
    _event("answer", st.just("A"), DATA, st.just(0)),
    _event("datagram", SOURCES, DESTINATIONS, PORTS, HOPS, st.booleans()),
    _event("message", SOURCES, DESTINATIONS, st.sampled_from([0, 3, 8, 11, 13]), st.integers(0, 4)),
    _event("fragment", st.integers(0, 2), st.integers(0, 3), st.booleans(), st.integers(1, 2)),
    _event("noise", st.binary(max_size=60)), _event("other", st.sampled_from([1, 2, 47, 58])),
    _event("decide", st.sampled_from(["accept", "accept", "refuse", "unreachable", "drop"])),
    _event("use", st.sampled_from(["write", "shutdown", "abort", "abandon", "drain"])),
    _event("wait", st.sampled_from([0.01, 1.0, 40.0, 4000.0])), _event("unlisten"), _event("ping"),
    _event("send", st.sampled_from([10, 3000, 3001, 70_000])),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=30))
def test_after_any_sequence_of_events_the_sums_agree(events: list[tuple[str, tuple[Any, ...]]]) -> None:
    with asyncio.Runner() as runner:
        runner.run(_play(events))


async def _play(events: list[tuple[str, tuple[Any, ...]]]) -> None:
    world = World()
    for number, (name, values) in enumerate(events):
        getattr(world, name)(*values)
        wrong = balance.whole_stack(world.stack)
        assert not wrong, f"after {events[: number + 1]}: {wrong}"
    world.peer.close()
    assert not (left := balance.whole_stack(world.stack) + balance.emptied(world.stack)), left
