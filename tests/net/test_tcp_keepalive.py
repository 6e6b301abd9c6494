"""A server that vanished without a word is found by the client's own keepalive, as it would be without a bridge."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CORP, HTTP_PORT

from .conftest import TARGET

pytestmark = pytest.mark.net


@pytest.mark.parametrize("version", [4, 6])
def test_keepalive_finds_a_dead_server(idle: World, start: Callable[..., Bridge], version: int) -> None:
    """The stack answers probes itself, so it is the laptop's kernel that has to ask the server as often."""
    start(TARGET, "--ssh", "openssh").ready()
    address = f"{CORP[version]}/{24 if version == 4 else 64}"
    with idle.codespace.connect(CORP[version], HTTP_PORT) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        time.sleep(2.5)  # a probe or two of a server that lives
        idle.corp.ip(f"addr del {address} dev eth0")
        idle.laptop.ip(f"route add blackhole {CORP[version]}")
        try:
            begun = time.monotonic()
            client.settimeout(20)
            with pytest.raises(OSError) as caught:
                client.recv(1)
            assert not isinstance(caught.value, TimeoutError)
            assert time.monotonic() - begun < 15
        finally:
            idle.laptop.ip(f"route del blackhole {CORP[version]}")
            idle.corp.ip(f"addr add {address} dev eth0{' nodad' if version == 6 else ''}")
