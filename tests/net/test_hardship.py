"""What hurts users of other tools: each case of the list of known failures that needs a whole network to show."""

from __future__ import annotations

import os
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.world import Bridge, World, servers
from tests.world.addresses import CORP, ECHO_PORT, HTTP_PORT, REDIS_PORT
from tests.world.bridge import NETBRIDGE
from tests.world.machine import wait_until

from .conftest import TARGET

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def bridge(start: Start) -> Bridge:
    return start(TARGET, "--ssh", "openssh").ready()


def descriptors(bridge: Bridge) -> int:
    return len(os.listdir(f"/proc/{bridge.pid}/fd"))


def resident(bridge: Bridge) -> float:
    """Megabytes."""
    with open(f"/proc/{bridge.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmRSS:"))


@pytest.fixture
def late_network(idle: World) -> Iterator[str]:
    """A network that corp has and the laptop learns of later."""
    idle.corp.ip("addr add 10.96.0.1/32 dev lo")
    yield "10.96.0.1"
    idle.corp.ip("addr del 10.96.0.1/32 dev lo")
    idle.laptop.run("ip", "route", "del", "10.96.0.0/24")


def test_vpn_that_comes_up_after_the_bridge(idle: World, bridge: Bridge, late_network: str) -> None:
    """Routes are watched: a network that the laptop reaches later is captured, and let go when it is gone."""
    with idle.corp.listen(late_network) as listener:
        port = listener.getsockname()[1]
        assert "nb" not in idle.codespace.run("ip", "route", "get", late_network).stdout
        idle.laptop.ip(f"route add 10.96.0.0/24 via {CORP[4]}")
        wait_until(
            lambda: "dev nb" in idle.codespace.run("ip", "route", "get", late_network).stdout, "the route", 10, 0.1
        )
        idle.codespace.connect(late_network, port).close()
        idle.laptop.ip("route del 10.96.0.0/24")
        wait_until(
            lambda: "dev nb" not in idle.codespace.run("ip", "route", "get", late_network).stdout, "its end", 10, 0.1
        )
    idle.codespace.connect(CORP[4], HTTP_PORT).close()
    assert bridge.program.running


def test_thousands_of_connects_and_resets_leave_nothing(idle: World, bridge: Bridge) -> None:
    before = descriptors(bridge)

    def storm() -> None:
        for _number in range(2000):
            client = socket.create_connection((CORP[4], HTTP_PORT), 5)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()

    idle.codespace.inside(storm)
    wait_until(lambda: descriptors(bridge) <= before, "the descriptors to be given back", 10, 0.1)
    wait_until(lambda: not bridge.status()["flows"], "an empty flow table", 10, 0.2)
    idle.codespace.connect(CORP[4], HTTP_PORT).close()


def test_syn_and_reset_before_the_answer(idle: World, bridge: Bridge) -> None:
    """Connects that are given up at once, to a live port and to one that is refused."""
    before = descriptors(bridge)

    def storm() -> None:
        for number in range(1500):
            client = socket.socket()
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.connect_ex((CORP[4], HTTP_PORT + number % 2))
            client.close()

    idle.codespace.inside(storm)
    idle.codespace.connect(CORP[4], HTTP_PORT).close()
    wait_until(lambda: descriptors(bridge) <= before, "the descriptors to be given back", 10, 0.2)


def test_five_thousand_udp_flows(idle: World, bridge: Bridge) -> None:
    """One datagram each: the oldest flows give way, and the next one works as the first did."""

    def storm() -> None:
        for _number in range(5000):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(b"x", (CORP[4], ECHO_PORT))

    def ask() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(2)
            client.sendto(b"still there?", (CORP[4], ECHO_PORT))
            while (answer := client.recv(100)) == b"x":
                pass  # meant for one of the flows before, which had the same port
            return answer

    idle.codespace.inside(storm)
    assert idle.codespace.inside(ask) == b"still there?"
    idle.codespace.connect(CORP[4], HTTP_PORT).close()
    assert resident(bridge) < 150


def test_few_descriptors(idle: World, start: Start) -> None:
    """ulimit -n 256 and 400 connections: some fail, the bridge lives, and afterwards everything works."""
    prefix = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *NETBRIDGE)
    bridge = start(TARGET, "--ssh", "openssh", prefix=prefix).ready()

    def dial() -> socket.socket:
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex((CORP[4], HTTP_PORT))
        return client

    clients = idle.codespace.inside(lambda: [dial() for _number in range(400)])
    time.sleep(1)
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
    wait_until(lambda: idle.codespace.answers(CORP[4], HTTP_PORT), "a connection to work again", 10, 0.2)
    assert bridge.program.running
    assert "Traceback" not in bridge.said


def test_hundreds_of_stalled_readers(idle: World, bridge: Bridge) -> None:
    """300 downloads that nobody reads: memory stays flat, and another flow is as fast as ever."""
    (idle.web / "endless").write_bytes(bytes(20_000_000))
    clients = idle.codespace.inside(
        lambda: [socket.create_connection((CORP[4], HTTP_PORT), 5) for _number in range(300)]
    )
    try:
        for client in clients:
            client.sendall(b"GET /endless HTTP/1.0\r\n\r\n")
        time.sleep(2)
        assert resident(bridge) < 150
        begun = time.monotonic()
        output = idle.codespace.run("curl", "-sS", "-m5", f"http://{CORP[4]}/small").check()
        assert output.stdout == "netbridge\n"
        assert time.monotonic() - begun < 2
    finally:
        for client in clients:
            client.close()
        (idle.web / "endless").unlink()


def test_small_path_mtu_behind_the_laptop(idle: World, bridge: Bridge) -> None:
    """A VPN with an MTU of 1300: 10 MB each way arrive whole, and ping is told the MTU."""
    (idle.web / "ten").write_bytes(bytes(range(250)) * 40_000)
    try:
        idle.laptop.ip("link set eth1 mtu 1300")
        idle.corp.ip("link set eth0 mtu 1300")
        output = idle.codespace.shell(f"curl -sS -m20 http://{CORP[4]}/ten | wc -c").check()
        assert int(output.stdout) == 10_000_000
        received = idle.corp.folder / "received"
        receiver = idle.corp.start("sh", "-c", f"nc -l {CORP[4]} 9020 > {received}")
        wait_until(lambda: idle.corp.listens(9020), "nc")
        idle.codespace.shell(f"nc -N {CORP[4]} 9020 < {idle.web}/ten", timeout=20).check()
        assert receiver.wait(10) == 0
        assert received.read_bytes() == (idle.web / "ten").read_bytes()
        told = idle.codespace.run("ping", "-M", "do", "-c", "2", "-W", "2", "-s", "1400", CORP[4]).stdout
        assert "mtu = 1300" in told or "mtu=1300" in told, told
        assert bridge.program.running
    finally:
        idle.laptop.ip("link set eth1 mtu 1500")
        idle.corp.ip("link set eth0 mtu 1500")
        (idle.web / "ten").unlink()


def test_keystrokes_beside_bulk(idle: World, bridge: Bridge) -> None:
    """Redis answers promptly while a bulk transfer runs each way."""
    waits: list[float] = []

    def type_away() -> None:
        with socket.create_connection((CORP[4], REDIS_PORT), 5) as client:
            client.settimeout(5)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _number in range(60):
                begun = time.monotonic()
                client.sendall(b"PING\r\n")
                assert client.recv(100) == b"+PONG\r\n"
                waits.append(time.monotonic() - begun)
                time.sleep(0.03)

    ports = [str(servers.iperf(idle.corp)) for _way in range(2)]
    loads = [
        threading.Thread(target=idle.codespace.run, args=("iperf3", "-c", CORP[4], "-p", port, "-t", "4", *options))
        for port, options in zip(ports, ([], ["-R"]), strict=True)
    ]
    for load in loads:
        load.start()
    time.sleep(0.5)
    try:
        idle.codespace.inside(type_away)
    finally:
        for load in loads:
            load.join(20)
    assert statistics.median(waits) < 0.1, waits
    assert max(waits) < 1, waits
    assert bridge.program.running


def test_name_with_a_refused_v6_falls_back_at_once(idle: World, bridge: Bridge) -> None:
    """Happy eyeballs work because the refusal is passed on: the server listens on IPv4 only."""
    with idle.corp.listen(CORP[4]) as listener:

        def serve() -> None:
            connection, _peer = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nfour\n")

        server = threading.Thread(target=serve)
        server.start()
        port = listener.getsockname()[1]
        output = idle.codespace.run("curl", "-sS", "-m5", f"http://www.corp.test:{port}/").check()
        server.join(5)
    assert output.stdout == "four\n"
    assert output.seconds < 1
    assert bridge.program.running


def test_send_shut_down_wait_ten_seconds_read(idle: World, bridge: Bridge) -> None:
    """A half-closed flow may be idle for long before its answer comes."""
    with idle.corp.listen(CORP[4]) as listener:
        client = idle.codespace.connect(CORP[4], listener.getsockname()[1])
        with client, listener.accept()[0] as server:
            client.settimeout(20)
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert server.recv(100) == b"question"
            assert server.recv(100) == b""
            time.sleep(10)
            server.sendall(b"answer" * 100_000)
            server.close()
            received = b""
            while data := client.recv(65536):
                received += data
            assert received == b"answer" * 100_000
    assert bridge.program.running
