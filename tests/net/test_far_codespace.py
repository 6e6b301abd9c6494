"""A codespace on another continent: a tenth of a second there and back, which windows must be large enough for."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CODESPACE, CORP, LAPTOP
from tests.world.slowline import SLOW_CORP, SLOW_LAPTOP, SlowLine

from .conftest import TARGET

pytestmark = pytest.mark.net

ONE_WAY = 0.05
"""Seconds."""
SIZE = 40 << 20
LEAST = 4e6
"""Bytes a second on average, the slow beginning included. A window that nobody scales moves 0.65 MB in a round trip's
second; OpenSSH's own window of a channel, 2 MiB, allows 20."""


@pytest.fixture
def far(idle: World) -> Iterator[World]:
    """The laptop reaches the codespace by a slow line only."""
    codespace, laptop = CODESPACE[4], LAPTOP[4]
    with SlowLine(idle.laptop, idle.codespace, ONE_WAY):
        idle.laptop.ip(f"route add {codespace}/32 via {SLOW_CORP[4]} dev slow0 src {laptop}")
        idle.codespace.ip(f"route add {laptop}/32 via {SLOW_LAPTOP[4]} dev slow0 src {codespace}")
        try:
            yield idle
        finally:
            idle.laptop.ip(f"route del {codespace}/32 via {SLOW_CORP[4]}")
            idle.codespace.ip(f"route del {laptop}/32 via {SLOW_LAPTOP[4]}")


def moved(giver: socket.socket, taker: socket.socket, data: bytes) -> float:
    """Bytes a second; AssertionError when others arrive than were sent."""

    def send() -> None:
        giver.sendall(data)
        giver.shutdown(socket.SHUT_WR)

    taker.settimeout(20)
    sender = threading.Thread(target=send, daemon=True)
    digest, begun = hashlib.sha256(), time.monotonic()
    sender.start()
    while more := taker.recv(1 << 20):
        digest.update(more)
    seconds = time.monotonic() - begun
    sender.join(5)
    assert digest.digest() == hashlib.sha256(data).digest()
    return len(data) / seconds


@pytest.mark.parametrize("ssh", ["openssh", "asyncssh"])
def test_windows_fill_a_path_of_100_ms(far: World, start: Callable[..., Bridge], ssh: str) -> None:
    """Rule 9: each way, from a flow's first byte on."""
    start(TARGET, "--ssh", ssh).ready(40)
    data = os.urandom(1 << 20) * (SIZE >> 20)
    with far.corp.listen(CORP[4]) as listener:
        for way in ("up", "down"):
            begun = time.monotonic()
            client = far.codespace.connect(CORP[4], listener.getsockname()[1])
            assert time.monotonic() - begun > 2 * ONE_WAY, "the way is not long; the test shows nothing"
            server, _peer = listener.accept()
            with client, server:
                speed = moved(client, server, data) if way == "up" else moved(server, client, data)
            assert speed > LEAST, f"{way}: {speed / 1e6:.1f} MB/s"
