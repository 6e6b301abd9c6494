"""Shortage: of descriptors, and of readers."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CORP, HTTP_PORT
from tests.world.bridge import NETBRIDGE
from tests.world.machine import wait_until

from .conftest import TARGET
from .watch import RESET, resident

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]


@pytest.fixture
def bridge(start: Start) -> Bridge:
    return start(TARGET, "--ssh", "openssh").ready()


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
