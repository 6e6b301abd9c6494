"""How connections end when both sides are quick, or never come to it: with packets made by hand, and small limits."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from scapy.layers.inet import TCP
from scapy.packet import Packet

from tests.world import Bridge, World
from tests.world.addresses import CORP, HTTP_PORT
from tests.world.machine import wait_until

from .attacker import Conversation, Scene, scene
from .conftest import Bridges
from .state import counter, state
from .watch import RESET

pytestmark = pytest.mark.net

ORPHAN = 5
"""Seconds, instead of 60."""
LATER = 100_000
"""How far behind the first SYN of a pair of ports the second one's sequence number is."""


@pytest.fixture(scope="module")
def attack(bridges: Bridges, world: World) -> Iterator[Scene]:
    with scene(bridges, world, "--limit", f"tcp-orphan-timeout={ORPHAN}") as made:
        yield made


def syn_again(made: Conversation) -> Packet:
    """A SYN of the same addresses and ports, with a later sequence number."""
    packet = made.head.copy()
    packet[TCP].flags, packet[TCP].seq, packet[TCP].window = "S", made.ISN + LATER - 1, 65535
    return packet


def flows_to(bridge: Bridge, port: int) -> int:
    return sum(flow["destination"].endswith(f":{port}") for flow in state(bridge)["flows"])


@pytest.mark.parametrize("end", ["reset", "fin"])
def test_end_and_syn_of_the_same_ports_in_one_batch(attack: Scene, end: str) -> None:
    """Rule 11, passt f984003: the end of one connection and the start of the next come together, twenty times."""
    for _number in range(20):
        with attack.world.corp.listen(CORP[6]) as listener, contextlib.ExitStack() as opened:
            listener.settimeout(5)
            port = listener.getsockname()[1]
            made = Conversation(attack, port)
            first = opened.enter_context(listener.accept()[0])
            if end == "reset":
                attack.wire.send(made.segment(b"", 0, "RA"), syn_again(made))
            else:
                first.close()
                fin = attack.wire.hear(lambda it: made.mine(it) and bool(it[TCP].flags.F), to=made.source)  # noqa: B023
                assert fin is not None
                made.received += 1
                attack.wire.send(made.segment(b"", 0, "FA"), syn_again(made))
            answer = attack.wire.hear(lambda it: made.mine(it) and it[TCP].flags == "SA", to=made.source)  # noqa: B023
            assert answer is not None
            assert answer[TCP].ack == made.ISN + LATER
            made.irs, made.received = answer[TCP].seq + 1, 0
            made.send(b"second", LATER)
            second = opened.enter_context(listener.accept()[0])
            second.settimeout(5)
            assert second.recv(100) == b"second"
            if end == "reset":
                first.settimeout(5)
                with pytest.raises(ConnectionResetError):
                    first.recv(1)
            made.abort(LATER + 6)
        wait_until(functools.partial(gone, attack.bridge, port), "an empty table", 5, 0.05)


def gone(bridge: Bridge, port: int) -> bool:
    return not flows_to(bridge, port)


@pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])
def test_both_ends_close_at_once(attack: Scene, version: int) -> None:
    """Two real kernels, fifty times: each has the other's last bytes, nobody is reset, and the table is empty."""
    with attack.world.corp.listen(CORP[version]) as listener:
        port = listener.getsockname()[1]
        for number in range(50):
            client = attack.world.codespace.connect(CORP[version], port)
            server, _peer = listener.accept()
            both = threading.Barrier(2)
            read: dict[str, bytes] = {}

            def end(
                name: str, sock: socket.socket, both: threading.Barrier = both, read: dict[str, bytes] = read
            ) -> None:
                sock.settimeout(5)
                both.wait(5)
                sock.sendall(name.encode() * 1000)
                sock.shutdown(socket.SHUT_WR)
                data = b""
                while more := sock.recv(65536):
                    data += more
                read[name] = data

            with client, server:
                threads = [
                    threading.Thread(target=end, args=pair) for pair in (("client", client), ("server", server))
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(10)
            assert read == {"client": b"server" * 1000, "server": b"client" * 1000}, number
        wait_until(functools.partial(gone, attack.bridge, port), "an empty table", 5, 0.05)


def test_orphan_is_given_up(attack: Scene) -> None:
    """Rule 5: both sides said all, and the codespace does not acknowledge it. The flow ends when its patience does."""
    with attack.world.corp.listen(CORP[6]) as listener:
        listener.settimeout(5)
        port = listener.getsockname()[1]
        made = Conversation(attack, port)
        with listener.accept()[0] as server:
            wait_until(lambda: stands(attack.bridge, port, "open"), "the handshake", 5, 0.02)
            server.sendall(os.urandom(20_000))
        # What is said before the handshake is done leaves with it; the host's end is read when that is acknowledged.
        wait_until(lambda: stands(attack.bridge, port, "half closed by host"), "the host's end", 5, 0.02)
        made.send(b"", 0, "FA", window=0)
        wait_until(lambda: stands(attack.bridge, port, "closing"), "both ends", 5, 0.02)
        begun = time.monotonic()
        time.sleep(ORPHAN / 2)
        assert flows_to(attack.bridge, port) == 1
        wait_until(functools.partial(gone, attack.bridge, port), "its end", 3 * ORPHAN, 0.05)
        assert time.monotonic() - begun > ORPHAN * 0.8


def stands(bridge: Bridge, port: int, how: str) -> bool:
    return any(flow["state"] == how for flow in state(bridge)["flows"] if flow["destination"].endswith(f":{port}"))


@pytest.fixture
def two_ports(world: World) -> Iterator[None]:
    """The laptop has two ports for connects."""
    path = "/proc/sys/net/ipv4/ip_local_port_range"
    before = world.laptop.run("cat", path).check().stdout.split()
    world.laptop.shell(f"echo 61001 61002 > {path}").check()
    yield
    world.laptop.shell(f"echo {' '.join(before)} > {path}").check()


def test_no_port_left_is_silence_and_counted(attack: Scene, two_ports: None) -> None:
    """Rule 2: EADDRNOTAVAIL is nobody's fault out there. A SYN is dropped, and comes again; then there is room."""
    codespace = attack.world.codespace
    before = counter(attack.bridge, "forward_tcp", "dropped_error")
    with attack.world.corp.listen(CORP[4]) as listener:
        here = listener.getsockname()
        with contextlib.ExitStack() as held:
            for _number in range(2):
                client = held.enter_context(codespace.connect(*here))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)  # leaves no TIME-WAIT
            third = codespace.inside(socket.socket)
            third.setblocking(False)
            assert third.connect_ex(here) == errno.EINPROGRESS
            wait_until(lambda: counter(attack.bridge, "forward_tcp", "dropped_error") > before, "the drop", 5, 0.02)
            with pytest.raises(OSError, match="not connected"):
                third.getpeername()
            assert third.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            codespace.connect(CORP[4], HTTP_PORT).close()  # ports are taken for each destination

        def connected() -> bool:
            with contextlib.suppress(OSError):
                return bool(third.getpeername())
            return False

        with third:
            wait_until(connected, "its next SYN's answer", 10, 0.1)
