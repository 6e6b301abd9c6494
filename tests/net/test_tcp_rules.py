"""The twelve TCP rules of a faithful forwarder, one after the other, with real kernels at both ends.

What the codespace's kernel sees is watched on its TUN (tests/world/probe_wire.py), what the laptop does in its socket
table. Whatever has to sleep sleeps at the same time, from the first test on (`sleepers`); rule 7 stands behind the
others because it sleeps longest.

Elsewhere: the errnos of rule 2 (test_errno.py), ten idle minutes and a sleep of five on a fake clock
(tests/bridge/forward/test_tcp_idle.py), simultaneous open and close, hostile SACK blocks and reassembly bombs
(tests/stack/tcp).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import random
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.world import Bridge, World
from tests.world.addresses import BLACK_HOLE, CLOSED_PORT, CORP, HTTP_PORT, PROHIBITED, UNREACHABLE
from tests.world.machine import wait_until
from tests.world.probe_wire import ACK, FIN, OPT_MSS, OPT_SACK, OPT_SACK_PERMITTED, OPT_WSCALE, RST, SYN, Seen, Wire

from .conftest import TARGET, Bridges

pytestmark = [
    pytest.mark.net, pytest.mark.unbalanced(reason="the sleepers of this module open and close connections meanwhile"),
]  # fmt: skip

ABORTIVE = struct.pack("ii", 1, 0)
SIOCOUTQ = 0x5411
SYN_SENT = "02"
"""As /proc/net/tcp calls it."""
both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])


@pytest.fixture(scope="module")
def bridge(world: World, bridges: Bridges) -> Iterator[Bridge]:
    bridges.stop()
    running = Bridge(world.laptop, TARGET, "--ssh", "openssh").ready()
    yield running
    running.close()


@pytest.fixture(scope="module")
def wire(world: World, bridge: Bridge) -> Iterator[Wire]:
    with Wire(world.codespace.inside) as watching:
        yield watching


class Pair:
    """A connection from the codespace to a server on corp, both ends held here. A context manager."""

    def __init__(self, world: World, *, version: int = 4, read_buffer: int = 0, enter: int | None = None) -> None:
        """`read_buffer`: SO_RCVBUF of both ends, if not what the kernel likes; `enter`: see `Machine.inside`."""

        def listening() -> socket.socket:
            made = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if read_buffer:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, read_buffer)
            made.bind((CORP[version], 0))
            made.listen()
            return made

        def connected() -> socket.socket:
            made = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET)
            if read_buffer:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, read_buffer)
            made.settimeout(60)
            made.connect((CORP[version], self.port))
            return made

        with world.corp.inside(listening) as listener:
            listener.settimeout(10)
            self.port: int = listener.getsockname()[1]
            self.client = world.codespace.inside(connected, enter)
            self.server, self.seen_by_server = listener.accept()
        self.server.settimeout(60)
        self.own: int = self.client.getsockname()[1]

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_error: object) -> None:
        self.client.close()
        self.server.close()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTIVE)
    sock.close()


def unacknowledged(sock: socket.socket) -> int:
    return int(struct.unpack("i", fcntl.ioctl(sock, SIOCOUTQ, bytes(4)))[0])


def read_all(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(1 << 20):
        parts.append(data)
    return b"".join(parts)


def connecting(world: World, host: str, port: int) -> int:
    """How many sockets of the laptop are in SYN-SENT to that address."""
    remote = socket.inet_aton(host)[::-1].hex().upper() + f":{port:04X}"
    lines = Path(f"/proc/{world.laptop.init}/net/tcp").read_text().splitlines()
    return sum(words[2] == remote and words[3] == SYN_SENT for words in map(str.split, lines))


def dial(world: World, host: str, port: int) -> socket.socket:
    """A connect that nobody waits for."""

    def dialled() -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        made.setblocking(False)
        made.connect_ex((host, port))
        return made

    return world.codespace.inside(dialled)


def inject(world: World, source_port: int, host: str, port: int, seq: int, ack: int, flags: str, **more: Any) -> None:
    """A segment made by hand leaves the codespace."""
    from scapy.layers.inet import IP, TCP  # slow to load

    packet = bytes(
        IP(src="198.18.0.2", dst=host) / TCP(sport=source_port, dport=port, seq=seq, ack=ack, flags=flags, **more)
    )

    def raw() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
            sender.sendto(packet, (host, 0))

    world.codespace.inside(raw)


# -- what sleeps


def half_closed_by_client(world: World) -> tuple[bytes, bytes]:
    with Pair(world) as pair:
        pair.client.sendall(b"question")
        pair.client.shutdown(socket.SHUT_WR)
        question = read_all(pair.server)
        time.sleep(10)
        pair.server.sendall(b"answer" * 100_000)
        pair.server.close()
        return question, read_all(pair.client)


def half_closed_by_server(world: World) -> tuple[bytes, bytes]:
    with Pair(world, version=6) as pair:
        pair.server.sendall(b"greeting")
        pair.server.shutdown(socket.SHUT_WR)
        greeting = read_all(pair.client)
        time.sleep(10)
        pair.client.sendall(b"late" * 100_000)
        pair.client.close()
        return greeting, read_all(pair.server)


def slept_for_twenty_seconds(world: World, wire: Wire, *, who: str) -> tuple[int, int, list[Seen]]:
    """Bytes written, bytes read after the sleep of `who`, and the packets of the time of silence."""
    with Pair(world, read_buffer=20_000) as pair:
        reader, writer = (pair.client, pair.server) if who == "client" else (pair.server, pair.client)
        written, quiet = 0, 0
        begun = time.monotonic()
        writer.setblocking(False)
        while quiet < 10:
            try:
                written += writer.send(bytes(65536))
                quiet = 0
            except BlockingIOError:
                quiet += 1
                time.sleep(0.05)
        stuck = time.monotonic()
        time.sleep(max(0.0, begun + 20 - stuck))
        silence = [seen for seen in wire.of(own=pair.own, other=pair.port) if seen.at > stuck]
        writer.setblocking(True)
        writer.shutdown(socket.SHUT_WR)
        return written, len(read_all(reader)), silence


def kept_alive(world: World, wire: Wire) -> tuple[bytes, list[Seen]]:
    with Pair(world) as pair:
        pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2)):
            pair.client.setsockopt(socket.IPPROTO_TCP, option, value)
        time.sleep(5.5)
        pair.server.sendall(b"still there")
        return pair.client.recv(100), wire.of(own=pair.own, other=pair.port)


@pytest.fixture(scope="module")
def sleepers(world: World, wire: Wire) -> Iterator[dict[str, Future[Any]]]:
    work: dict[str, Callable[[], Any]] = {
        "client half-closes": lambda: half_closed_by_client(world),
        "server half-closes": lambda: half_closed_by_server(world),
        "client sleeps": lambda: slept_for_twenty_seconds(world, wire, who="client"),
        "server sleeps": lambda: slept_for_twenty_seconds(world, wire, who="server"),
        "keepalive": lambda: kept_alive(world, wire),
    }
    with ThreadPoolExecutor(len(work)) as pool:
        yield {name: pool.submit(function) for name, function in work.items()}


@pytest.fixture(autouse=True)
def _asleep(sleepers: dict[str, Future[Any]]) -> None:
    """They begin with the first test."""


# -- the rules


def test_rule_01_handshake(world: World, wire: Wire) -> None:
    """No SYN-ACK before the host's connect succeeded; a repeated SYN opens nothing new; RST takes the connect back."""
    host = BLACK_HOLE[4]
    with dial(world, host, 9001) as client:
        own = client.getsockname()[1]
        packets = wire.count(3, "three SYNs", own=own, other=9001)
        assert connecting(world, host, 9001) == 1
        assert all(seen.up and seen.has(SYN) for seen in packets), packets
    # Closing it says nothing; what an impatient kernel would say is said by hand.
    inject(world, own, host, 9001, packets[0].seq + 1, 0, "R")
    wait_until(lambda: connecting(world, host, 9001) == 0, "the host socket's end", 3)
    with Pair(world) as pair:
        packets = wire.count(3, "a handshake", own=pair.own, other=pair.port)
        assert [seen.flags & (SYN | ACK) for seen in packets[:3]] == [SYN, SYN | ACK, ACK]


@both
def test_rule_02_connect_errors(world: World, wire: Wire, version: int) -> None:
    """RST for a refusal, the right ICMP message for each errno, silence for silence; test_errno.py has the errnos."""
    told = {4: {"unreachable": (3, 1), "prohibited": (3, 13)}, 6: {"unreachable": (1, 3), "prohibited": (1, 1)}}
    with dial(world, CORP[version], CLOSED_PORT) as refused:
        own = refused.getsockname()[1]
        wire.wait("a RST", lambda seen: not seen.up and seen.has(RST | ACK) and seen.ports == (own, CLOSED_PORT))
    for name, host in (("unreachable", UNREACHABLE[version]), ("prohibited", PROHIBITED[version])):
        with dial(world, host, 9002) as client:
            own = client.getsockname()[1]
            error = wire.wait(name, lambda seen: seen.icmp is not None and seen.ports == (own, 9002))  # noqa: B023
            assert error.icmp == told[version][name]
    with dial(world, BLACK_HOLE[version], 9002) as silent:
        own = silent.getsockname()[1]
        time.sleep(0.3)
        assert all(seen.up and not seen.icmp for seen in wire.of(own=own, other=9002))


@both
def test_rule_03_reset(world: World, wire: Wire, version: int) -> None:
    """A reset travels as a reset, each way, after the data that came before it."""
    data = os.urandom(50_000)
    for sender, receiver in (("client", "server"), ("server", "client")):
        with Pair(world, version=version) as pair:
            giver, taker = getattr(pair, sender), getattr(pair, receiver)
            giver.sendall(data)
            wait_until(lambda: not unacknowledged(giver), "the acknowledgement")  # noqa: B023
            reset(giver)
            received = bytearray()
            with pytest.raises(ConnectionResetError):
                while more := taker.recv(10_000):
                    received += more
            if sender == "server":
                # The other way the host's kernel may have to throw away what corp has not acknowledged yet.
                assert received == data
            assert data.startswith(bytes(received))
            ports = (pair.own, pair.port)
            wire.wait("the reset", lambda seen: bool(seen.flags & RST) and seen.ports == ports)  # noqa: B023
            resets = [seen for seen in wire.of(own=pair.own, other=pair.port) if seen.flags & RST]
            # An acknowledgement that crosses the reset is answered by another one.
            assert {seen.up for seen in resets} == {sender == "client"}, resets


def test_rule_04_half_close(sleepers: dict[str, Future[Any]]) -> None:
    """Ten idle seconds between one side's end and the other side's data; each way."""
    assert sleepers["client half-closes"].result(60) == (b"question", b"answer" * 100_000)
    assert sleepers["server half-closes"].result(60) == (b"greeting", b"late" * 100_000)


@pytest.mark.parametrize("who", ["client", "server"])
def test_rule_05_close_with_a_backlog(world: World, wire: Wire, who: str) -> None:
    """A megabyte is written and the socket closed while nobody reads: all of it arrives, and then the end."""
    data = os.urandom(1_000_000)
    with Pair(world, read_buffer=4096) as pair:
        giver, taker = (pair.client, pair.server) if who == "client" else (pair.server, pair.client)
        giver.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
        giver.sendall(data)
        giver.close()
        time.sleep(1)
        assert hashlib.sha256(read_all(taker)).digest() == hashlib.sha256(data).digest()
        assert not [seen for seen in wire.of(own=pair.own, other=pair.port) if seen.flags & RST]


def test_rule_06_backpressure(world: World) -> None:
    """Servers that read a little at a time, at random: the writers wait for them, and not a byte is lost or doubled."""
    chance = random.Random(6)
    data = chance.randbytes(8_000_000)
    digests: list[str] = []

    def read_some(server: socket.socket, seed: int) -> None:
        own_chance, digest = random.Random(seed), hashlib.sha256()
        for number in itertools.count():
            more = server.recv(own_chance.choice((1, 100, 1461, 30_000, 300_000)))
            if not more:
                break
            digest.update(more)
            if number % 16 == 0:
                time.sleep(0.005)
        digests.append(digest.hexdigest())

    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(Pair(world, version=version, read_buffer=30_000)) for version in (4, 6, 4, 6)]
        writers = [threading.Thread(target=pair.client.sendall, args=(data,)) for pair in pairs]
        for writer in writers:
            writer.start()
        time.sleep(0.7)
        assert all(writer.is_alive() for writer in writers), "somebody takes what nobody reads"
        readers = [threading.Thread(target=read_some, args=(pair.server, at)) for at, pair in enumerate(pairs)]
        for reader in readers:
            reader.start()
        for writer, pair in zip(writers, pairs, strict=True):
            writer.join(60)
            pair.client.shutdown(socket.SHUT_WR)
        for reader in readers:
            reader.join(60)
    assert digests == [hashlib.sha256(data).hexdigest()] * len(pairs)


@pytest.fixture(scope="module")
def inner(world: World, bridge: Bridge) -> Iterator[int]:
    """A machine behind the codespace, as a container is; the id of a process there.

    What is lost on the way from here is lost: a packet that a filter drops where it is made tells its socket so.
    """
    codespace = world.codespace
    program = codespace.start("unshare", "--net", "sleep", "600")
    outside = os.readlink(f"/proc/{codespace.init}/ns/net")
    wait_until(lambda: os.readlink(f"/proc/{program.pid}/ns/net") != outside, "the inner namespace")
    cable = f"ip link add inner0 type veth peer name eth0 netns {program.pid}"
    subprocess.run(["nsenter", "-t", str(codespace.init), "-n", *cable.split()], check=True)
    codespace.ip("addr add 172.31.0.1/24 dev inner0", "link set inner0 up")
    made = codespace.shell(
        "echo 1 > /proc/sys/net/ipv4/ip_forward && iptables -t nat -A POSTROUTING -s 172.31.0.0/24 -o nb0 -j MASQUERADE"
    )
    if made.code:
        pytest.skip(f"no iptables: {made.stderr}")
    lines = "addr add 172.31.0.2/24 dev eth0\nlink set eth0 up\nroute add default via 172.31.0.1\n"
    codespace.run("ip", "-batch", "-", stdin=lines, enter=program.pid).check()
    yield program.pid
    codespace.shell("iptables -t nat -F POSTROUTING; echo 0 > /proc/sys/net/ipv4/ip_forward").check()
    program.kill()


@pytest.mark.parametrize("way", ["down", "up"])
def test_rule_08_retransmission(world: World, wire: Wire, inner: int, way: str) -> None:
    """One packet in twenty is lost behind the TUN: checksums are equal, SACK tells what is missing, and few losses cost
    the time of a retransmission timeout (2 s for the bridge, 0.2 s for a kernel)."""
    data = os.urandom(30_000_000)
    interfaces = "-i nb0 -o inner0" if way == "down" else "-i inner0 -o nb0"
    rule = f"FORWARD {interfaces} -p tcp -m statistic --mode random --probability 0.05 -j DROP"
    with Pair(world, enter=inner) as pair:
        giver, taker = (pair.server, pair.client) if way == "down" else (pair.client, pair.server)
        world.codespace.shell(f"iptables -A {rule}").check()
        try:

            def send() -> None:
                giver.sendall(data)
                giver.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            begun = time.monotonic()
            sender.start()
            received = hashlib.sha256(read_all(taker)).hexdigest()
            seconds = time.monotonic() - begun
            sender.join(30)
            counted = world.codespace.shell("iptables -nvxL FORWARD | awk '/DROP/ { print $1 }'").stdout
        finally:
            world.codespace.shell(f"iptables -D {rule}").check()
        lost = int(counted)
        assert received == hashlib.sha256(data).hexdigest()
        assert lost >= 5
        told = [seen for seen in wire.of(other=pair.port) if OPT_SACK in (seen.options or {})]
        assert [seen for seen in told if seen.up == (way == "down")]
        assert seconds / (2.0 if way == "down" else 0.2) < lost / 2, (seconds, lost)


def test_rule_09_windows(world: World, wire: Wire) -> None:
    """Both sides scale; a reader that keeps up is shown a window larger than any unscaled one."""
    with Pair(world) as pair:
        count = 60_000_000
        sender = threading.Thread(target=lambda: [pair.client.sendall(bytes(1_000_000)) for _each in range(60)])
        sender.start()
        while count > 0:
            count -= len(pair.server.recv(1 << 20))
        sender.join(30)
        packets = wire.of(own=pair.own, other=pair.port)
        answer = next(seen for seen in packets if seen.has(SYN | ACK))
        assert answer.options is not None
        assert {OPT_MSS, OPT_WSCALE, OPT_SACK_PERMITTED} <= set(answer.options)
        shift = answer.options[OPT_WSCALE][0]
        windows = [seen.window << shift for seen in packets if not seen.up and not seen.flags & SYN]
        assert max(windows) > 0xFFFF * 4, max(windows)
        # The right edge never moves back, but by what a scaled window cannot say (RFC 7323, section 2.4).
        edge = 0
        for seen in packets:
            if not seen.up and not seen.flags & SYN:
                ahead = (seen.ack + (seen.window << shift) - edge) & 0xFFFFFFFF
                assert edge == 0 or ahead < 1 << 31 or (1 << 32) - ahead < 1 << shift
                edge = seen.ack + (seen.window << shift)


def test_rule_10_security(world: World, wire: Wire) -> None:
    """RFC 5961: a reset or SYN that is not exact is asked about; nobody is hurt."""
    with Pair(world) as pair:
        pair.client.sendall(b"a")
        assert pair.server.recv(1) == b"a"
        wire.wait("the data", lambda seen: seen.ports == (pair.own, pair.port) and seen.up and seen.length == 1)
        last = [seen for seen in wire.of(own=pair.own, other=pair.port) if seen.up][-1]
        nxt, ack = last.seq + last.length, last.ack
        for flags, seq in (("R", nxt + 1000), ("S", nxt), ("S", nxt + 5000)):
            time.sleep(0.6)  # challenges are rationed
            before = len([seen for seen in wire.of(own=pair.own, other=pair.port) if not seen.up])
            inject(world, pair.own, CORP[4], pair.port, seq, ack, flags)
            wait_until(
                lambda: len([seen for seen in wire.of(own=pair.own, other=pair.port) if not seen.up]) > before,  # noqa: B023
                f"the challenge to {flags}",
            )
            challenge = [seen for seen in wire.of(own=pair.own, other=pair.port) if not seen.up][-1]
            assert challenge.has(ACK)
            assert (challenge.length, challenge.ack) == (0, nxt)
        pair.client.sendall(b"b")
        assert pair.server.recv(1) == b"b"
        pair.server.sendall(b"c")
        assert pair.client.recv(1) == b"c"
        inject(world, pair.own, CORP[4], pair.port, nxt + 1, ack, "R")
        with pytest.raises(ConnectionResetError):
            pair.server.recv(1)


def test_rule_10_tiny_mss(world: World, wire: Wire) -> None:
    """A SYN that names an MSS of 1 gets segments of 88 bytes (CVE-2019-11479)."""
    rule = "POSTROUTING -o nb0 -p tcp --syn -j TCPMSS --set-mss 1"
    made = world.codespace.shell(f"iptables -t mangle -A {rule}")
    if made.code:
        pytest.skip(f"no iptables: {made.stderr}")
    try:
        pair = Pair(world)
    finally:
        world.codespace.shell(f"iptables -t mangle -D {rule}").check()
    with pair:
        data = os.urandom(100_000)
        pair.server.sendall(data)
        pair.server.close()
        assert read_all(pair.client) == data
        packets = wire.of(own=pair.own, other=pair.port)
        down = [seen for seen in packets if not seen.up and seen.length > 88]
        assert {seen.gso_size for seen in down} == {88}, down[:3]


@both
@pytest.mark.parametrize("who", ["client", "server"])
def test_rule_10_urgent_data_is_delivered_in_line(world: World, version: int, who: str) -> None:
    with Pair(world, version=version) as pair:
        giver, taker = (pair.client, pair.server) if who == "client" else (pair.server, pair.client)
        for number in range(50):
            giver.sendall(b"before%d" % number)
            giver.send(b"!", socket.MSG_OOB)
            giver.sendall(b"after")
        giver.close()
        assert read_all(taker) == b"".join(b"before%d!after" % number for number in range(50))


def test_rule_11_ends_keepalive(sleepers: dict[str, Future[Any]]) -> None:
    """A client that gives a silent peer three seconds is answered for five."""
    answer, packets = sleepers["keepalive"].result(60)
    assert answer == b"still there"
    probes = [seen for seen in packets if seen.up and seen.has(ACK) and not seen.length][1:]
    answers = [seen for seen in packets if not seen.up and seen.has(ACK) and not seen.length]
    assert len(probes) >= 4
    assert len(answers) >= 4


def test_rule_11_ends_port_used_again_at_once(world: World, bridge: Bridge) -> None:
    """One source port, 200 connections in a row: ended by the server's end, by the client's reset, by the server's."""
    with world.corp.listen(CORP[4]) as listener:
        listener.settimeout(10)
        port = listener.getsockname()[1]

        def again(own: int) -> socket.socket:
            made = socket.socket()
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("198.18.0.2", own))
            made.settimeout(5)
            for _attempt in range(100):
                try:
                    made.connect((CORP[4], port))
                    return made
                except OSError as error:
                    if error.errno != errno.EADDRNOTAVAIL:
                        raise
                    time.sleep(0.001)  # the last end is not acknowledged yet
            raise AssertionError("the port stays in use")

        own = 23456
        for number in range(200):
            client = world.codespace.inside(lambda: again(own))
            server, _peer = listener.accept()
            server.settimeout(5)
            client.sendall(b"%d" % number)
            assert server.recv(100) == b"%d" % number
            if number % 3 == 0:
                server.close()  # the codespace's kernel keeps no TIME-WAIT of what the other side closed first
                assert client.recv(1) == b""
                client.close()
            elif number % 3 == 1:
                reset(client)
                server.close()
            else:
                reset(server)
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
                client.close()
        wait_until(lambda: not flows_to(bridge, port), "an empty table", 10, 0.2)


def flows_to(bridge: Bridge, port: int) -> list[dict[str, Any]]:
    return [flow for flow in bridge.status()["flows"] if flow["destination"].endswith(f":{port}")]


def test_rule_12_delayed_ack(world: World, wire: Wire) -> None:
    """Fewer acknowledgements than super-segments in bulk; a lone segment is acknowledged by a timer."""
    with Pair(world) as pair:
        pair.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair.client.sendall(b"x")
        begun = time.monotonic()
        wait_until(lambda: not unacknowledged(pair.client), "the acknowledgement", 1, 0.001)
        alone = time.monotonic() - begun
        sender = threading.Thread(target=lambda: [pair.client.sendall(bytes(1_000_000)) for _each in range(40)])
        sender.start()
        count = 40_000_001
        while count > 0:
            count -= len(pair.server.recv(1 << 20))
        sender.join(30)
        packets = wire.of(own=pair.own, other=pair.port)
        data = sum(seen.up and seen.length > 0 for seen in packets)
        acks = sum(not seen.up and seen.has(ACK) and not seen.length for seen in packets)
        assert acks < data
        assert alone < 0.5


# -- storms, and the end


def descriptors(bridge: Bridge) -> int:
    return len(os.listdir(f"/proc/{bridge.pid}/fd"))


def test_rule_07_zero_window(sleepers: dict[str, Future[Any]]) -> None:
    """A reader asleep for 20 s: the writer is asked to wait, probes pass, nobody gives up, and then all arrives."""
    for who in ("client", "server"):
        written, received, silence = sleepers[f"{who} sleeps"].result(60)
        assert received == written
        assert written < 50_000_000
        assert not [seen for seen in silence if seen.flags & (RST | FIN)]
        # The side that has something to say asks: the stack for the server's data, the codespace's kernel for its own.
        probes = [seen.at for seen in silence if seen.up == (who == "server")]
        answers = [seen for seen in silence if seen.up != (who == "server")]
        gaps = [later - earlier for earlier, later in itertools.pairwise(probes)]
        assert len(probes) >= 2, probes
        assert len(answers) >= 2, answers
        # Doubling; the stack, whose peer is never far, stops at TcpConfig.longest_persist.
        assert all(b > min(1.5 * a, 4.5) for a, b in itertools.pairwise(gaps)), gaps


def test_abort_while_connecting(world: World, wire: Wire, bridge: Bridge) -> None:
    """A hundred connects to a black hole, each taken back by a reset: nothing is left of them on the laptop."""
    before = descriptors(bridge)
    clients = [dial(world, BLACK_HOLE[4], 9003) for _number in range(100)]
    wait_until(lambda: connecting(world, BLACK_HOLE[4], 9003) == 100, "the host sockets")
    for client in clients:
        client.close()
    for seen in {seen.ports: seen for seen in wire.of(other=9003) if seen.has(SYN)}.values():
        inject(world, seen.source_port, BLACK_HOLE[4], 9003, seen.seq + 1, 0, "R")
    wait_until(lambda: connecting(world, BLACK_HOLE[4], 9003) == 0, "their end", 5)
    wait_until(lambda: descriptors(bridge) <= before, "the descriptors to be given back", 5, 0.1)
    assert not flows_to(bridge, 9003)


def test_ten_thousand_syn_then_reset(world: World, bridge: Bridge) -> None:
    """Connects given up before any answer, to an open and to a closed port: no flow and no descriptor stays."""
    before = descriptors(bridge)

    def storm() -> None:
        for number in range(10_000):
            client = socket.socket()
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTIVE)
            client.connect_ex((CORP[4], HTTP_PORT + number % 2))
            client.close()

    world.codespace.inside(storm)
    world.codespace.connect(CORP[4], HTTP_PORT).close()
    wait_until(lambda: not bridge.status()["flows"], "an empty table", 20, 0.5)
    wait_until(lambda: descriptors(bridge) <= before, "the descriptors to be given back", 10, 0.2)
    assert bridge.program.running
