"""One host port for all destinations of a source, on the real kernel's loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from netbridge.bridge.forward import udpports
from netbridge.bridge.forward.hostsocket import SO_REUSEPORT, connect, open_udp
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.forward.policy import Policy
from netbridge.bridge.forward.udpports import UdpPorts
from netbridge.stack.icmp.wire import Problem
from tests.bridge.forward.fakes import ALLOW_LOOPBACK, HOST, Bench, packed, settle, udp_ports, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ports are shared on Linux alone")

Open = Callable[[], socket.socket]


@pytest.fixture
def server(version: int) -> Iterator[Open]:
    """Opens servers on loopback."""
    opened: list[socket.socket] = []

    def begin() -> socket.socket:
        sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        sock.bind((HOST[version], 0))
        sock.settimeout(5)
        opened.append(sock)
        return sock

    yield begin
    for sock in opened:
        sock.close()


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def peer_seen(bench: Bench, version: int, server: socket.socket, source_port: int = 4000) -> int:
    """Send a datagram from the codespace; the port it came from."""
    bench.datagram(HOST[version], port_of(server), b"x", source_port=source_port)
    return int(server.recvfrom(10)[1][1])


async def test_every_destination_sees_the_same_port(bench: Bench, server: Open, version: int) -> None:
    servers = [server() for _ in range(50)]
    (port,) = {peer_seen(bench, version, one) for one in servers}
    for number, one in enumerate(servers):
        one.sendto(b"%d" % number, (HOST[version], port))
    await until(lambda: len(bench.stack.udp.sent) == 50)
    for sent in bench.stack.udp.sent:
        assert sent.source[1] == port_of(servers[int(sent.payload)]), "a reply came to another flow"
    assert bench.table.counters.udp.ports_not_shared == 0


async def test_strangers_are_refused(bench: Bench, server: Open, version: int) -> None:
    """Mapping no longer depends on the destination; who may answer still does."""
    known = [server(), server()]
    (port,) = {peer_seen(bench, version, one) for one in known}
    stranger = server()
    stranger.connect((HOST[version], port))
    stranger.send(b"forged")
    with pytest.raises(ConnectionRefusedError):
        stranger.recv(10)
    await settle()
    assert not bench.stack.udp.sent


async def test_an_error_comes_to_the_flow_it_is_about(bench: Bench, server: Open, version: int) -> None:
    alive, dead = server(), server()
    (port,) = {peer_seen(bench, version, one) for one in (alive, dead)}
    closed = port_of(dead)
    dead.close()
    bench.datagram(HOST[version], closed, b"anybody there?")
    await until(lambda: bench.stack.icmp.told)
    (told,) = bench.stack.icmp.told
    assert told.problem is Problem.PORT_UNREACHABLE
    assert udp_ports(told.quoted) == (4000, closed)
    assert peer_seen(bench, version, alive) == port


async def test_no_two_sources_meet_on_one_port(server: Open, version: int) -> None:
    """The kernel would take ports of sockets with SO_REUSEPORT for free: of 400 sources, some three would meet."""
    one, other = server(), server()
    for _round in range(5):
        bench = Bench()
        ports = []
        for source_port in range(1, 401):
            ports.append(peer_seen(bench, version, one, source_port))
            assert peer_seen(bench, version, other, source_port) == ports[-1]
        assert len(set(ports)) == 400
        bench.close()


async def test_a_port_takes_so_many_flows(
    bench: Bench, server: Open, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udpports, "FLOWS_A_PORT", 3)
    ports = [peer_seen(bench, version, server()) for _ in range(8)]
    assert [ports.count(port) for port in dict.fromkeys(ports)] == [3, 3, 2]
    assert bench.table.counters.udp.ports_not_shared == 0


@pytest.mark.parametrize("version", [4])
async def test_a_port_that_cannot_be_shared(bench: Bench, server: Open, version: int) -> None:
    """Another program has bound it on another address: the flow gets a port of its own, and the next ones join it."""
    first = peer_seen(bench, 4, server())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", first))
        second = peer_seen(bench, 4, server())
        assert second != first
        assert bench.table.counters.udp.ports_not_shared == 1
    own = list(bench.udp._flows.values())[1].sock
    assert not own.getsockopt(socket.SOL_SOCKET, SO_REUSEPORT), "its port could become another source's too"
    third = peer_seen(bench, 4, server())
    assert third == second
    assert bench.table.counters.udp.ports_not_shared == 1


async def test_two_names_of_one_host_are_two_flows(server: Open, version: int) -> None:
    """An alias and what it stands for, from one source: on one port, neither could be told from the other."""
    alias = {4: "198.18.0.1", 6: "fd6e:6272::1"}[version]
    other = {4: "198.18.0.3", 6: "fd6e:6272::3"}[version]
    aliases = {packed(name): packed(HOST[version]) for name in (alias, other)}
    bench = Bench(policy=Policy(ALLOW_LOOPBACK, aliases=aliases))
    host = server()
    names = [alias, other, HOST[version]]
    for name in names:
        bench.datagram(name, port_of(host), name.encode())
    for _ in names:
        payload, peer = host.recvfrom(100)
        host.sendto(payload, peer)
    await until(lambda: len(bench.stack.udp.sent) == 3)
    assert [(sent.source[0], sent.payload) for sent in bench.stack.udp.sent] == [
        (packed(name), name.encode()) for name in names
    ]
    bench.close()


async def test_a_mapping_lives_as_long_as_any_flow(bench: Bench, server: Open, version: int) -> None:
    first, second, third = server(), server(), server()
    port = peer_seen(bench, version, first)
    for _ in range(2):
        assert peer_seen(bench, version, second) == port
    bench.clock.advance(40)
    assert [flow.destination_port for flow in bench.udp._flows.values()] == [port_of(second)]
    assert peer_seen(bench, version, third) == port
    bench.clock.advance(306)
    assert len(bench.udp) == len(bench.udp._ports) == 0


async def test_a_recycled_flow_leaves_its_mapping(server: Open, version: int) -> None:
    bench = Bench(limits=Limits(udp_flows=2))
    first, second, third = server(), server(), server()
    assert peer_seen(bench, version, first, 1) != peer_seen(bench, version, second, 2)
    peer_seen(bench, version, third, 3)
    assert len(bench.udp._ports) == 2
    bench.close()
    assert len(bench.udp._ports) == 0


def test_between_bind_and_connect(server: Open, version: int) -> None:
    """A new socket on the port, not yet connected, takes nothing from the others; what strangers send it is dropped."""
    ports = UdpPorts()
    source = (packed(HOST[version]), 4000)
    peers = [server() for _ in range(30)]
    stranger = server()
    flows: list[socket.socket] = []
    port = 0
    for number, peer in enumerate(peers):
        sock = open_udp(version)
        mapping, as_wanted = ports.bind(sock, source)
        assert as_wanted
        if flows:
            for known in peers[:number]:
                known.sendto(b"%d" % port_of(known), (HOST[version], port))
            for whoever in (stranger, peer):
                whoever.sendto(b"too early", (HOST[version], port))
        dropped = connect(sock, version, packed(HOST[version]), port_of(peer))
        assert dropped == (2 if flows else 0)
        for flow, known in zip(flows, peers[:number], strict=True):
            assert flow.recv(100) == b"%d" % port_of(known)
            with pytest.raises(BlockingIOError):
                flow.recv(100)
        ports.add(source, mapping, sock)
        flows.append(sock)
        port = port or port_of(sock)
        assert port_of(sock) == port
    for sock in flows:
        sock.close()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root to become somebody else")
async def test_nobody_else_can_join(bench: Bench, server: Open, version: int) -> None:
    (port,) = {peer_seen(bench, version, server()) for _ in range(2)}
    family = "AF_INET" if version == 4 else "AF_INET6"
    script = f"""import socket
thief = socket.socket(socket.{family}, socket.SOCK_DGRAM)
thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
thief.bind(({HOST[version]!r}, {port}))
"""
    thief = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-c", script], user=65534, cwd="/", capture_output=True, text=True,
    )
    assert "Address already in use" in thief.stderr, thief.stderr
