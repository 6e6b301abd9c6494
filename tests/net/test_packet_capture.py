"""A codespace without a TUN: its processes lack NET_ADMIN and see no /dev/net/tun, and everything works nevertheless.

A second sshd runs in the codespace with what such an image leaves it. Where the world sends what leaves by the default
gateway is the laptop, which forwards nothing and is silent, as clouds are.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CLOSED_PORT, CODESPACE, CORP, ECHO_PORT, POSTGRES_PORT, SSH_PORT, url
from tests.world.machine import wait_until

from .conftest import TARGET
from .test_resume import break_it
from .test_traces import is_named

pytestmark = [pytest.mark.net, pytest.mark.timeout(120)]

Start = Callable[..., Bridge]
BARE, WITHOUT_RAW = SSH_PORT + 1, SSH_PORT + 2
LACKING = {BARE: "-net_admin,-sys_admin,-mknod", WITHOUT_RAW: "-net_admin,-sys_admin,-mknod,-net_raw"}
both = pytest.mark.parametrize("version", [4, 6])
STATE = "ip -o addr; ip route show table all; ip -6 route show table all; cat /etc/resolv.conf; ls /dev/net"


@pytest.fixture(scope="module")
def places(world: World) -> dict[int, str]:
    """By what they lack: targets whose sshd runs in the codespace without the capabilities."""
    codespace, found = world.codespace, {}
    config = world.laptop.folder / "home/.ssh/config"
    for port, lacking in LACKING.items():
        codespace.start(
            "unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh",
            "setpriv", "--bounding-set", lacking, "--inh-caps", lacking,
            "/usr/sbin/sshd", "-D", "-e", "-p", str(port), "-f", codespace.folder / "sshd/config", log="sshd.log",
        )  # fmt: skip
        name = found[port] = f"lacking{port}"
        with config.open("a") as file:
            file.write(f"Host {name}\n  HostName {CODESPACE[4]}\n  Port {port}\n  User root\n")
            file.write(f"  HostKeyAlias [{CODESPACE[4]}]:{SSH_PORT}\n")
        wait_until(functools.partial(world.laptop.answers, CODESPACE[4], port), f"sshd on port {port}")
    return {port: f"ssh://{name}" for port, name in found.items()}


def test_capture_is_asked_for(start: Start) -> None:
    """Where a TUN could be had, too; and then nothing is said of a better way."""
    bridge = start(TARGET, "--ssh", "openssh", "--capture", "packet").ready()
    hints = [event["text"] for event in bridge.events if event["event"] == "hint"]
    assert hints and not any("--device" in hint for hint in hints), hints
    assert bridge.status()["agent"]["capture"] == "packet"


def test_everything_but_what_answers_out_there(start: Start, places: dict[int, str], idle: World) -> None:
    bridge = start(places[BARE], "--ssh", "openssh", "--all").ready()
    skipped = bridge.event("skipped")
    assert skipped and any("only a TUN captures public addresses" in it["reason"] for it in skipped["networks"])
    assert not any(route.startswith(("8.", "0.")) for route in bridge.status()["routes"])
    assert idle.codespace.run("curl", "-sS", "-m", "5", f"http://{CORP[4]}/").check().stdout


@pytest.mark.parametrize(("port", "capture", "why"), [
    (BARE, "tun", "there is no /dev/net/tun"),
    (WITHOUT_RAW, "auto", "CAP_NET_RAW is missing"),
    (WITHOUT_RAW, "packet", "CAP_NET_RAW is missing"),
])  # fmt: skip
def test_neither_is_to_be_had(start: Start, places: dict[int, str], port: int, capture: str, why: str) -> None:
    bridge = start(places[port], "--ssh", "openssh", "--capture", capture)
    assert bridge.ended() == 5
    assert why in bridge.said
    for words in ("--cap-add=NET_RAW", "--device=/dev/net/tun", "rebuild the container"):
        assert words in bridge.said


def test_killed(start: Start, places: dict[int, str], idle: World) -> None:
    """Nothing of it outlives the agent, and the next bridge finds the place free."""
    state = idle.codespace.shell(STATE).stdout
    bridge = start(places[BARE], "--ssh", "openssh").ready()
    agent = next(pid for pid in idle.codespace.processes() if is_named(pid, "netbridge-agent"))
    os.kill(agent, signal.SIGKILL)
    assert bridge.ended() == 3
    wait_until(lambda: idle.codespace.shell(STATE).stdout == state, "everything to be as before")
    start(places[BARE], "--ssh", "openssh").ready()


def test_outlives_its_connection(start: Start, places: dict[int, str], idle: World) -> None:
    """As a bridge with a TUN does."""
    state = idle.codespace.shell(STATE).stdout
    bridge = start(places[BARE], "--ssh", "openssh").ready()
    with idle.corp.listen(CORP[4]) as listener:
        with idle.codespace.connect(CORP[4], listener.getsockname()[1]) as client, listener.accept()[0] as server:
            break_it(idle)
            wait_until(lambda: bridge.event("resumed"), "the bridge goes on", 20)
            client.sendall(b"still here")
            server.settimeout(5)
            assert server.recv(100) == b"still here"
    assert bridge.stop() == 0
    assert idle.codespace.shell(STATE).stdout == state


@pytest.fixture(scope="module", params=["by the device", "by the routes"])
def bare(request: pytest.FixtureRequest, world: World, places: dict[int, str], bridges: Any) -> Iterator[Bridge]:
    """A bridge by packet capture, with each way of giving the kernel its replies."""
    bridges.stop()
    strict = request.param == "by the routes"
    switch = "/proc/sys/net/ipv4/conf/all/rp_filter"
    before = world.codespace.shell(f"cat {switch}").check().stdout.strip()
    world.codespace.shell(f"echo {int(strict)} > {switch}").check()
    state = world.codespace.shell(STATE).stdout
    bridge = Bridge(world.laptop, places[BARE], "--ssh", "openssh")
    try:
        bridge.ready()
        assert bridge.status()["agent"]["sums"] is strict
        yield bridge
        assert bridge.stop() == 0
        stopped = bridge.event("stopped")
        assert stopped and stopped["clean"]
    finally:
        bridge.close()
        world.codespace.shell(f"echo {before} > {switch}").check()
    assert world.codespace.shell(STATE).stdout == state


def test_says_how_and_at_what_cost(bare: Bridge, world: World) -> None:
    connected = bare.event("connected")
    assert connected
    assert (connected["capture"], connected["tun"], connected["offload"]) == ("packet", "eth0", True)
    hints = [event["text"] for event in bare.events if event["event"] == "hint"]
    (costs,) = [hint for hint in hints if "goes to the gateway" in hint]
    assert "names in containers on docker0 are not asked here: without a TUN it cannot be done" in hints
    assert "--device=/dev/net/tun" in costs
    agent = bare.status()["agent"]
    assert (agent["capture"], agent["sources"]) == ("packet", ["172.30.7.0/24", "fd30:7::/64"])
    assert "nb0" not in world.codespace.run("ip", "link").stdout


@both
def test_http(bare: Bridge, world: World, version: int) -> None:
    output = world.codespace.run("curl", "-sS", "-m", "5", f"http://{url(CORP[version])}/")
    assert output.check().stdout


@both
def test_closed_port_is_refused(bare: Bridge, world: World, version: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        world.codespace.connect(CORP[version], CLOSED_PORT)


@both
def test_ping(bare: Bridge, world: World, version: int) -> None:
    world.codespace.run("ping", "-c", "3", "-i", "0.2", "-W", "2", "-s", "1000", CORP[version]).check()


@both
def test_datagrams_small_and_in_fragments(bare: Bridge, world: World, version: int) -> None:
    with world.codespace.inside(lambda: socket.socket({4: socket.AF_INET, 6: socket.AF_INET6}[version],
                                                      socket.SOCK_DGRAM)) as asking:  # fmt: skip
        asking.settimeout(5)
        asking.connect((CORP[version], ECHO_PORT))
        for size in (10, 1400, 1472, 9000):
            data = bytes(index & 0xFF for index in range(size))
            asking.send(data)
            assert asking.recv(65536) == data


def test_a_train_of_datagrams(bare: Bridge, world: World) -> None:
    """As QUIC sends them: one call, several datagrams, which the network card would cut (udp(7), UDP_SEGMENT)."""
    with world.codespace.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
        asking.settimeout(5)
        asking.connect((CORP[4], ECHO_PORT))
        asking.setsockopt(socket.IPPROTO_UDP, 103, 1200)
        asking.send(bytes(index // 1200 for index in range(4000)))
        assert [asking.recv(65536) for _ in range(4)] == [bytes([i]) * (1200 if i < 3 else 400) for i in range(4)]


def test_names(bare: Bridge, world: World) -> None:
    assert world.codespace.run("dig", "+short", "www.corp.test").check().stdout.strip()
    assert world.codespace.run("curl", "-sS", "-m", "5", "http://www.corp.test/").check().stdout


def test_psql(bare: Bridge, world: World) -> None:
    words = ("psql", "-h", CORP[4], "-p", str(POSTGRES_PORT), "-U", "postgres", "-At", "-c")
    query = "select count(*), sum(length(repeat('x', n))) from generate_series(1, 3000) n"
    assert world.codespace.run(*words, query).check().stdout.strip() == "3000|4501500"


@both
def test_half_close_and_much_data_both_ways(bare: Bridge, world: World, version: int) -> None:
    """Whoever is done says so by FIN, and the other goes on; 20 MB each way are the same bytes afterwards."""
    world.codespace.shell("head -c 20000000 /dev/urandom > /tmp/big").check()
    with world.corp.listen(CORP[version]) as listener:
        def echo() -> None:
            taken, _ = listener.accept()
            with taken, taken.makefile("rb") as reader:
                taken.sendall(reader.read())  # read() returns at the FIN

        serving = threading.Thread(target=echo)
        serving.start()
        port = listener.getsockname()[1]
        world.codespace.shell(f"nc -N {CORP[version]} {port} < /tmp/big | cmp - /tmp/big").check()
        serving.join(10)


def test_own_connections_stay(bare: Bridge, world: World) -> None:
    """What goes to hosts that are not captured is left alone: sshd here, and the container network."""
    with world.laptop.connect(CODESPACE[4], SSH_PORT) as other:
        assert other.recv(4) == b"SSH-"
    routes = bare.status()["routes"]
    assert "10.99.0.0/24" in routes
    assert not any(route.startswith(("172.30.", "172.17.")) for route in routes)


def test_one_at_a_time(bare: Bridge, world: World, places: dict[int, str]) -> None:
    second = Bridge(world.laptop, places[BARE], "--ssh", "openssh")
    try:
        assert second.ended() == 1
        assert "This machine bridges" in second.said
        assert "netbridge down" in second.said
    finally:
        second.close()
