"""Known attacks on the laptop itself: its own addresses in disguise, names that lead to them, its resolver."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.world import World
from tests.world.addresses import CORP

from .attacker import Scene, scene
from .conftest import Bridges
from .packets import each_protocol

pytestmark = pytest.mark.net

NAMESERVER = "10.99.0.53"
"""Another address of corp's, for a nameserver of the tests' own."""


@pytest.fixture(scope="module")
def attack(bridges: Bridges, world: World) -> Iterator[Scene]:
    with scene(bridges, world) as made:
        yield made


# --- forbidden places -------------------------------------------------------------------------------------------------

DISGUISES = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "::1", "::", "::127.0.0.1", "fe80::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::0.0.0.0",
    "64:ff9b:1::127.0.0.1",
]  # fmt: skip


class Ears:
    """A TCP and a UDP socket on every address of the laptop's, at one port."""

    def __init__(self, world: World) -> None:
        def listen() -> socket.socket:
            return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)

        self.tcp = world.laptop.inside(listen)
        self.port: int = self.tcp.getsockname()[1]
        self.udp = world.laptop.udp("::", self.port)

    def __enter__(self) -> Ears:
        return self

    def __exit__(self, *_: object) -> None:
        self.tcp.close()
        self.udp.close()

    def heard(self, timeout: float = 0.3) -> list[str]:
        """Who came."""
        came = []
        self.tcp.settimeout(timeout)
        self.udp.settimeout(timeout)
        with suppress(TimeoutError):
            self.tcp.accept()[0].close()
            came.append("TCP")
        with suppress(TimeoutError):
            self.udp.recv(100)
            came.append("UDP")
        return came


@pytest.fixture
def metadata(world: World) -> Iterator[None]:
    """The laptop has the address of a cloud's metadata service."""
    world.laptop.ip("addr add 169.254.169.254/32 dev lo")
    yield
    world.laptop.ip("addr del 169.254.169.254/32 dev lo")


@pytest.mark.usefixtures("metadata")
def test_laptops_own_addresses_in_every_disguise(attack: Scene) -> None:
    """One raw packet of each protocol for each: neither loopback nor the metadata address hears a thing."""
    moved = ("forward_tcp.dropped_policy", "forward_udp.dropped_policy", "forward_icmp.dropped_policy")
    with Ears(attack.world) as ears:
        attack.world.laptop.connect("127.0.0.1", ears.port).close()
        with attack.world.laptop.udp("127.0.0.1") as mouth:
            mouth.sendto(b"hello", ("127.0.0.1", ears.port))
        assert ears.heard() == ["TCP", "UDP"]  # they do hear
        with attack.survived(*moved):
            for host in DISGUISES:
                attack.wire.send(*each_protocol(attack.own[6 if ":" in host else 4], host, ears.port))
            assert not ears.heard()
    assert attack.bridge.event("flow_denied")


# --- names ------------------------------------------------------------------------------------------------------------

Answer = Callable[[socket.socket, bytes, tuple[str, int]], None]


@contextmanager
def nameserver(attack: Scene, answer: Answer) -> Iterator[None]:
    """The laptop's resolver is now one in corp that answers each question by `answer`."""
    path = attack.world.laptop.folder / "resolv.conf"
    usual = path.read_text()
    attack.world.corp.ip(f"addr add {NAMESERVER}/32 dev eth0")
    server = attack.world.corp.udp(NAMESERVER, 53)
    over = False

    def serve() -> None:
        while not over:
            try:
                query, peer = server.recvfrom(4096)
            except TimeoutError:
                continue
            answer(server, query, peer)

    server.settimeout(0.1)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        path.write_text(f"nameserver {NAMESERVER}\n")
        yield
    finally:
        over = True
        thread.join(5)
        server.close()
        path.write_text(usual)
        attack.world.corp.ip(f"addr del {NAMESERVER}/32 dev eth0")


def response(query: bytes, address: str) -> bytes:
    """The answer to a question for A or AAAA: that address, or nothing of the kind."""
    end = query.index(b"\0", 12) + 5
    kind = struct.unpack("!H", query[end - 4 : end - 2])[0]
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    fits = kind == (28 if len(packed) == 16 else 1)
    header = query[:2] + struct.pack("!HHHHH", 0x8180, 1, int(fits), 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 1, len(packed)) + packed
    return header + query[12:end] + (record if fits else b"")


@pytest.mark.usefixtures("metadata")
@pytest.mark.parametrize("address", ["64:ff9b::127.0.0.1", "169.254.169.254"])
def test_dns_rebinding(attack: Scene, address: str) -> None:
    """A name that leads to corp first and to the laptop's own addresses then: it is the address that is judged."""
    leads_to = [CORP[4]]

    def answer(server: socket.socket, query: bytes, peer: tuple[str, int]) -> None:
        server.sendto(response(query, leads_to[0]), peer)

    world = attack.world
    network = "64:ff9b::/96" if ":" in address else "169.254.169.254/32"
    world.codespace.ip(f"route add {network} dev {attack.tun}")
    curl = ("curl", "-sS", "-m3")
    try:
        with attack.survived("forward_tcp.dropped_policy"), nameserver(attack, answer), Ears(world) as ears:
            page = world.codespace.run(*curl, "http://evil.rebind.test/small").check()
            assert page.stdout == "netbridge\n"
            leads_to[0] = address
            time.sleep(1.2)  # the answer lived for a second
            fetched = world.codespace.run(*curl, f"http://evil.rebind.test:{ears.port}/")
            assert fetched.code == 7, fetched
            assert fetched.seconds < 2
            assert not ears.heard()
    finally:
        world.codespace.ip(f"route del {network} dev {attack.tun}")


def test_dns_answers_of_others_and_to_other_questions(attack: Scene) -> None:
    """Before the resolver answers, somebody in corp does: with a wrong id, to another name, and, with everything right,
    from another port and from another address. Only the resolver is believed."""
    others: list[socket.socket] = []

    def answer(server: socket.socket, query: bytes, peer: tuple[str, int]) -> None:
        forged = response(query, "10.99.0.66")
        for other in others:
            other.sendto(forged, peer)
        (number,) = struct.unpack("!H", query[:2])
        for wrong in (1, 0x8000, 0x1234):
            server.sendto(struct.pack("!H", number ^ wrong) + forged[2:], peer)
        server.sendto(forged[:12] + b"\x05wrong" + forged[18:], peer)  # "right", in whatever case
        server.sendto(forged[:7], peer)
        time.sleep(0.05)
        server.sendto(response(query, CORP[4]), peer)

    with attack.survived("resolver.ignored"), nameserver(attack, answer):
        others += [attack.world.corp.udp(NAMESERVER), attack.world.corp.udp(CORP[4])]
        try:
            for number in range(3):
                asked = attack.world.codespace.run(
                    "dig", "+short", "+tries=1", "+time=4", f"right.number{number}.test", "A"
                )
                assert asked.stdout == f"{CORP[4]}\n"
        finally:
            for other in others:
                other.close()


def test_questions_by_tcp_whose_answers_nobody_reads(attack: Scene) -> None:
    """A program without privileges asks 600 times 45 questions with large answers, says that it is through, and reads
    none: places are for so many connections, and nobody holds memory without one."""

    def question(number: int) -> bytes:
        name = b"".join(bytes((len(label),)) + label for label in (b"big", b"corp", b"test")) + b"\0"
        message = struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + name + struct.pack(">2H", 16, 1)
        return struct.pack(">H", len(message)) + message

    questions = b"".join(map(question, range(45)))
    host = attack.gateway[4]

    def ask() -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        made.settimeout(5)
        with suppress(OSError):  # reset at once: no place
            made.connect((host, 53))
            made.sendall(questions)
            made.shutdown(socket.SHUT_WR)
        return made

    big = attack.world.codespace.run("dig", "+tcp", "+short", "big.corp.test", "TXT").check().stdout
    assert len(big) > 4000
    with attack.survived("dns.tcp_refused", growth=50), ExitStack() as held:
        for _number in range(600):
            held.enter_context(attack.world.codespace.inside(ask))
        assert attack.world.codespace.run("dig", "+short", "www.corp.test", "A").stdout == f"{CORP[4]}\n"
    again = attack.world.codespace.run("dig", "+tcp", "+short", "big.corp.test", "TXT").check().stdout
    assert again == big
