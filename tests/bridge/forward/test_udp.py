"""UDP from the codespace to real host sockets on loopback."""

from __future__ import annotations

import asyncio
import socket

import pytest

from netbridge.bridge.forward.hostflows import EXPIRED_A_TURN, SOON, WAITING_PER_SERVICE
from netbridge.bridge.forward.hostsocket import IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_PMTUDISC_DONT
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.forward.policy import Policy
from netbridge.bridge.forward.slices import SLICE
from netbridge.stack.icmp.wire import Problem, Quoted
from netbridge.stack.packet import UDP
from tests.bridge.forward.fakes import (
    ALLOW_LOOPBACK,
    CODESPACE,
    HOST,
    Bench,
    needs_ipv6,
    packed,
    settle,
    udp_ports,
    until,
)


def flow_socket(bench: Bench, index: int = 0) -> socket.socket:
    return list(bench.udp._flows.values())[index].sock


async def test_echo(bench: Bench, host: socket.socket, version: int) -> None:
    port = host.getsockname()[1]
    bench.datagram(HOST[version], port, b"question")
    payload, peer = host.recvfrom(100)
    assert payload == b"question"
    host.sendto(b"answer", peer)
    await until(lambda: bench.stack.udp.sent)
    (sent,) = bench.stack.udp.sent
    assert sent.source == (packed(HOST[version]), port)
    assert sent.destination == (packed(CODESPACE[version]), 4000)
    assert sent.payload == b"answer"
    assert not bench.stack.icmp.told


async def test_an_empty_datagram_is_data(bench: Bench, host: socket.socket, version: int) -> None:
    bench.datagram(HOST[version], host.getsockname()[1], b"")
    payload, peer = host.recvfrom(100)
    assert payload == b""
    host.sendto(b"", peer)
    host.sendto(b"after", peer)
    await until(lambda: len(bench.stack.udp.sent) == 2)
    assert [sent.payload for sent in bench.stack.udp.sent] == [b"", b"after"]


async def test_the_largest_datagram(bench: Bench, host: socket.socket, version: int) -> None:
    payload = bytes(range(256)) * 256
    payload = payload[:65507]
    bench.datagram(HOST[version], host.getsockname()[1], payload)
    received, peer = host.recvfrom(70000)
    assert received == payload
    host.sendto(payload, peer)
    await until(lambda: bench.stack.udp.sent)
    assert bench.stack.udp.sent[0].payload == payload


async def test_one_flow_for_one_pair_of_endpoints(bench: Bench, host: socket.socket, version: int) -> None:
    port = host.getsockname()[1]
    for source_port in (4000, 4001, 4000):
        bench.datagram(HOST[version], port, b"x", source_port=source_port)
    peers = [host.recvfrom(10)[1] for _ in range(3)]
    assert peers[0] == peers[2] != peers[1]
    assert len(bench.udp) == len(bench.table) == 2
    assert bench.table.counters.udp.packets_up == 3


async def test_only_the_peer_is_heard(bench: Bench, host: socket.socket, version: int) -> None:
    bench.datagram(HOST[version], host.getsockname()[1], b"x")
    _, peer = host.recvfrom(10)
    with socket.socket(host.family, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"forged", peer)
    host.sendto(b"true", peer)
    await until(lambda: bench.stack.udp.sent)
    await settle()
    assert [sent.payload for sent in bench.stack.udp.sent] == [b"true"]


async def test_a_closed_port_is_told_with_the_codespaces_own_packet(bench: Bench, version: int) -> None:
    with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST[version], 0))
        port = sock.getsockname()[1]
    for attempt in range(3):  # the third finds a uvloop that lost interest after the first
        raw = bench.datagram(HOST[version], port, b"anybody there? %d" % attempt)
        await until(lambda: len(bench.stack.icmp.told) == attempt + 1)  # noqa: B023
        told = bench.stack.icmp.told[attempt]
        assert told.problem is Problem.PORT_UNREACHABLE
        assert told.source == packed(HOST[version])
        assert told.quoted == raw
        assert udp_ports(told.quoted) == (4000, port)
    assert len(bench.udp) == 1  # RFC 4787 REQ-12: an error does not end the mapping
    assert bench.table.counters.udp.errors_down == 3


async def test_news_of_an_earlier_datagram_does_not_cost_the_next_one(bench: Bench, version: int) -> None:
    with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as late:
        late.bind((HOST[version], 0))
        port = late.getsockname()[1]
        late.close()
        bench.datagram(HOST[version], port, b"too early")
        with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as open_now:
            open_now.bind((HOST[version], port))
            open_now.settimeout(5)
            bench.datagram(HOST[version], port, b"in time")  # send() meets the first one's ECONNREFUSED
            assert open_now.recv(100) == b"in time"
    assert [told.problem for told in bench.stack.icmp.told] == [Problem.PORT_UNREACHABLE]


async def test_ttl_and_df_travel_on(bench: Bench) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.bind(("127.0.0.1", 0))
        host.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
        host.settimeout(5)
        port = host.getsockname()[1]
        for ttl, df in ((63, False), (3, True), (17, False)):
            bench.datagram("127.0.0.1", port, b"x", ttl=ttl, df=df)
            _, ancillary, _, _ = host.recvmsg(10, 100)
            assert int.from_bytes(ancillary[0][2], "little") == ttl
            discover = flow_socket(bench).getsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER)
            assert discover == (IP_PMTUDISC_DO if df else IP_PMTUDISC_DONT)


@needs_ipv6
async def test_hop_limit_travels_on(bench: Bench) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as host:
        host.bind(("::1", 0))
        host.setsockopt(socket.IPPROTO_IPV6, 51, 1)  # IPV6_RECVHOPLIMIT
        host.settimeout(5)
        for ttl in (63, 2):
            bench.datagram("::1", host.getsockname()[1], b"x", ttl=ttl)
            _, ancillary, _, _ = host.recvmsg(10, 100)
            assert int.from_bytes(ancillary[0][2], "little") == ttl


async def test_dscp_travels_on_and_ecn_does_not(bench: Bench) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.bind(("127.0.0.1", 0))
        bench.datagram("127.0.0.1", host.getsockname()[1], b"x", tos=0xB8 | 2)
        assert flow_socket(bench).getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0xB8


async def test_a_denied_destination_is_prohibited(bench: Bench) -> None:
    raw = bench.datagram("169.254.169.254", 80, b"x")
    (told,) = bench.stack.icmp.told
    assert told.problem is Problem.PROHIBITED
    assert told.quoted == raw
    assert told.source is None
    assert len(bench.udp) == 0
    assert bench.table.counters.udp.dropped_policy == 1


async def test_broadcast_is_refused_by_the_policy_and_opens_nothing(bench: Bench) -> None:
    bench.datagram("255.255.255.255", 9, b"x")
    assert bench.table.counters.udp.dropped_policy == 1
    assert len(bench.udp) == 0


async def test_the_least_recently_used_flow_gives_way(host: socket.socket, version: int) -> None:
    bench = Bench(limits=Limits(udp_flows=3))
    port = host.getsockname()[1]
    for source_port in (1, 2, 3, 1, 4):
        bench.datagram(HOST[version], port, b"x", source_port=source_port)
    assert [flow.source_port for flow in bench.udp._flows.values()] == [3, 1, 4]
    assert bench.table.counters.udp.flows_recycled == 1
    bench.close()


async def test_a_reply_counts_as_use(host: socket.socket, version: int) -> None:
    bench = Bench(limits=Limits(udp_flows=2))
    port = host.getsockname()[1]
    bench.datagram(HOST[version], port, b"x", source_port=1)
    _, first = host.recvfrom(10)
    bench.datagram(HOST[version], port, b"x", source_port=2)
    host.sendto(b"y", first)
    await until(lambda: bench.stack.udp.sent)
    bench.datagram(HOST[version], port, b"x", source_port=3)
    assert [flow.source_port for flow in bench.udp._flows.values()] == [1, 3]
    bench.close()


async def test_a_full_budget_recycles_across_forwarders(host: socket.socket, version: int) -> None:
    bench = Bench(budget=2)
    port = host.getsockname()[1]
    for source_port in (1, 2, 3):
        bench.datagram(HOST[version], port, b"x", source_port=source_port)
    assert len(bench.table) == 2
    assert bench.table.counters.udp.flows_recycled == 1
    bench.close()


async def test_idle_times(bench: Bench, host: socket.socket, version: int) -> None:
    port = host.getsockname()[1]
    bench.datagram(HOST[version], port, b"one", source_port=1)
    for _ in range(2):
        bench.datagram(HOST[version], port, b"stream", source_port=2)
    bench.clock.advance(29)
    assert len(bench.udp) == 2
    bench.clock.advance(6)
    assert [flow.source_port for flow in bench.udp._flows.values()] == [2]
    bench.clock.advance(264)
    assert len(bench.udp) == 1
    bench.clock.advance(6)
    assert len(bench.udp) == 0
    assert bench.table.counters.udp.flows_expired == 2
    assert not bench.clock.timers, "no timer while there is nothing to time"


async def test_flows_whose_time_is_over_together_are_closed_in_portions(
    bench: Bench, host: socket.socket, version: int
) -> None:
    """The event loop has other work after a flood."""
    many = 2 * EXPIRED_A_TURN + 50
    for number in range(many):
        bench.datagram(HOST[version], host.getsockname()[1], b"one", source_port=1 + number)
    bench.clock.advance(30)
    for left in (many - EXPIRED_A_TURN, 50, 0):
        assert len(bench.udp) == left
        bench.clock.advance(SOON)
    assert not bench.clock.timers


async def test_a_datagram_puts_the_idle_time_off(bench: Bench, host: socket.socket, version: int) -> None:
    bench.datagram(HOST[version], host.getsockname()[1], b"x")
    for _ in range(20):
        bench.datagram(HOST[version], host.getsockname()[1], b"x")
        bench.clock.advance(200)
    assert bench.table.counters.udp.flows_opened == 1


def dns_host() -> socket.socket:
    """Something on port 53 of a loopback address of its own."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind(("127.0.53.53", 53))
    except PermissionError:
        sock.close()
        pytest.skip("port 53 is root's (net.ipv4.ip_unprivileged_port_start)")
    sock.settimeout(5)
    return sock


async def test_an_answered_dns_query_is_over_soon(bench: Bench) -> None:
    with dns_host() as host:
        bench.datagram("127.0.53.53", 53, b"q1", source_port=1)
        host.sendto(b"a1", host.recvfrom(10)[1])
        await until(lambda: bench.stack.udp.sent)
        bench.datagram("127.0.53.53", 53, b"q2", source_port=2)
        bench.clock.advance(16)
        assert [flow.source_port for flow in bench.udp._flows.values()] == [2], "the unanswered one still waits"
        bench.clock.advance(20)
        assert len(bench.udp) == 0


async def test_a_busy_link_gets_only_the_overdraft(host: socket.socket, version: int) -> None:
    bench = Bench(limits=Limits(udp_overdraft=5000, udp_overdraft_per_turn=100000))
    bench.datagram(HOST[version], host.getsockname()[1], b"x")
    _, peer = host.recvfrom(10)
    bench.stack.link.is_ready = False
    for _ in range(10):
        host.sendto(b"y" * 1000, peer)
    counters = bench.table.counters.udp
    await until(lambda: counters.packets_down + counters.dropped_link_busy == 10)
    assert (counters.packets_down, counters.dropped_link_busy) == (5, 5)
    bench.stack.link_openings += 1  # for a moment, and bulk took all of it
    for _ in range(10):
        host.sendto(b"y" * 1000, peer)
    await until(lambda: counters.packets_down + counters.dropped_link_busy == 20)
    assert (counters.packets_down, counters.dropped_link_busy) == (10, 10)
    bench.stack.link.is_ready = True
    host.sendto(b"y", peer)
    await until(lambda: counters.packets_down == 11)
    bench.close()


async def test_one_flow_does_not_take_the_whole_overdraft_in_a_turn(host: socket.socket, version: int) -> None:
    bench = Bench(limits=Limits(udp_overdraft_per_turn=2000))
    bench.datagram(HOST[version], host.getsockname()[1], b"x")
    _, peer = host.recvfrom(10)
    bench.stack.link.is_ready = False
    for _ in range(10):
        host.sendto(b"y" * 1000, peer)
    counters = bench.table.counters.udp
    await until(lambda: counters.packets_down + counters.dropped_link_busy == 10)
    assert counters.packets_down == 3
    bench.close()


async def test_a_flood_of_replies_is_read_in_turns(bench: Bench, host: socket.socket, version: int) -> None:
    bench.datagram(HOST[version], host.getsockname()[1], b"x")
    _, peer = host.recvfrom(10)
    for number in range(100):
        host.sendto(b"%d" % number, peer)
    bench.poller._turn()
    assert len(bench.stack.udp.sent) == 32
    await until(lambda: len(bench.stack.udp.sent) == 100)
    assert [int(sent.payload) for sent in bench.stack.udp.sent] == list(range(100))


@needs_ipv6
async def test_no_route(bench: Bench) -> None:
    bench.datagram("fe80::1", 9, b"x")  # denied by default
    assert bench.stack.icmp.told[0].problem is Problem.PROHIBITED
    allowing = Bench(policy=Policy([*ALLOW_LOOPBACK, "fe80::/10"]))
    allowing.datagram("fe80::1", 9, b"x")  # no link named: EINVAL
    assert allowing.stack.icmp.told[0].problem is Problem.NET_UNREACHABLE
    assert allowing.table.counters.udp.dropped_open == 1
    allowing.close()


async def test_a_flow_whose_socket_became_useless_gets_another(bench: Bench, host: socket.socket, version: int) -> None:
    port = host.getsockname()[1]
    bench.datagram(HOST[version], port, b"one")
    first = host.recvfrom(10)[1]
    flow = next(iter(bench.udp._flows.values()))
    # What the kernel does when a VPN takes the socket's own address away is seen as EINVAL or ENETUNREACH by send().
    sock = flow.sock
    flow.sock = Unreachable(fileno=sock.detach())
    bench.datagram(HOST[version], port, b"two")
    payload, second = host.recvfrom(10)
    assert payload == b"two"
    assert second != first
    assert bench.table.counters.udp.flows_failed == 1
    assert not bench.stack.icmp.told


class Unreachable(socket.socket):
    """A socket whose address is gone."""

    def send(self, data: object, flags: int = 0) -> int:
        raise OSError(101, "Network is unreachable")


async def test_status(bench: Bench, host: socket.socket, version: int) -> None:
    port = host.getsockname()[1]
    bench.datagram(HOST[version], port, b"question")
    host.sendto(b"answer!", host.recvfrom(10)[1])
    await until(lambda: bench.stack.udp.sent)
    bench.clock.advance(2)
    snapshot = bench.table.snapshot(bench.clock.now)
    bracket = "{}" if version == 4 else "[{}]"
    assert snapshot["totals"] == {"udp": 1}
    assert snapshot["flows"] == [{
        "protocol": "udp",
        "source": f"{bracket}:4000".format(CODESPACE[version].replace(":0::", "::")),
        "destination": f"{bracket}:{port}".format(HOST[version]),
        "state": "answered",
        "bytes_up": 8, "bytes_down": 7, "packets_up": 1, "packets_down": 1, "age": 2.0, "idle": 2.0,
    }]
    assert snapshot["counters"]["udp"]["flows_opened"] == 1


async def test_a_reply_may_end_everything(host: socket.socket, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.datagram(HOST[version], host.getsockname()[1], b"x")
    _, peer = host.recvfrom(10)
    for _ in range(3):
        host.sendto(b"y", peer)

    def lost(*args: object) -> bool:
        bench.udp.close()
        return False

    monkeypatch.setattr(bench.stack.udp, "send", lost)
    bench.poller._turn()
    assert len(bench.udp) == 0
    bench.close()


async def test_telling_an_error_may_end_everything(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST[version], 0))
        port = sock.getsockname()[1]
    forward = bench.stack.udp.forward
    bench.datagram(HOST[version], port, b"x")

    def lost(*args: object, **named: object) -> bool:
        bench.udp.close()
        return False

    monkeypatch.setattr(bench.stack.icmp, "error", lost)
    bench.stack.udp.forward = forward
    bench.datagram(HOST[version], port, b"x")  # meets the first one's error
    assert len(bench.udp) == 0
    assert bench.table.counters.udp.flows_opened == 1, "a closed forwarder opens nothing"
    bench.close()


async def test_a_poller_that_is_full_drops_and_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench.poller, "register", refuse)
    bench.datagram("127.0.0.1", 9, b"x")
    assert len(bench.udp) == len(bench.table) == 0
    assert bench.table.counters.udp.dropped_open == 1


async def test_closing_twice_is_closing_once(bench: Bench) -> None:
    bench.udp.close()
    bench.udp.close()
    assert bench.stack.udp.forward is None


async def test_a_codespace_socket_that_closed_closes_the_flow(
    bench: Bench, host: socket.socket, version: int
) -> None:
    """Its kernel says port unreachable to a late reply; the far host hears the same of the next one."""
    bench.datagram(HOST[version], host.getsockname()[1], b"question")
    await until(lambda: len(bench.udp) == 1)
    _, client = host.recvfrom(100)
    complain = bench.stack.udp.forward_error
    assert complain is not None

    def quoted(port: int) -> Quoted:
        ends = packed(HOST[version]), packed(CODESPACE[version])
        header = host.getsockname()[1].to_bytes(2, "big") + port.to_bytes(2, "big") + bytes(4)
        return Quoted(version, *ends, UDP, memoryview(b""), memoryview(header))

    assert not complain(quoted(4001), Problem.PORT_UNREACHABLE, 0)
    assert complain(quoted(4000), Problem.HOST_UNREACHABLE, 0)
    assert len(bench.udp) == 1
    assert complain(quoted(4000), Problem.PORT_UNREACHABLE, 0)
    assert len(bench.udp) == 0
    assert bench.table.counters.udp.flows_refused == 1
    host.connect(client)
    host.send(b"later still")
    with pytest.raises(ConnectionRefusedError):
        host.recv(100)


async def test_a_flood_takes_turns_with_the_rest_and_what_no_queue_holds_is_dropped(
    bench: Bench, host: socket.socket, version: int
) -> None:
    """3,000 datagrams in one turn of the event loop, from a port each, with 10 µs of work: a slice is for a hundred of
    them, the places for those that wait are bounded, and a datagram to another service is the next but one.
    """
    destination, flooded = HOST[version], host.getsockname()[1]
    counters, waiting = bench.udp._udp_counts, bench.udp._admission
    with socket.socket(host.family, socket.SOCK_DGRAM) as other:
        other.bind((destination, 0))
        other.setblocking(False)
        bench.cost = 1e-5
        for number in range(3000):
            bench.datagram(destination, flooded, b"flood", source_port=1024 + number)
        assert 90 <= counters.packets_up <= 101
        assert 100 < len(waiting) <= WAITING_PER_SERVICE
        assert counters.dropped_waiting == 3000 - counters.packets_up - len(waiting)
        bench.datagram(destination, other.getsockname()[1], b"honest", source_port=70)
        bench.cost = SLICE / 2
        await asyncio.sleep(0)
        assert other.recv(100) == b"honest"
        bench.cost = 0
        await until(lambda: not len(waiting))
        assert bench.udp._waiting_bytes == 0
        assert counters.packets_up + counters.dropped_waiting == 3001


async def test_what_an_honest_program_sends_at_once_is_not_lost(
    bench: Bench, host: socket.socket, version: int
) -> None:
    """A link reads a megabyte in a turn: 750 datagrams of 1,400 bytes, far more than there is time for at once. And
    with 2,000 of them waiting, few large ones to another service have their places.
    """
    counters, waiting = bench.udp._udp_counts, bench.udp._admission
    with socket.socket(host.family, socket.SOCK_DGRAM) as other:
        other.bind((HOST[version], 0))
        bench.cost = 1e-5
        for _ in range(2000):
            bench.datagram(HOST[version], host.getsockname()[1], bytes(1400))
        for _ in range(20):
            bench.datagram(HOST[version], other.getsockname()[1], bytes(60_000), source_port=70)
        assert len(waiting) > 1800
        bench.cost = 0
        await until(lambda: not len(waiting))
    assert counters.dropped_waiting == 0
    assert counters.packets_up == 2020


async def test_what_waited_too_long_frees_its_place(bench: Bench, host: socket.socket, version: int) -> None:
    """Else a machine that stood still a moment would have no place for datagrams that have to wait, ever again."""
    bench.cost = SLICE
    for _ in range(10):
        bench.datagram(HOST[version], host.getsockname()[1], bytes(1000))
    assert len(bench.udp._admission) == 9
    assert bench.udp._waiting_bytes > 9000
    bench.cost = 0
    for waiting in bench.udp._admission._waiting[packed(HOST[version]), host.getsockname()[1]]:
        waiting.asked_at -= 60
    await until(lambda: not len(bench.udp._admission))
    assert bench.udp._udp_counts.dropped_waiting == 9
    assert bench.udp._waiting_bytes == 0
    assert not bench.udp._bytes_of
