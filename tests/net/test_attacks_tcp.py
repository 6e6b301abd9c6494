"""Known attacks by TCP: root in the codespace against a running bridge (see `attacker`)."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from netbridge.stack.tcp.reassembly import MAX_BLOCKS
from tests.hostile.raw import SYN, tcp_packet
from tests.world import World
from tests.world.addresses import CLOSED_PORT, CORP, HTTP_PORT

from .attacker import Conversation, Scene, scene
from .conftest import Bridges
from .watch import descriptors, drain

pytestmark = pytest.mark.net

both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])
EOL, NOP, MSS, SACK_PERMITTED = b"\0", b"\1", b"\2", b"\4\2"


@pytest.fixture(scope="module")
def attack(bridges: Bridges, world: World) -> Iterator[Scene]:
    with scene(bridges, world) as made:
        yield made


@contextmanager
def conversation(
    attack: Scene, options: list[tuple[str, object]] | bytes = b"", **syn: int
) -> Iterator[tuple[Conversation, socket.socket]]:
    """A connection made by hand, and its other end at corp."""
    with attack.world.corp.listen(CORP[6]) as listener:
        made = Conversation(attack, listener.getsockname()[1], options, **syn)
        listener.settimeout(5)
        server, _peer = listener.accept()
        with server:
            server.settimeout(10)
            yield made, server


def pour(server: socket.socket, data: bytes) -> threading.Thread:
    """Send in the background."""
    thread = threading.Thread(target=server.sendall, args=(data,), daemon=True)
    thread.start()
    return thread


def expect(server: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += server.recv(1 << 16)
    return data


def test_segments_out_of_order_by_the_thousand(attack: Scene) -> None:
    """CVE-2018-5390: every second byte, last ones first and first ones first; kept are 2,048, and what is then sent in
    order arrives as sent."""
    with attack.survived("tcp.early", "tcp.early_refused"), conversation(attack) as (made, server):
        size = 2 * MAX_BLOCKS + 1001
        data = random.Random(5390).randbytes(size)
        for at in (*range(size - 1, 0, -2), *range(2, 500, 2)):
            made.send(data[at : at + 1], at, "A")
        for at in range(0, size, 500):
            made.send(data[at : at + 500], at)
        begun = time.monotonic()
        assert expect(server, size) == data
        assert time.monotonic() - begun < 2
        made.abort(size)


def test_selective_acknowledgements_of_nonsense(attack: Scene) -> None:
    """CVE-2019-11477: a tiny MSS, and SACK blocks that overlap, are inverted, reach beyond what was sent or hold one
    byte each. The transfer goes on as if they had not been said."""
    options: list[tuple[str, object]] = [("MSS", 48), ("SAckOK", b""), ("WScale", 7)]
    data = random.Random(11477).randbytes(200_000)
    dice = random.Random(1)
    with attack.survived(), conversation(attack, options) as (made, server):
        sending = pour(server, data)
        got = made.receive(20_000, sent=0)
        for _number in range(300):
            edge = made.irs + made.received
            edges = [edge + dice.randrange(-70_000, 70_000) for _edge in range(8)]
            if dice.random() < 0.5:
                edges = [edge + 1, edge + 2, edge + 1, edge + 3, edge + 3, edge + 1, edge, edge]
            made.send(b"", 0, "A", options=[("SAck", tuple(it & 0xFFFFFFFF for it in edges))])
        got += made.receive(len(data) - len(got), sent=0)
        assert got == data
        sending.join(5)
        made.abort(0)


@pytest.mark.parametrize("mss", [0, 1, 48])
def test_tiny_mss(attack: Scene, mss: int) -> None:
    """CVE-2019-11479: a peer that takes a byte a segment would be sent a header for each byte."""
    data = random.Random(11479).randbytes(30_000)
    with attack.survived(), conversation(attack, [("MSS", mss)]) as (made, server):
        sending = pour(server, data)
        assert made.receive(len(data), sent=0) == data
        assert made.smallest >= 88
        sending.join(5)
        made.abort(0)


OPTIONS = {
    "length 0": b"\x08\0\0\0",
    "length 1": b"\x08\1\x08\1",
    "length of MSS 0": MSS + b"\0\0\0",
    "length beyond the end": NOP * 2 + MSS + b"\xff",
    "kind without length": NOP * 3 + MSS,
    "a scale of 255": b"\3\3\xff" + EOL,
    "forty bytes of nothing": NOP * 40,
    "SACK blocks of odd length": b"\5\3\1" + EOL,
}


@pytest.mark.parametrize("what", list(OPTIONS))
def test_options_whose_lengths_make_no_sense(attack: Scene, what: str) -> None:
    """On the SYN and on data: the walk ends, the connection works as if nothing had been said."""
    options = OPTIONS[what]
    with attack.survived("tcp.requests"), conversation(attack, options) as (made, server):
        data = made.segment(b"", 0)
        made.wire.send(made.with_options(data, options))
        made.send(b"question", 0)
        assert expect(server, 8) == b"question"
        server.sendall(b"answer")
        assert made.receive(6, sent=8) == b"answer"
        made.abort(8)


@both
def test_headers_that_lie_about_their_length(attack: Scene, version: int) -> None:
    head = network(attack, version)
    with attack.survived("tcp.bad_header"):
        for offset in (0, 1, 4):
            attack.wire.send(head / TCP(sport=4000, dport=HTTP_PORT, flags="S", dataofs=offset))
        for flags in ("S", "A", "R", "F", ""):
            attack.wire.send(head / TCP(sport=4000, dport=HTTP_PORT, flags=flags, dataofs=15))
        whole = bytes(head / TCP(sport=4000, dport=HTTP_PORT, flags="S"))
        at = len(whole) - 20
        for size in range(20):
            cut = bytearray(whole[: at + size])
            if version == 4:
                attack.wire.send(IP(src=attack.own[4], dst=CORP[4], proto=6) / bytes(cut[20:]))
            else:
                cut[4:6] = size.to_bytes(2, "big")
                attack.wire.send(bytes(cut))


def network(attack: Scene, version: int) -> Packet:
    head = IPv6 if version == 6 else IP
    return head(src=attack.own[version], dst=CORP[version])


@pytest.mark.parametrize("pointer", [0, 1, 8, 9, 65535])
def test_urgent_pointer_beyond_the_segment(attack: Scene, pointer: int) -> None:
    """CVE-2026-9539: it indexes nothing; urgent data are data."""
    with attack.survived(), conversation(attack) as (made, server):
        made.send(b"question", 0, "PAU", urgptr=pointer)
        made.send(b"", 8, "AU", urgptr=pointer)
        made.send(b" more", 8)
        assert expect(server, 13) == b"question more"
        made.abort(13)


@both
def test_land(attack: Scene, version: int) -> None:
    """A SYN and a datagram from an address to itself, and from the bridge's own address."""
    head = IPv6 if version == 6 else IP
    own, gateway = attack.own[version], attack.gateway[version]
    with attack.survived("ip.martian"):
        for source, destination in (
            (CORP[version], CORP[version]), (gateway, gateway), (gateway, CORP[version]), (own, own),
        ):  # fmt: skip
            for ports in ((HTTP_PORT, HTTP_PORT), (53, 53)):
                both_ends = head(src=source, dst=destination)
                attack.wire.send(both_ends / TCP(sport=ports[0], dport=ports[1], flags="S", seq=1))
                attack.wire.send(both_ends / UDP(sport=ports[0], dport=ports[1]) / b"land")


@both
def test_port_0(attack: Scene, version: int) -> None:
    head = network(attack, version)
    with attack.survived("tcp.bad_header", "udp.malformed"):
        for source, destination in ((0, HTTP_PORT), (4000, 0), (0, 0)):
            for flags in ("S", "A", "R", "FA", ""):
                attack.wire.send(head / TCP(sport=source, dport=destination, flags=flags, seq=1))
            attack.wire.send(head / UDP(sport=source, dport=destination) / b"to nobody")
        assert attack.wire.hear(lambda it: TCP in it and 0 in (it[TCP].sport, it[TCP].dport), 0.2) is None


@both
def test_blind_resets_and_syns_into_an_open_connection(attack: Scene, version: int) -> None:
    """RFC 5961: addresses and ports are known, the sequence number is within the window but not exact. Then
    acknowledgements of what was never sent, and data outside the window."""
    with (
        attack.survived("tcp.challenges", "tcp.out_of_window"),
        attack.world.corp.listen(CORP[version]) as listener,
        attack.world.codespace.connect(CORP[version], listener.getsockname()[1]) as victim,
    ):
        server, _peer = listener.accept()
        port = victim.getsockname()[1]
        dice = random.Random(5961)
        with server:
            server.settimeout(5)
            victim.settimeout(5)
            for number in range(10):
                victim.sendall(b"up %d" % number)
                assert server.recv(100) == b"up %d" % number
                server.sendall(b"down %d" % number)
                assert victim.recv(100) == b"down %d" % number
                sent = attack.wire.hear(lambda it: TCP in it and it[TCP].dport == port and bool(it[TCP].payload))
                assert sent is not None
                forged = network(attack, version) / TCP(sport=port, dport=listener.getsockname()[1])
                expected = sent[TCP].ack
                for flags in ("R", "RA", "S", "SA", "SF"):
                    for offset in (1, 2, 500, 20_000, -1, -70_000, dice.randrange(1 << 32)):
                        forged[TCP].flags, forged[TCP].seq = flags, (expected + offset) % (1 << 32)
                        forged[TCP].ack = sent[TCP].seq
                        attack.wire.send(forged)
                forged[TCP].flags, forged[TCP].seq = "PA", (expected - 90_000) % (1 << 32)
                attack.wire.send(forged / b"not in the window")
                forged[TCP].seq, forged[TCP].ack = expected, (sent[TCP].seq + 0x4000_0000) % (1 << 32)
                attack.wire.send(forged / b"acknowledges what was never sent")
            victim.shutdown(socket.SHUT_WR)
            assert drain(server) == b""


def test_connections_that_are_never_finished(attack: Scene) -> None:
    """A SYN flood, short: 3,000 from addresses that do not exist, to a live port and to a closed one."""
    before = descriptors(attack.bridge)
    target = socket.inet_pton(socket.AF_INET6, CORP[6])
    with attack.survived("tcp.requests", "forward_tcp.refused", growth=60):
        for number in range(3000):
            ports = 1024 + number, HTTP_PORT if number % 3 else CLOSED_PORT
            attack.wire.send(tcp_packet(attack.stranger_packed(), target, ports, number, 0, SYN))
        begun = time.monotonic()
        page = attack.world.codespace.run("curl", "-sS", "-m5", f"http://{CORP[4]}/small").check()
        assert page.stdout == "netbridge\n"
        assert time.monotonic() - begun < 3
    assert descriptors(attack.bridge) - before < 2100
