"""ICMP errors from the network reach the flow that they are about and no other; forged ones reach nobody."""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import time
from collections.abc import Iterator

import pytest
from scapy.compat import raw
from scapy.layers.inet import TCP, UDP
from scapy.packet import Raw

from tests.world import Machine, World
from tests.world.addresses import BLACK_HOLE, CORP, LAPTOP_IN_CORP, SILENT
from tests.world.machine import wait_until

from .conftest import Through
from .forging import (
    ABSURD,
    EXPIRED,
    FAMILY,
    HARD,
    NET,
    PORT,
    PROHIBITED,
    TOO_BIG,
    Wire,
    echo,
    error,
    exchange,
    ip,
    is_request,
    lies,
    meet,
    udp_client,
)
from .test_path_tools import forget_path_mtu

pytestmark = pytest.mark.net

both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])


@both
def test_udp_sockets_hear_of_their_own_datagrams_only(through: Through, world: World, wire: Wire, version: int) -> None:
    with world.corp.udp(CORP[version]) as server:
        server.settimeout(5)
        address = server.getsockname()[:2]
        with udp_client(through, version, address) as one, udp_client(through, version, address) as other:
            here = meet(one, server)
            assert meet(other, server) != here
            about = ip(version, here[0], CORP[version]) / UDP(sport=here[1], dport=address[1]) / Raw(b"question")
            for lie in lies(about):
                for says in HARD:
                    wire.say(error(says, lie, at=LAPTOP_IN_CORP[version]))
                wire.say(error(TOO_BIG, lie, at=LAPTOP_IN_CORP[version], mtu=ABSURD))
            for client in (one, other, one, other):
                meet(client, server)
            wire.say(error(PORT, about))
            with pytest.raises(ConnectionRefusedError):
                one.recv(100)
            for client in (other, one):
                meet(client, server)


@both
def test_port_that_closes_is_told_to_its_user(through: Through, world: World, version: int) -> None:
    """No forgery: of two servers one ends, and its kernel says so."""
    with world.corp.udp(CORP[version]) as stays:
        ends = world.corp.udp(CORP[version])
        for server in (stays, ends):
            server.settimeout(5)
        with (
            udp_client(through, version, stays.getsockname()[:2]) as one,
            udp_client(through, version, ends.getsockname()[:2]) as other,
        ):
            meet(one, stays)
            meet(other, ends)
            ends.close()
            other.send(b"still there?")
            with pytest.raises(ConnectionRefusedError):
                other.recv(100)
            meet(one, stays)


@pytest.fixture
def path_mtu(through: Through, world: World) -> Iterator[None]:
    yield
    forget_path_mtu(through.shell, world.laptop.shell)


@both
def test_absurd_mtu_loses_no_datagram_for_long(
    through: Through, world: World, wire: Wire, version: int, path_mtu: None
) -> None:
    """Told in the flow's own name that 68 bytes are too many, it sends fragments of the size it thinks least."""
    with world.corp.udp(CORP[version]) as server, udp_client(through, version, server.getsockname()[:2]) as client:
        server.settimeout(0.5)
        here = meet(client, server)
        about = ip(version, here[0], CORP[version]) / UDP(sport=here[1], dport=server.getsockname()[1]) / Raw(bytes(60))
        wire.say(error(TOO_BIG, about, mtu=ABSURD))
        arrived = b""
        for _attempt in range(5):
            with contextlib.suppress(OSError):  # EMSGSIZE, once; and once more from the laptop's kernel
                client.send(bytes(1200))
                arrived = server.recv(2000)
                break
        assert arrived == bytes(1200)


@both
def test_tcp_connection_outlives_every_error(through: Through, world: World, version: int, path_mtu: None) -> None:
    """Forged or not: once established, only a reset ends it. An absurd MTU makes segments small, not the flow stop."""
    with world.corp.listen(CORP[version]) as listener, Wire(world.corp.inside, version, "eth0") as wire:
        listener.settimeout(5)
        with through.connect(*listener.getsockname()[:2]) as client, listener.accept()[0] as server:
            for end in (client, server):
                end.settimeout(5)
            client.sendall(b"first")
            assert server.recv(100) == b"first"
            port = server.getpeername()[1]
            first = wire.hear(
                lambda packet: TCP in packet and packet[TCP].sport == port and raw(packet).endswith(b"first")
            )
            segment = TCP(sport=port, dport=listener.getsockname()[1], seq=first[TCP].seq + 5, flags="A")
            about = ip(version, first.src, first.dst) / segment
            for lie in (*lies(about), about):
                for says in (*HARD, EXPIRED):
                    wire.say(error(says, lie, at=LAPTOP_IN_CORP[version]))
                wire.say(error(TOO_BIG, lie, at=LAPTOP_IN_CORP[version], mtu=ABSURD))
            exchange(client, server)


@both
def test_tcp_connect_heeds_errors_about_its_own_syn(through: Through, wire: Wire, version: int) -> None:
    """A connect that still waits believes an error (RFC 1122, section 4.2.3.9) when its sequence number is right."""
    client = through.inside(lambda: socket.socket(FAMILY[version]))
    with client:
        client.setblocking(False)
        client.connect_ex((BLACK_HOLE[version], 80))
        syn = wire.hear(lambda packet: TCP in packet and packet.dst == BLACK_HOLE[version] and packet[TCP].flags == "S")
        for lie in lies(syn):
            for says in HARD:
                wire.say(error(says, lie, by=CORP[version], at=LAPTOP_IN_CORP[version]))
        time.sleep(0.3)
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        with pytest.raises(OSError, match="not connected"):
            client.getpeername()
        wire.say(error(PROHIBITED, syn, by=CORP[version]))
        expected = errno.EACCES if version == 6 else errno.EHOSTUNREACH
        found = wait_until(lambda: client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "the error", 5)
        assert found == expected


@both
def test_ping_hears_of_its_own_requests_only(through: Through, wire: Wire, version: int) -> None:
    program = through.start(
        "ping", f"-{version}", "-n", "-c", "3", "-i", "0.1", "-W", "0.6", BLACK_HOLE[version], log="ping.log"
    )
    log = through.machine.folder / "ping.log"
    before = len(log.read_text())
    for _number in range(3):
        request = wire.hear(lambda packet: is_request(packet, BLACK_HOLE[version]))
        header = request[echo(version)]
        last = header.seq
        another = request.copy()
        another[echo(version)].id = header.id ^ 1
        if last == 3:
            wire.say(error(PROHIBITED, request, by=CORP[version]))
        elsewhere = ip(version, request.src, SILENT[version]) / header.copy()
        for lie in (another, elsewhere):
            wire.say(error(NET, lie, by=CORP[version], at=LAPTOP_IN_CORP[version]))
    assert program.wait(5) == 1
    said = re.findall(r"^From (\S+?):? icmp_seq=(\d+) (.+)$", log.read_text()[before:], re.MULTILINE)
    words = {4: "Packet filtered", 6: "Destination unreachable: Administratively prohibited"}[version]
    assert said == [(CORP[version], "3", words)]


CODES = {
    4: [(3, code) for code in range(16)] + [(11, 0), (11, 1)],
    6: [(1, code) for code in range(7)] + [(3, 0), (3, 1)],
}


ON_THE_LAPTOP: dict[int, list[tuple[str, str]]] = {}
"""What ping there prints about CODES: by version, once for all transports."""


@both
def test_every_error_reads_as_on_the_laptop(
    through: Through, world: World, wire: Wire, version: int, path_mtu: None
) -> None:
    """A router that complains of each request in another way; `ping` finds the same words for it in both places."""

    def printed(machine: Machine, enter: int | None) -> list[tuple[str, str]]:
        program = machine.start(
            "ping", f"-{version}", "-n", "-c", str(len(CODES[version])), "-i", "0.02", "-W", "0.3", BLACK_HOLE[version],
            log="codes.log", enter=enter,
        )  # fmt: skip
        before = len((machine.folder / "codes.log").read_text())
        for number in CODES[version]:
            request = wire.hear(lambda packet: is_request(packet, BLACK_HOLE[version]))
            wire.say(error({version: number}, request, by=CORP[version], mtu=1400))
        program.wait(10)
        text = (machine.folder / "codes.log").read_text()[before:]
        return re.findall(r"^From (\S+?):? icmp_seq=\d+ (.+)$", text, re.MULTILINE)

    if version not in ON_THE_LAPTOP:
        ON_THE_LAPTOP[version] = printed(world.laptop, None)
    assert printed(through.machine, through.enter) == ON_THE_LAPTOP[version]
    assert len({words for _who, words in ON_THE_LAPTOP[version]}) > 6
