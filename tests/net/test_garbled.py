"""A real agent by a real ssh, and a line that changes some of what it says: the bridge goes on or ends with a sentence,
and whatever it made of it, the codespace is as it was.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CODESPACE, CORP, ECHO_PORT, HTTP_PORT, SSH_PORT
from tests.world.machine import wait_until
from tests.world.snapshot import Snapshot, differences

pytestmark = pytest.mark.net

GARBLER = Path(__file__).resolve().parents[1] / "hostile/garbler.py"
SEEDS = range(100) if os.environ.get("NETBRIDGE_TEST_LONG") else range(4)
GRACE = 1
ENDS = {0, 1, 3, 5}
"""Of an agent that speaks badly; 0: the line let the words of a clean end through."""


def traffic(world: World, bridge: Bridge, seconds: float) -> None:
    """What makes an agent speak: connections, datagrams and questions, whatever becomes of them."""
    until = time.monotonic() + seconds
    while bridge.program.running and time.monotonic() < until:
        with contextlib.suppress(OSError), world.codespace.connect(CORP[4], HTTP_PORT, 0.3) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            client.recv(1000)

        def ask() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, contextlib.suppress(OSError):
                client.settimeout(0.1)
                client.sendto(bytes(1000), (CORP[4], ECHO_PORT))
                client.recv(2000)

        world.codespace.inside(ask)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_line_that_lies(start: Callable[..., Bridge], world: World, seed: int) -> None:
    before = Snapshot.of(world.codespace)
    command = f"{sys.executable} {GARBLER} {seed} ssh -T -p {SSH_PORT} root@{CODESPACE[4]} sh"
    bridge = start(f"exec:{command}", "--grace", str(GRACE), "--ping-interval", "0.5")
    wait_until(lambda: bridge.event("ready") or not bridge.program.running, "a bridge, or its end", 60)
    traffic(world, bridge, 2)
    if bridge.program.running:
        bridge.program.signal(signal.SIGTERM)
        status = bridge.ended(30)
    else:
        status = bridge.ended()
    said = bridge.said
    assert status in ENDS, said
    if status:
        failed = bridge.event("failed")
        assert failed and failed["what"] and failed["why"] and failed["todo"], said
        assert "in a way it should not" not in failed["what"], said
    assert "Traceback" not in said, said
    wait_until(lambda: not differences(before, world.codespace), "the codespace to be as it was", GRACE + 15)
