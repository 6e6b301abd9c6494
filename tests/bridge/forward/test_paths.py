"""Errors of a real path: routers, silent hosts, missing routes, a narrow link; first with a fake stack, then with two
real stacks, one of which plays the codespace."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from netbridge.bridge.forward.flows import FlowTable
from netbridge.bridge.forward.icmp import IcmpForwarder
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.forward.policy import Policy
from netbridge.bridge.forward.poller import Poller
from netbridge.bridge.forward.udp import UdpForwarder
from netbridge.stack import Stack
from netbridge.stack.icmp.wire import Problem
from netbridge.stack.link.memory import memory_link
from tests.bridge.forward.fakes import Bench, packed, settle, until
from tests.bridge.forward.paths import BEYOND, FAR, NOBODY_FAR, NOBODY_NEAR, PATH_MTU, ROUTER, Paths, write

pytestmark = pytest.mark.net


@pytest.fixture(scope="module")
def network() -> Iterator[Paths]:
    paths = Paths()
    try:
        paths.build()
        yield paths
    finally:
        paths.close()


@pytest.fixture
def paths(network: Paths) -> Iterator[Paths]:
    """The network, with this test's thread on the host."""
    with network.at("host"):
        yield network


@pytest.fixture
async def bench(paths: Paths) -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture(params=["datagram", "raw"])
def ping_kind(request: pytest.FixtureRequest, paths: Paths) -> str:
    """ICMP sockets of both kinds: root gets a raw one only where datagram ones are forbidden."""
    write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647" if request.param == "datagram" else "1 0")
    kind: str = request.param
    return kind


async def test_time_exceeded_names_the_router(bench: Bench, version: int) -> None:
    raw = bench.datagram(FAR[version], 33434, b"probe payload", ttl=1)
    await until(lambda: bench.stack.icmp.told)
    (told,) = bench.stack.icmp.told
    assert told.problem is Problem.TIME_EXCEEDED
    assert told.source == packed(ROUTER[version])
    assert told.quoted == raw


async def test_the_far_hosts_port_unreachable(bench: Bench, version: int) -> None:
    raw = bench.datagram(FAR[version], 9, b"hello")
    await until(lambda: bench.stack.icmp.told)
    (told,) = bench.stack.icmp.told
    assert told.ttl == 62, "64, less the router, less this bridge"
    assert (told.problem, told.source, told.quoted) == (Problem.PORT_UNREACHABLE, packed(FAR[version]), raw)


async def test_each_error_quotes_the_payload_it_is_about(bench: Bench, version: int) -> None:
    payloads = [b"probe number %d" % number for number in range(5)]
    for payload in payloads:
        bench.datagram(FAR[version], 33434, payload, ttl=1)
    await until(lambda: len(bench.stack.icmp.told) == 5)
    assert [told.quoted[-len(payloads[0]) :] for told in bench.stack.icmp.told] == payloads


async def test_a_silent_neighbour_is_host_unreachable_from_the_gateway(bench: Bench, version: int) -> None:
    bench.datagram(NOBODY_NEAR[version], 9, b"x")
    await until(lambda: bench.stack.icmp.told, 8)
    told = bench.stack.icmp.told[0]
    assert told.problem is Problem.HOST_UNREACHABLE
    assert told.source is None, "this machine is known to the codespace as its gateway"
    assert told.ttl == 64


async def test_a_silent_host_is_host_unreachable_from_its_router(bench: Bench, version: int) -> None:
    raw = bench.datagram(NOBODY_FAR[version], 9, b"x")
    await until(lambda: bench.stack.icmp.told, 8)
    told = bench.stack.icmp.told[0]
    assert told.problem is Problem.HOST_UNREACHABLE
    assert told.source in (packed(ROUTER[version]), packed("fd77:2::1"), packed("10.77.2.1"))
    assert told.quoted == raw


async def test_no_route(bench: Bench, version: int) -> None:
    raw = bench.datagram(BEYOND[version], 9, b"x")
    (told,) = bench.stack.icmp.told
    problem = Problem.NET_UNKNOWN if version == 4 else Problem.NET_UNREACHABLE  # 3/6 is hard, 3/0 is soft
    assert (told.problem, told.quoted, told.source) == (problem, raw, None)
    assert len(bench.udp) == 0


@pytest.mark.parametrize(("kind", "problem"), [
    ("unreachable", Problem.HOST_UNREACHABLE), ("prohibit", Problem.PROHIBITED),
])
async def test_routes_that_refuse(paths: Paths, bench: Bench, version: int, kind: str, problem: Problem) -> None:
    paths.command("host", "ip", "route", "add", kind, BEYOND[version])
    try:
        bench.datagram(BEYOND[version], 9, b"x")
        bench.ping(BEYOND[version], 1, 1)
    finally:
        paths.command("host", "ip", "route", "del", kind, BEYOND[version])
    # 3/10 is the code for EHOSTUNREACH that a connected UDP socket hears; ping is told the plain one.
    hard = Problem.HOST_PROHIBITED if version == 4 and kind == "unreachable" else problem
    assert [told.problem for told in bench.stack.icmp.told] == [hard, problem]


async def test_subnet_broadcast_is_prohibited(bench: Bench) -> None:
    bench.datagram("10.77.1.255", 9, b"x")
    assert [told.problem for told in bench.stack.icmp.told] == [Problem.PROHIBITED]


async def test_fragmentation_needed(paths: Paths, bench: Bench) -> None:
    with paths.udp("far", FAR[4]) as far:
        port = far.getsockname()[1]
        raw = bench.datagram(FAR[4], port, b"z" * 1400, df=True)
        await until(lambda: bench.stack.icmp.told)
        told = bench.stack.icmp.told[0]
        assert (told.problem, told.mtu, told.source) == (Problem.TOO_BIG, PATH_MTU, packed(ROUTER[4]))
        assert told.quoted[:28] == raw[:28]
        # Now this kernel knows, and refuses at once.
        raw = bench.datagram(FAR[4], port, b"z" * 1400, df=True)
        told = bench.stack.icmp.told[1]
        assert (told.problem, told.mtu, told.source, told.quoted) == (Problem.TOO_BIG, PATH_MTU, None, raw)
        await settle()
        assert len(bench.stack.icmp.told) == 2, "the kernel's own report of it is not told a second time"
        # Without DF it is this machine's to fragment.
        bench.datagram(FAR[4], port, b"z" * 1400)
        assert far.recv(2000) == b"z" * 1400
        bench.datagram(FAR[4], port, b"z" * 1200, df=True)
        assert far.recv(2000) == b"z" * 1200
        await settle()
        assert len(bench.stack.icmp.told) == 2
    paths.command("host", "ip", "route", "flush", "cache")


async def test_ipv6_in_one_piece_must_fit_the_path(paths: Paths, bench: Bench) -> None:
    with paths.udp("far", FAR[6]) as far:
        port = far.getsockname()[1]
        bench.datagram(FAR[6], port, b"z" * 1400, df=True)
        await until(lambda: len(bench.stack.icmp.told) == 1)  # a router says so
        bench.datagram(FAR[6], port, b"z" * 1400, df=True)
        await until(lambda: len(bench.stack.icmp.told) == 2)  # this kernel says so
        assert {(told.problem, told.mtu) for told in bench.stack.icmp.told} == {(Problem.TOO_BIG, PATH_MTU)}
        bench.datagram(FAR[6], port, b"z" * 1200, df=True)
        assert far.recv(2000) == b"z" * 1200
        # What its source has fragmented already is fragmented again here.
        bench.datagram(FAR[6], port, b"z" * 1400)
        assert far.recv(2000) == b"z" * 1400
        assert len(bench.stack.icmp.told) == 2
    paths.command("host", "ip", "-6", "route", "flush", "cache")


async def test_ipv6_that_came_in_fragments_is_fragmented_at_this_source(paths: Paths, bench: Bench) -> None:
    with paths.udp("far", FAR[6]) as far:
        far.settimeout(0.2)
        port = far.getsockname()[1]
        for _ in range(10):  # the first is lost to the discovery of the path's MTU, as it would be anywhere
            bench.datagram(FAR[6], port, b"z" * 1400)
            await settle()
            with contextlib.suppress(TimeoutError):
                assert far.recv(2000) == b"z" * 1400
                break
        else:
            pytest.fail("nothing arrived")
        assert {(told.problem, told.mtu) for told in bench.stack.icmp.told} <= {(Problem.TOO_BIG, PATH_MTU)}
    paths.command("host", "ip", "-6", "route", "flush", "cache")


async def test_ping_far(ping_kind: str, bench: Bench, version: int) -> None:
    for sequence in range(3):
        bench.ping(FAR[version], 77, sequence, b"p" * 56)
    await until(lambda: len(bench.stack.icmp.replies) == 3)
    assert [reply.sequence for reply in bench.stack.icmp.replies] == [0, 1, 2]
    assert {reply.ttl for reply in bench.stack.icmp.replies} == {62}  # 64, less the router, less this bridge
    assert {reply.identifier for reply in bench.stack.icmp.replies} == {77}
    flow = next(iter(bench.icmp._flows.values()))
    assert flow.raw == (ping_kind == "raw")


async def test_ping_errors_quote_their_own_request(ping_kind: str, bench: Bench, version: int) -> None:
    """As `traceroute -I` does it: many requests under way, each with its own TTL and sequence."""
    raws = [bench.ping(FAR[version], 77, sequence, b"payload%d" % sequence, ttl=1) for sequence in range(5)]
    await until(lambda: len(bench.stack.icmp.told) == 5)
    for told, raw in zip(bench.stack.icmp.told, raws, strict=True):
        assert (told.problem, told.source) == (Problem.TIME_EXCEEDED, packed(ROUTER[version]))
        head = 20 if version == 4 else 40
        assert told.quoted[:head] == raw[:head]
        assert told.quoted[head + 4 :] == raw[head + 4 :], "identifier, sequence and payload are the codespace's own"
    assert not bench.stack.icmp.replies


async def test_a_raw_socket_does_not_tell_other_programs_errors(paths: Paths, bench: Bench) -> None:
    write("/proc/sys/net/ipv4/ping_group_range", "1 0")
    bench.ping(FAR[4], 77, 1)
    await until(lambda: bench.stack.icmp.replies)
    flow = next(iter(bench.icmp._flows.values()))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as other:
        other.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        from netbridge.stack.icmp.wire import emit

        other.sendto(emit(4, b"", b"", 8, 0, flow.identifier ^ 1, 1, b"mine"), (FAR[4], 0))
        await until(lambda: bench.table.counters.icmp.errors_ignored)
    assert not bench.stack.icmp.told


async def test_ping_with_df_learns_the_mtu(ping_kind: str, paths: Paths, bench: Bench) -> None:
    bench.ping(FAR[4], 77, 1, b"z" * 1372, df=True)
    await until(lambda: bench.stack.icmp.told)
    bench.ping(FAR[4], 77, 2, b"z" * 1372, df=True)
    await until(lambda: len(bench.stack.icmp.told) == 2)
    assert {(told.problem, told.mtu) for told in bench.stack.icmp.told} == {(Problem.TOO_BIG, PATH_MTU)}
    paths.command("host", "ip", "route", "flush", "cache")


async def test_a_silent_host_is_never_answered_for(ping_kind: str, paths: Paths, bench: Bench) -> None:
    write("/proc/sys/net/ipv4/icmp_echo_ignore_all", "0")
    with paths.at("far"):
        write("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1")
    try:
        bench.ping(FAR[4], 77, 1)
        await asyncio.sleep(0.3)
        assert not bench.stack.icmp.replies
        assert not bench.stack.icmp.told
    finally:
        with paths.at("far"):
            write("/proc/sys/net/ipv4/icmp_echo_ignore_all", "0")


async def test_a_vanished_address_gets_a_new_socket(paths: Paths, bench: Bench) -> None:
    """A VPN that went away and came back with another address: the flow goes on from there."""
    command = paths.command
    try:
        command("host", "ip", "addr", "add", "10.88.0.1/24", "dev", "eth1")
        bench.datagram("10.88.0.77", 9, b"x")
        assert next(iter(bench.udp._flows.values())).sock.getsockname()[0] == "10.88.0.1"
        command("host", "ip", "addr", "del", "10.88.0.1/24", "dev", "eth1")
        command("host", "ip", "addr", "add", "10.88.0.2/24", "dev", "eth1")
        bench.datagram("10.88.0.77", 9, b"x")
        assert next(iter(bench.udp._flows.values())).sock.getsockname()[0] == "10.88.0.2"
        assert bench.table.counters.udp.flows_failed == 1
        assert not bench.stack.icmp.told
    finally:
        command("host", "ip", "addr", "del", "10.88.0.2/24", "dev", "eth1")


class Real:
    """A real stack with the forwarders on it, and another that plays the codespace."""

    def __init__(self) -> None:
        near, far = memory_link()
        self.bridge = Stack(near, ["198.18.0.1/30", "fd6e:6272::1/64"])
        self.codespace = Stack(far, ["198.18.0.2/30", "fd6e:6272::2/64"], sources=[])

    async def __aenter__(self) -> Real:
        loop = asyncio.get_running_loop()
        self.poller = Poller(loop)
        self.table = FlowTable(1000)
        await self.bridge.__aenter__()
        await self.codespace.__aenter__()
        policy, limits = Policy(), Limits()
        self.udp = UdpForwarder(self.bridge, self.poller, policy, limits, self.table, loop)
        self.icmp = IcmpForwarder(self.bridge, self.poller, policy, limits, self.table, loop)
        return self

    async def __aexit__(self, *args: object) -> None:
        self.udp.close()
        self.icmp.close()
        self.poller.close()
        await self.codespace.__aexit__(*args)
        await self.bridge.__aexit__(*args)


class Client(asyncio.DatagramProtocol):
    """What an application in the codespace sees."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.errors: list[Exception] = []

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.append(data)

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)


def readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


async def test_through_real_stacks(paths: Paths, ping_kind: str, version: int) -> None:
    async with Real() as real:
        with paths.udp("far", FAR[version]) as far:
            port = far.getsockname()[1]
            transport, client = await real.codespace.create_datagram_endpoint(Client, remote_addr=(FAR[version], port))
            far.setblocking(False)
            for payload in (b"", b"hello", bytes(range(256)) * 255, b"z" * 65507):
                received = None
                for _ in range(5):  # IPv6 loses one to the discovery of the path's MTU
                    transport.sendto(payload)
                    with contextlib.suppress(AssertionError):
                        await until(lambda: readable(far), 0.5)
                        received, peer = far.recvfrom(70000)
                        break
                assert received == payload
                far.sendto(received[::-1], peer)
                count = len(client.received)
                await until(lambda: len(client.received) > count)  # noqa: B023
                assert client.received[-1] == payload[::-1]
            transport.close()
        refused, client = await real.codespace.create_datagram_endpoint(Client, remote_addr=(FAR[version], 9))
        refused.sendto(b"x")
        await until(lambda: client.errors)
        assert isinstance(client.errors[0], ConnectionRefusedError)
        refused.close()
        assert await real.codespace.ping(FAR[version], timeout=5) < 5
        with pytest.raises(OSError, match=r"(?i)unreachable"):
            await real.codespace.ping(BEYOND[version], timeout=5)
        totals = real.table.snapshot(asyncio.get_running_loop().time())["totals"]
        assert totals == {"udp": 2, "icmp": 1}
