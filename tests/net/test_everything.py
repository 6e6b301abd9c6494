"""`--all`: everything the codespace sends goes through the laptop, but for what carries the bridge."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.world import Bridge, Machine, World
from tests.world.addresses import CODESPACE, CORP, LAPTOP, LAPTOP_IN_CORP, SSH_PORT, url
from tests.world.machine import wait_until
from tests.world.snapshot import Snapshot

from .conftest import TARGET
from .programs import changed
from .test_routes_live import bridged, way
from .test_traces import assert_restored, works

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
INTERNET = {4: "203.0.113.9", 6: "2001:db8:9::9"}
"""Reached through the laptop; the codespace's own default route leads to the laptop as well, which forwards nothing."""
OUT = ("192.0.2.10", "192.0.2.11", "192.0.2.12")
"""Public addresses of the laptop's, for those who reach out to a relay and for those who come in."""


@pytest.fixture
def internet(idle: World) -> Iterator[World]:
    """Beyond the laptop is a public host with a web server, an echo server and an ear."""
    idle.corp.ip(f"addr add {INTERNET[4]}/32 dev lo", f"addr add {INTERNET[6]}/128 dev lo")
    idle.laptop.ip(f"route add default via {CORP[4]}", f"route add ::/0 via {CORP[6]}")
    for address in OUT:
        idle.laptop.ip(f"addr add {address}/32 dev lo")
    yield idle
    for address in OUT:
        idle.laptop.ip(f"addr del {address}/32 dev lo")
    idle.laptop.ip(f"route del default via {CORP[4]}", f"route del ::/0 via {CORP[6]}")
    idle.corp.ip(f"addr del {INTERNET[4]}/32 dev lo", f"addr del {INTERNET[6]}/128 dev lo")


def routing(machine: Machine) -> str:
    """All routes. (Rules that lead containers' questions to the bridge end with it; a snapshot looks at them.)"""
    return machine.shell("ip -4 route show table all; ip -6 route show table all").stdout


def elsewhere(machine: Machine) -> str:
    """The routing of all interfaces but the bridge's."""
    return "\n".join(line for line in routing(machine).splitlines() if "dev nb" not in line)


def carried(world: World, version: int) -> None:
    """TCP, UDP and ping reach the public host, which sees the laptop as their source."""
    host = INTERNET[version]
    with world.corp.listen(host) as listener, world.corp.udp(host) as ear:
        client = world.codespace.connect(host, listener.getsockname()[1])
        with client, listener.accept()[0] as server:
            assert server.getpeername()[0] == LAPTOP_IN_CORP[version]
            server.sendall(b"hello")
            client.settimeout(5)
            assert client.recv(10) == b"hello"
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        with world.codespace.inside(lambda: socket.socket(family, socket.SOCK_DGRAM)) as mouth:
            mouth.sendto(b"by UDP", (host, ear.getsockname()[1]))
            ear.settimeout(5)
            data, peer = ear.recvfrom(100)
            assert (data, peer[0]) == (b"by UDP", LAPTOP_IN_CORP[version])
            ear.sendto(b"and back", peer)
            mouth.settimeout(5)
            assert mouth.recv(100) == b"and back"
    world.codespace.run("ping", "-c", "1", "-W", "3", host).check()


@pytest.mark.parametrize("end", ["stop", "kill -9"])
@pytest.mark.parametrize("ssh", ["IPv4", "IPv6"])
def test_everything_is_carried_and_undone(internet: World, start: Start, ssh: str, end: str) -> None:
    """Both versions, by an SSH of either. No route of another interface is touched, and what was open stays so."""
    world = internet
    before, table = Snapshot.of(world.codespace), routing(world.codespace)
    neighbours = [world.laptop.listen(LAPTOP[version]) for version in (4, 6)]
    earlier = []
    for listener in neighbours:
        client = world.codespace.connect(*listener.getsockname()[:2])
        earlier.append((client, listener.accept()[0]))
    target = TARGET if ssh == "IPv4" else f"ssh://root@{url(CODESPACE[6])}:{SSH_PORT}"
    bridge = start(target, "--ssh", "openssh", "--all", "--grace", "1").ready()
    try:
        assert elsewhere(world.codespace) == table.rstrip("\n")
        for version in (4, 6):
            assert bridged(world, INTERNET[version])
            carried(world, version)
            assert not bridged(world, LAPTOP[version])
        assert bridged(world, "1.1.1.1")
        assert bridged(world, "2606:4700::1111")
        for own in ("172.17.0.9", "172.30.7.99", "fd30:7::99", "127.0.0.53", "169.254.169.254", "168.63.129.16"):
            assert not bridged(world, own), way(world, own)
        for client, server in earlier:
            client.sendall(b"still")
            server.settimeout(5)
            assert server.recv(10) == b"still"
        if end == "stop":
            assert bridge.stop() == 0
        else:
            for pid in set(world.codespace.processes()) - before.pids:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: routing(world.codespace) == table, "the routes' end", 5)
            bridge.ended()
        assert routing(world.codespace) == table
    finally:
        for client, server in earlier:
            client.close()
            server.close()
        for listener in neighbours:
            listener.close()
    if end == "stop":
        assert_restored(before, world.codespace)


@pytest.fixture
def moving(internet: World) -> Iterator[Path]:
    """The alias `moving`, and the file of its settings; the laptop comes from the first of its public addresses."""
    config = internet.laptop.folder / "home/.ssh/config"
    extra = internet.laptop.folder / "home/.ssh/moving"
    alias = f"Host moving\n  HostName {CODESPACE[4]}\n  Port {SSH_PORT}\n  User root\n  Include {extra}\n"
    alias += f"  HostKeyAlias [{CODESPACE[4]}]:{SSH_PORT}\n"
    with changed(config, config.read_text() + alias), changed(extra, f"BindAddress {OUT[0]}\n"):
        yield extra


def cut(world: World, before: Snapshot) -> None:
    """The connection breaks; the agent stays."""
    for pid, words in world.codespace.processes().items():
        if pid not in before.pids and words.startswith("sshd:"):
            os.kill(pid, signal.SIGKILL)


def still_carries(world: World, client: socket.socket, server: socket.socket) -> None:
    client.sendall(b"after")
    server.settimeout(30)
    assert server.recv(100) == b"after"
    carried(world, 4)
    assert works(world)


def test_failure_23_a_resume_from_another_address_is_not_captured(
    internet: World, start: Start, moving: Path
) -> None:
    """Another Wi-Fi: the laptop knocks from an address nobody knew, and is answered there and not into the TUN."""
    world = internet
    before = Snapshot.of(world.codespace)
    bridge = start("ssh://moving", "--ssh", "openssh", "--all").ready()
    assert not bridged(world, OUT[0])
    assert bridged(world, OUT[1])
    host = INTERNET[4]
    with world.corp.listen(host) as listener:
        client = world.codespace.connect(host, listener.getsockname()[1])
        server = listener.accept()[0]
    with client, server:
        moving.write_text(f"BindAddress {OUT[1]}\n")
        cut(world, before)
        wait_until(lambda: bridge.event("resumed"), "the connection made anew", 30, 0.1)
        assert not bridged(world, OUT[1])
        still_carries(world, client, server)
    assert bridge.stop() == 0


RELAY = """
import select, socket, sys, time
def join(a, b):
    while True:
        for one in select.select([a, b], [], [])[0]:
            data = one.recv(65536)
            if not data:
                return
            (b if one is a else a).sendall(data)
number = 0
while True:
    out = socket.socket()
    try:
        out.connect((sys.argv[3 + number], 9999))
    except OSError:
        number = (number + 1) % (len(sys.argv) - 3)
        time.sleep(0.2)
        continue
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as ssh:
            join(out, ssh)
    except OSError:
        pass
    out.close()
"""
"""A relay beside the SSH server: it reaches out to one public address after the other and hands the connection in from
here, as the one of a codespace does. It has no patience of its own: a connect lasts as long as the kernel tries."""


@pytest.fixture(params=["beside", "outside"])
def relay(internet: World, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The alias `relayed`: the laptop waits for the relay on the address that the file names.

    The relay is a process of the codespace's, or one of the machine around it that shares its network alone, as where
    a codespace is a container of a virtual machine's.
    """
    world = internet
    config = world.laptop.folder / "home/.ssh/config"
    where = world.laptop.folder / "relay-at"
    command = f"sh -c 'exec nc -l -s $(cat {where}) -p 9999'"
    alias = f"Host relayed\n  HostName codespace\n  User root\n  ProxyCommand {command}\n"
    alias += f"  HostKeyAlias [{CODESPACE[4]}]:{SSH_PORT}\n"
    words = ["python3", "-I", "-S", "-c", RELAY, CODESPACE[4], str(SSH_PORT), *OUT]
    with ExitStack() as exits:
        if request.param == "outside":
            process = exits.enter_context(subprocess.Popen(["nsenter", "-t", str(world.codespace.init), "-n", *words]))
            exits.callback(process.kill)
        else:
            exits.callback(world.codespace.start(*words, log="relay.log").kill)
        exits.enter_context(changed(config, config.read_text() + alias))
        exits.enter_context(changed(where, f"{OUT[0]}\n"))
        yield where


def test_failure_23_a_relay_that_reaches_out_elsewhere_is_not_captured(
    internet: World, start: Start, relay: Path
) -> None:
    """It was connected to one public address when the bridge began, and tries others when that one is gone."""
    world = internet
    bridge = start("ssh://relayed", "--ssh", "openssh", "--all").ready(40)
    assert not bridged(world, OUT[0])
    assert bridged(world, OUT[1])
    host = INTERNET[4]
    with world.corp.listen(host) as listener:
        client = world.codespace.connect(host, listener.getsockname()[1])
        server = listener.accept()[0]
    with client, server:
        relay.write_text(f"{OUT[1]}\n")
        for pid, words in world.laptop.processes().items():
            if words.startswith("nc -l"):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: bridge.event("resumed"), "the connection made anew", 40, 0.1)
        assert not bridged(world, OUT[1])
        still_carries(world, client, server)
    assert bridge.stop() == 0
