"""A client that sends, closes and is forgotten by its kernel, while its server takes its time: not a byte is lost.

Linux forgets a socket that its application has closed a minute after the other side acknowledged the end of it, and
answers by a reset whatever comes for it then, the bridge's question whether the flow still lives too. Here two seconds
and five are enough for both.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.world import Bridge, Machine, World
from tests.world.addresses import CORP
from tests.world.machine import wait_until
from tests.world.probe_wire import RST, Wire

from .conftest import TARGET
from .state import counter, state

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
KEEPALIVE = ("--limit", "tcp-keepalive=5")


@pytest.fixture
def forgetful(idle: World) -> Iterator[World]:
    """The codespace's kernel forgets in two seconds."""
    path = "/proc/sys/net/ipv4/tcp_fin_timeout"
    before = idle.codespace.run("cat", path).check().stdout.strip()
    idle.codespace.shell(f"echo 2 > {path}").check()
    yield idle
    idle.codespace.shell(f"echo {before} > {path}").check()


def closed(world: World, machine: Machine, data: bytes) -> tuple[socket.socket, tuple[int, int]]:
    """A client there sends and closes: the server's end, which has read nothing, and the ports."""

    def listening() -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.bind((CORP[4], 0))
        made.listen()
        return made

    with world.corp.inside(listening) as listener:
        port = listener.getsockname()[1]
        with machine.connect(CORP[4], port) as client:
            own = client.getsockname()[1]
            server, _peer = listener.accept()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
            client.sendall(data)
    server.settimeout(10)
    return server, (own, port)


def read_all(server: socket.socket) -> bytes:
    data = b""
    while more := server.recv(65536):
        data += more
    return data


def no_flows(bridge: Bridge) -> bool:
    return not state(bridge)["flows"]


@pytest.mark.parametrize("size", [1000, 100_000], ids=["all taken", "some waiting"])
def test_slow_server_reads_all(forgetful: World, start: Start, size: int) -> None:
    """As from the laptop: what was sent, and then the end."""
    bridge = start(TARGET, "--ssh", "openssh", *KEEPALIVE).ready()
    data = os.urandom(size)
    server, _ports = closed(forgetful, forgetful.laptop, data)
    with server:
        assert read_all(server) == data
    with Wire(forgetful.codespace.inside) as wire:
        server, ports = closed(forgetful, forgetful.codespace, data)
        with server:
            wire.wait("the reset", lambda seen: seen.up and bool(seen.flags & RST) and seen.ports == ports, 25)
            assert read_all(server) == data
    wait_until(functools.partial(no_flows, bridge), "an empty table", 5, 0.1)


def test_server_that_never_reads_is_left_after_a_while(forgetful: World, start: Start) -> None:
    bridge = start(TARGET, "--ssh", "openssh", *KEEPALIVE, "--limit", "tcp-orphan-timeout=2").ready()
    server, _ports = closed(forgetful, forgetful.codespace, bytes(100_000))
    with server:
        wait_until(functools.partial(no_flows, bridge), "an empty table", 25, 0.2)
        with pytest.raises(ConnectionResetError):
            read_all(server)


def test_server_that_answers_whom_nobody_knows_is_reset(forgetful: World, start: Start) -> None:
    """As a kernel does it."""
    bridge = start(TARGET, "--ssh", "openssh", *KEEPALIVE).ready()
    with Wire(forgetful.codespace.inside) as wire:
        server, ports = closed(forgetful, forgetful.codespace, bytes(100_000))
        with server:
            wire.wait("the reset", lambda seen: seen.up and bool(seen.flags & RST) and seen.ports == ports, 25)
            server.sendall(b"an answer")
            wait_until(functools.partial(no_flows, bridge), "an empty table", 5, 0.1)
            with pytest.raises(ConnectionResetError):
                read_all(server)
    assert counter(bridge, "tcp", "broken") == 0
