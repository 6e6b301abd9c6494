"""Fifty thousand one-shot flows beside a stream: the oldest give way, the stream never does, memory stays bounded."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CORP, ECHO_PORT

from .datagrams import serving, where

pytestmark = pytest.mark.net

FLOWS = 50_000
AT_ONCE = 100
"""Questions on their way: few enough that no queue on it overflows."""
FIRST_PORT = 2000


def storm() -> int:
    """Ask from as many source ports, each once; how many were answered."""
    answered = 0
    free = ports()
    for _turn in range(FLOWS // AT_ONCE):
        with ExitStack() as stack:
            asking = [stack.enter_context(next(free)) for _number in range(AT_ONCE)]
            for number, sock in enumerate(asking):
                sock.sendto(b"%d" % number, (CORP[4], ECHO_PORT))
            for number, sock in enumerate(asking):
                with suppress(TimeoutError):
                    answered += sock.recv(100) == b"%d" % number
    return answered


def ports() -> Iterator[socket.socket]:
    """A socket on each port above the first one that is nobody's."""
    for port in range(FIRST_PORT, 65536):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind(("", port))
        except OSError:
            sock.close()
        else:
            sock.settimeout(1)
            yield sock


class Stream:
    """Somebody in the codespace who talks to a server in corp all the time."""

    def __init__(self, world: World, server: socket.socket) -> None:
        self.peers: set[tuple[str, int]] = set()
        self.sent = self.heard = 0
        self._server = server
        self._sock = world.codespace.udp("0.0.0.0")
        self._sock.settimeout(2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._talk)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_caught: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sock.close()

    def _talk(self) -> None:
        while not self._stop.wait(0.05):
            try:
                self._sock.sendto(b"%d" % self.sent, where(self._server))
                self.sent += 1
                payload, peer = self._server.recvfrom(100)
                self.peers.add(peer)
                self._server.sendto(payload, peer)
                self.heard += self._sock.recv(100) == payload
            except TimeoutError:
                continue


def resident(bridge: Bridge) -> float:
    """Megabytes."""
    with open(f"/proc/{bridge.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmRSS:"))


def busy(bridge: Bridge) -> float:
    """Seconds of a core used so far."""
    with open(f"/proc/{bridge.pid}/stat") as stat:
        words = stat.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def test_fifty_thousand_flows_beside_a_stream(idle: World, start: Callable[..., Bridge]) -> None:
    bridge = start().ready()
    before, busy_before = resident(bridge), busy(bridge)
    with serving(idle.corp, CORP[4]) as (server,):
        server.settimeout(2)
        with Stream(idle, server) as stream:
            answered = idle.codespace.inside(storm)
    assert answered >= FLOWS - 10, f"{answered} answered"
    assert busy(bridge) - busy_before < 15, "seconds of a core: 300 microseconds for a flow and its two datagrams"
    assert stream.sent > 20
    assert stream.heard >= stream.sent - 1
    assert len(stream.peers) == 1, "the stream was given another port: its flow had been recycled"
    grown = resident(bridge) - before
    assert grown < 60, f"{grown:.0f} MB more"
    status = bridge.status()
    counted = status["counters"]["forward_udp"]
    assert counted["flows_opened"] >= FLOWS
    assert counted["flows_recycled"] >= FLOWS - 16384
    assert status["totals"]["udp"] <= 16384
    assert counted["dropped_descriptors"] == counted["dropped_open"] == 0
    with idle.codespace.udp("0.0.0.0") as sock:
        sock.settimeout(2)
        sock.sendto(b"still there?", (CORP[4], ECHO_PORT))
        assert sock.recv(100) == b"still there?"
