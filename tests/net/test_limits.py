"""Limits: few descriptors with everything at once, limits that are set, and counters that move for their causes."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from tests.world import Bridge, Machine, World
from tests.world.addresses import BLACK_HOLE, CLOSED_PORT, CORP, ECHO_PORT, HTTP_PORT
from tests.world.bridge import NETBRIDGE
from tests.world.machine import wait_until

from .conftest import TARGET
from .dialling import connect_errno
from .packets import send, source_of
from .state import counter, state

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
FEW = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *NETBRIDGE)
LINGER = struct.pack("ii", 1, 0)


class Echo:
    """A TCP echo server in corp, and through the bridge a client that never stops asking it."""

    def __init__(self, world: World) -> None:
        self.listener = world.corp.listen(CORP[4])
        self.threads = [threading.Thread(target=self._serve), threading.Thread(target=self._ask)]
        self.asking = world.codespace.connect(*self.listener.getsockname())
        self.asking.settimeout(10)
        self.rounds = 0
        self.longest = 0.0
        """Seconds of the slowest answer."""
        self.error: OSError | None = None
        self.over = False

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    def _ask(self) -> None:
        try:
            while not self.over:
                question = os.urandom(2000)
                begun = time.monotonic()
                self.asking.sendall(question)
                answer = b""
                while len(answer) < len(question):
                    answer += self.asking.recv(len(question) - len(answer)) or b"!" * 2000
                if answer != question:
                    raise ConnectionError("another answer than the question")
                self.rounds += 1
                self.longest = max(self.longest, time.monotonic() - begun)
                time.sleep(0.01)
        except OSError as error:
            self.error = error

    def __enter__(self) -> Echo:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over = True
        self.threads[1].join(12)
        self.asking.close()
        self.threads[0].join(5)
        self.listener.close()


@pytest.fixture
def silent_resolver(idle: World) -> Iterator[Callable[[], None]]:
    """Makes the laptop's nameserver one that never answers: each question then holds sockets for seconds."""
    file = idle.laptop.folder / "resolv.conf"
    before = file.read_text()
    yield lambda: _write(file, f"nameserver {BLACK_HOLE[4]}\n")
    _write(file, before)


def _write(file: Path, text: str) -> None:
    with file.open("r+") as opened:  # in place: the machine has it mounted
        opened.truncate()
        opened.write(text)


def question(number: int) -> bytes:
    """A DNS query for a name of its own."""
    label = f"n{number}".encode()
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + bytes((len(label),)) + label + b"\4none\4test\0\0\1\0\1"


def storm(gateway: str) -> list[socket.socket]:
    """60 turns of what applications do: connects, datagrams, names and pings, all kept open."""
    made: list[socket.socket] = []

    def client(kind: int, protocol: int = 0) -> socket.socket:
        sock = socket.socket(socket.AF_INET, kind, protocol)
        sock.setblocking(False)
        made.append(sock)
        return sock

    for number in range(60):
        for _ in range(3):
            client(socket.SOCK_STREAM).connect_ex((CORP[4], HTTP_PORT))
        for _ in range(3):
            client(socket.SOCK_DGRAM).sendto(b"x", (CORP[4], ECHO_PORT))
        for each in range(3):
            client(socket.SOCK_DGRAM).sendto(question(number * 3 + each), (gateway, 53))
        ping = client(socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
        ping.sendto(struct.pack(">BBHHH", 8, 0, 0, 0, 1) + b"hello", (CORP[4], 0))
    return made


def works(machine: Machine) -> None:
    """TCP, UDP and ping all go through."""
    machine.connect(CORP[4], HTTP_PORT).close()
    with machine.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.settimeout(3)
        client.sendto(b"still there?", (CORP[4], ECHO_PORT))
        assert client.recv(100) == b"still there?"
    machine.run("ping", "-c", "1", "-W", "3", CORP[4]).check()


@pytest.mark.parametrize("ssh", ["openssh", "asyncssh"])
def test_256_descriptors_and_everything_at_once(
    idle: World, start: Start, silent_resolver: Callable[[], None], ssh: str
) -> None:
    """`ulimit -n 256`, 180 connects, 180 datagram flows, 60 pings and 180 names that nobody answers, three times over.

    What stands goes on all the time, the rest is refused or recycled, nothing crashes, and it all comes back.
    """
    bridge = start(TARGET, "--ssh", ssh, prefix=FEW).ready()
    gateway = state(bridge)["network"]["gateways"][0]
    before = descriptors(bridge)
    with Echo(idle) as echo:
        wait_until(lambda: echo.rounds > 5 or echo.error, "the first answers")
        silent_resolver()
        most = refused = 0
        for _ in range(3):
            rounds = echo.rounds
            with released(idle.codespace.inside(lambda: storm(gateway))):
                time.sleep(0.5)
                most = max(most, descriptors(bridge))
                # Connects that find no place are counted, whenever the bridge comes to them.
                wait_until(functools.partial(more_refused, bridge, refused + 20), "some to be refused", 10, 0.1)
                refused = refused_connects(bridge)
                most = max(most, descriptors(bridge))
                status = bridge.status()  # the control socket opens even now, and programs start
            limits = status["limits"]
            assert limits["descriptors"] == {"limit": 120, "unit": "descriptors", "used": limits["descriptors"]["used"]}
            assert limits["descriptors"]["used"] <= 120
            assert limits["dns-sockets"]["limit"] == 48
            assert limits["dns-sockets"]["used"] <= 48
            assert echo.error is None, echo.error
            assert echo.rounds > rounds
        counters = status["counters"]
        assert most > 190, "the descriptors were not short; the test shows nothing"
        assert most <= 256
        assert counters["forward_udp"]["flows_recycled"] + counters["forward_icmp"]["flows_recycled"] > 50
        assert counters["resolver"]["no_socket"] + counters["dns"]["overload"] > 10
        works(idle.codespace)
        assert echo.error is None, echo.error
        assert echo.longest < 3
    for word in ("Traceback", "Exception ignored", "Error"):
        assert word not in bridge.said
    wait_until(lambda: state(bridge)["limits"]["dns-sockets"]["used"] == 0, "the names to be given up", 10, 0.2)
    wait_until(lambda: state(bridge)["totals"].get("tcp", 0) == 0, "the connections to be gone", 10, 0.2)
    assert descriptors(bridge) <= before + 120, "beside idle UDP and ping flows nothing is left"


@contextlib.contextmanager
def released(sockets: list[socket.socket]) -> Iterator[None]:
    """Close them at the end, TCP by reset."""
    try:
        yield
    finally:
        for sock in sockets:
            if sock.type == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            sock.close()


def refused_connects(bridge: Bridge) -> int:
    """Those that got no place, and those whose place was needed before their client answered."""
    counters = state(bridge)["counters"]["forward_tcp"]
    return int(counters["dropped_flows"] + counters["given_up"])


def more_refused(bridge: Bridge, count: int) -> bool:
    return refused_connects(bridge) >= count


def descriptors(bridge: Bridge) -> int:
    return len(os.listdir(f"/proc/{bridge.pid}/fd"))


def test_limits_that_are_set_are_kept_and_shown(idle: World, start: Start) -> None:
    """A connect into silence is given up after its time, a destination gets as many connects as it may, UDP ends."""
    file = idle.laptop.folder / "limits.toml"
    file.write_text("[limits]\ntcp-connect-timeout = 1\nudp-idle-single = 1\nicmp-flows = 2\n")
    options = ("--config", str(file), "--limit", "tcp-half-open-per-destination=5", "--limit", "tcp-connect-timeout=3s")
    bridge = start(TARGET, "--ssh", "openssh", *options).ready()
    limits = state(bridge)["limits"]
    assert limits["tcp-connect-timeout"] == {"limit": 3.0, "unit": "seconds"}
    assert limits["icmp-flows"] == {"limit": 2, "unit": "flows", "used": 0}

    def dial() -> socket.socket:
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex((BLACK_HOLE[4], 80))
        return client

    begun = time.monotonic()
    with released(idle.codespace.inside(lambda: [dial() for _number in range(5)])):
        wait_until(lambda: counter(bridge, "forward_tcp", "timed_out") == 5, "five to be given up", 10, 0.1)
        assert time.monotonic() - begun > 2.9
    assert counter(bridge, "forward_tcp", "dropped_half_open") == 0
    with released(idle.codespace.inside(lambda: [dial() for _number in range(9)])):
        wait_until(lambda: counter(bridge, "forward_tcp", "dropped_half_open") >= 4, "four to be dropped", 5, 0.1)
        used = state(bridge)["limits"]
        assert 5 <= used["tcp-half-open"]["used"] == used["tcp-half-open-per-destination"]["used"] <= 9
    for _number in range(4):
        idle.codespace.run("ping", "-c", "1", "-W", "2", CORP[4]).check()
    assert state(bridge)["limits"]["icmp-flows"]["used"] == 2
    with idle.codespace.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as one:
        one.sendto(b"x", (CORP[4], ECHO_PORT))
        wait_until(lambda: counter(bridge, "forward_udp", "flows_opened"), "the flow", 5, 0.1)
        wait_until(lambda: counter(bridge, "forward_udp", "flows_expired"), "its end", 10, 0.2)


def test_a_limit_out_of_range_is_a_usage_error(start: Start) -> None:
    bridge = start(TARGET, "--limit", "tcp-flows=3")
    assert bridge.ended() == 2
    for words in ("tcp-flows is a whole number of flows from 8 to 65,536", "Each costs a descriptor", "--limit"):
        assert words in bridge.said


# --- every drop has its counter ---------------------------------------------------------------------------------------


def counter_reached(bridge: Bridge, room: str, name: str, value: int) -> bool:
    return counter(bridge, room, name) >= value


def wrong_checksum(packet: Any) -> bytes:
    """The packet with its last two bytes turned over."""
    data = bytearray(bytes(packet))
    data[-1] ^= 0xFF
    data[-2] ^= 0x55
    return bytes(data)


def test_each_cause_of_a_drop_moves_its_counter(idle: World, start: Start) -> None:
    """Raw packets onto the TUN: each cause moves exactly the counter that is named after it, and nothing leaves."""
    bridge = start(TARGET, "--ssh", "openssh", "--deny", "10.99.0.200", "--all").ready()
    me, me6 = source_of(bridge, 4), source_of(bridge, 6)
    corp = IP(src=me, dst=CORP[4])
    syn = TCP(sport=41000, dport=HTTP_PORT, flags="S", seq=1)
    stray = TCP(sport=41000, dport=HTTP_PORT, flags="A", seq=1, ack=1)
    datagram = UDP(sport=41000, dport=ECHO_PORT) / Raw(b"hello")
    causes: dict[tuple[str, str], list[Any]] = {
        ("forward_tcp", "dropped_policy"): [IP(src=me, dst="10.99.0.200") / syn],
        ("forward_udp", "dropped_policy"): [IP(src=me, dst="10.99.0.200") / datagram],
        ("forward_icmp", "dropped_policy"): [IP(src=me, dst="10.99.0.200") / ICMP(id=1, seq=1)],
        ("ip", "spoofed"): [
            IP(src="172.30.7.2", dst=CORP[4]) / syn, IP(src="10.99.0.3", dst=CORP[4]) / datagram,
            IP(src="198.18.255.2", dst=CORP[4]) / ICMP(id=1, seq=1), IPv6(src="fd30:7::2", dst=CORP[6]) / datagram,
            IPv6(src="fe80::1", dst=CORP[6]) / syn,
            # of no connection: a reset would go to whom it names, by way of a codespace that routes
            IP(src="172.30.7.9", dst=CORP[4]) / stray, IPv6(src="fd30:7::9", dst=CORP[6]) / stray,
        ],
        ("ip", "martian"): [
            IP(src="127.0.0.1", dst=CORP[4]) / syn, IP(src="0.0.0.0", dst=CORP[4]) / datagram,
            IP(src="224.0.0.5", dst=CORP[4]) / datagram, IP(src="255.255.255.255", dst=CORP[4]) / syn,
            IP(src=CORP[4], dst=CORP[4]) / syn, IPv6(src="::1", dst=CORP[6]) / syn,
            IPv6(src="ff02::1", dst=CORP[6]) / datagram,
        ],
        ("ip", "group"): [
            IP(src=me, dst="224.0.0.251") / datagram, IP(src=me, dst="255.255.255.255") / datagram,
            IPv6(src=me6, dst="ff02::fb") / datagram,
        ],
        ("ip", "expired"): [IP(src=me, dst=CORP[4], ttl=1) / datagram],
        ("ip", "unknown_protocol"): [IP(src=me, dst=CORP[4], proto=132) / Raw(b"sctp")],
        ("ip", "malformed"): [
            IP(src=me, dst=CORP[4], chksum=1) / datagram, IP(src=me, dst=CORP[4], len=4000) / datagram,
            IP(src=me, dst=CORP[4], ihl=3) / datagram,
        ],
        ("tcp", "bad_checksum"): [corp / TCP(sport=41001, dport=80, flags="S", chksum=1)],
        ("tcp", "bad_header"): [
            corp / TCP(sport=41002, dport=80, flags="S", dataofs=15), corp / TCP(sport=0, dport=80, flags="S"),
        ],
        ("tcp", "stray_resets"): [corp / TCP(sport=41004, dport=80, flags="R", seq=9)],
        ("udp", "malformed"): [wrong_checksum(corp / datagram), corp / UDP(sport=0, dport=7), corp / UDP(len=4000)],
        ("icmp", "malformed"): [wrong_checksum(corp / ICMP(id=1, seq=1) / Raw(b"hello"))],
        ("icmp", "ignored"): [IP(src=me, dst=CORP[4]) / ICMP(type=13)],
        ("icmp", "errors_disbelieved"): [
            IP(src=me, dst=gateway_of(bridge)) / ICMP(type=3, code=3) / (IP(src=gateway_of(bridge), dst=me) / datagram),
        ],
        ("fragments", "contradicting"): [
            IP(src=me, dst=CORP[4], id=7, flags="MF", proto=17) / Raw(bytes(64)),
            IP(src=me, dst=CORP[4], id=7, frag=4, proto=17) / Raw(bytes(64)),
        ],
        ("udp", "unclaimed"): [IP(src=me, dst=gateway_of(bridge)) / UDP(sport=41000, dport=9)],
        ("dns", "malformed"): [IP(src=me, dst=gateway_of(bridge)) / UDP(sport=41003, dport=53) / Raw(bytes(12))],
        ("dns", "dropped"): [IP(src=me, dst=gateway_of(bridge)) / UDP(sport=41003, dport=53) / Raw(b"runt")],
    }  # fmt: skip
    with idle.corp.inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.ntohs(3))) as tap:
        tap.bind(("eth0", 0x0003))
        tap.setblocking(False)
        for (room, name), packets in causes.items():
            with contextlib.suppress(BlockingIOError):
                while tap.recv(65536):
                    pass
            before = state(bridge)["counters"]
            send(idle.codespace, bridge, packets)
            wanted = before[room][name] + (len(packets) if room != "fragments" else 1)
            reached = functools.partial(counter_reached, bridge, room, name, wanted)
            wait_until(reached, f"{room}.{name}", 5, 0.05)
            after = state(bridge)["counters"]
            assert after[room][name] == wanted, (room, name)
            moved = {
                (other, each) for other, values in after.items() for each, value in values.items()
                if value != before[other][each]
            }
            forwarded = {("forward_tcp", "connects"), ("forward_udp", "packets_up"), ("forward_icmp", "packets_up")}
            assert not moved & forwarded, (room, name, moved)
            assert [frame for frame in frames(tap) if b"hello" in frame] == [], (room, name)
    assert state(bridge)["flows"] == []
    works(idle.codespace)


def gateway_of(bridge: Bridge) -> str:
    return source_of(bridge, 4).rpartition(".")[0] + ".1"


def frames(tap: socket.socket) -> list[bytes]:
    """What came by on corp's wire until now."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(tap.recv(65536))
    return found


def test_icmp_errors_beyond_their_rate_are_counted(idle: World, start: Start) -> None:
    bridge = start(TARGET, "--ssh", "openssh").ready()
    me = source_of(bridge, 4)
    packets = [IP(src=me, dst=CORP[4], ttl=1) / UDP(sport=42000 + each, dport=33434) for each in range(1500)]
    send(idle.codespace, bridge, packets)
    wait_until(lambda: counter(bridge, "ip", "expired") > 1000, "the probes", 5, 0.1)
    rooms = state(bridge)["counters"]
    counters = rooms["icmp"]
    assert counters["errors_sent"] + counters["errors_limited"] == rooms["ip"]["expired"]
    assert counters["errors_limited"] > 20
    assert connect_errno(idle.codespace, CORP[4], CLOSED_PORT) == errno.ECONNREFUSED
