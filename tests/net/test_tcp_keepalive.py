"""Who asks by keepalives whether the server still lives makes the laptop ask."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CORP, HTTP_PORT, url
from tests.world.machine import wait_until

from .conftest import TARGET

pytestmark = pytest.mark.net


@pytest.mark.parametrize("version", [4, 6])
def test_keepalive_reaches_the_server(idle: World, start: Callable[..., Bridge], version: int) -> None:
    """The stack answers probes itself, so it is the laptop's kernel that has to find out whether the server lives."""
    start(TARGET, "--ssh", "openssh").ready()

    def timer() -> str:
        return idle.laptop.run("ss", "-Htno", "state", "established", "dst", url(CORP[version])).stdout

    with idle.codespace.connect(CORP[version], HTTP_PORT) as client:
        assert "min" in timer(), "unless somebody asks for more it is asked after two hours"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        seconds = re.compile(r"timer:\(keepalive,[\d.]+(sec|ms)")
        wait_until(lambda: seconds.search(timer()), "the laptop's own keepalive", 5, 0.2)
        time.sleep(2)
        client.sendall(b"GET /small HTTP/1.0\r\n\r\n")
        assert b"netbridge" in client.recv(4096)
