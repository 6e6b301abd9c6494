"""What kind of NAT an application behind the bridge sees (docs/nat.md): a STUN client finds out, as RFC 5780 has it.

Coturn serves at two addresses of corp and two ports of each; its client asks from one socket and compares.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.world import Bridge, Output, World
from tests.world.addresses import BRANCH, CLOSED_PORT, CORP, CORP_TO_BRANCH, LAPTOP_IN_CORP
from tests.world.machine import wait_until

from .conftest import CONTROL, Through
from .datagrams import client, hears_nothing, peer_seen, serving, where

pytestmark = pytest.mark.net

both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])
STUN_PORT = 3478
DISCOVERY = "turnutils_natdiscovery"


@pytest.fixture(scope="module")
def stun(world: World) -> Iterator[None]:
    """Corp's STUN servers, one for each IP version."""
    if not shutil.which("turnserver") or not shutil.which(DISCOVERY):
        pytest.skip("needs the package coturn")
    folder = world.corp.folder
    servers = [
        world.corp.start(
            "turnserver", "-n", "--stun-only", "-L", CORP[version], "-L", CORP_TO_BRANCH[version],
            "-p", str(STUN_PORT), "--no-tls", "--no-dtls", "--no-tcp", "--no-cli", "--log-file", "stdout",
            "--pidfile", folder / f"turnserver{version}.pid", "-b", folder / f"turnserver{version}.db",
            log="turnserver.log",
        )
        for version in (4, 6)
    ]
    binding_request = bytes.fromhex("00010000 2112a442") + bytes(12)
    for host in (*CORP.values(), *CORP_TO_BRANCH.values()):
        for port in (STUN_PORT, STUN_PORT + 1):
            wait_until(lambda: answers(world, host, port, binding_request), f"STUN at {host} port {port}")  # noqa: B023
    yield
    for server in servers:
        server.kill()


def answers(world: World, host: str, port: int, question: bytes) -> bool:
    with world.laptop.udp("::" if ":" in host else "0.0.0.0") as sock:
        sock.settimeout(0.1)
        try:
            sock.sendto(question, (host, port))
            return bool(sock.recv(1000))
        except OSError:
            return False


def reflexive(output: Output) -> list[tuple[str, int]]:
    """The addresses that the servers saw, in order."""
    found = re.findall(r"UDP reflexive addr: (\S+):(\d+)$", output.stdout, re.MULTILINE)
    return [(host, int(port)) for host, port in found]


@both
@pytest.mark.usefixtures("stun")
def test_mapping_is_endpoint_independent(through: Through, version: int) -> None:
    """RFC 4787 REQ-1. The address is the laptop's; the port need not be the application's own."""
    output = through.run(DISCOVERY, "-m", CORP[version]).check()
    assert "NAT with Endpoint Independent Mapping!" in output.stdout, output.stdout
    seen = set(reflexive(output))
    assert len(seen) == 1, output.stdout
    assert seen.pop()[0] == LAPTOP_IN_CORP[version]


@pytest.mark.usefixtures("stun")
def test_filtering_and_hairpinning(idle: World, start: Callable[..., Bridge]) -> None:
    """Address and port dependent filtering, and no hairpinning. Four clients at once, for each waits for silence."""
    inside = start("sandbox").ready().inside()
    finding = {
        (version, option): idle.laptop.start(
            DISCOVERY, option, CORP[version], enter=inside, log=f"discovery{version}{option}.log"
        )
        for version in (4, 6)
        for option in ("-f", "-H")
    }
    for (version, option), program in finding.items():
        assert program.wait(20) == 0
        said = (idle.laptop.folder / f"discovery{version}{option}.log").read_text()
        if option == "-f":
            assert "NAT with Address and Port Dependent Filtering!" in said, said
        else:
            assert "RFC 5780 response" in said, said
            assert "STUN receive timeout" in said, said
            assert "successful hairpinning" not in said, said


@both
def test_a_hole_is_punched(through: Through, world: World, version: int) -> None:
    """A peer in the branch office is told where the codespace is seen; both send, and then they hear each other."""
    with (
        serving(world.corp, CORP[version]) as (rendezvous,),
        serving(world.branch, BRANCH[version]) as (peer,),
        client(through, version) as sock,
    ):
        seen = peer_seen(sock, rendezvous)
        peer.sendto(b"too early", seen)
        if through.transport != CONTROL:
            assert hears_nothing(sock)
        assert peer_seen(sock, peer, b"hello") == seen
        peer.sendto(b"hello yourself", seen)
        answer, source = sock.recvfrom(100)
        if through.transport == CONTROL:
            answer, source = sock.recvfrom(100)
        assert answer == b"hello yourself"
        assert source[:2] == where(peer)


@both
def test_an_error_does_not_end_the_mapping(through: Through, world: World, version: int) -> None:
    """RFC 4787 REQ-12."""
    with serving(world.corp, CORP[version]) as (server,), client(through, version) as sock:
        seen = peer_seen(sock, server)
        for _attempt in range(3):
            sock.sendto(b"anybody there?", (CORP[version], CLOSED_PORT))
            assert hears_nothing(sock, 0.05)
        assert peer_seen(sock, server) == seen


def test_two_sockets_are_two_ports(through: Through, world: World) -> None:
    """No port overloading (REQ-3), and a resolver's new socket is seen from a new port that nobody can guess."""
    with serving(world.corp, CORP[4]) as (server,):
        ports = []
        for _number in range(40):
            with client(through, 4) as sock:
                ports.append(peer_seen(sock, server)[1])
    assert len(set(ports)) >= 39, ports
    steps = [after - before for before, after in zip(ports, ports[1:], strict=False)]
    assert len(set(steps)) > 30, "the next port follows from the last"


def test_a_crowd_of_peers(through: Through, world: World) -> None:
    """A socket with many peers, as a swarm has: all of them reach it, and it is seen from few ports."""
    with serving(world.corp, *[CORP[4]] * 600) as servers, client(through, 4) as sock:
        peers = [peer_seen(sock, server) for server in servers]
        for number, (server, peer) in enumerate(zip(servers, peers, strict=True)):
            server.sendto(b"%d" % number, peer)
            answer, source = sock.recvfrom(100)
            assert (answer, source) == (b"%d" % number, where(server))
        assert len(set(peers)) <= 3, set(peers)
