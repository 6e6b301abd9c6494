"""How long a UDP flow lives that nobody uses: one question, a resolver's, a stream; with short times by --limit."""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Callable

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CORP, ECHO_PORT
from tests.world.machine import wait_until

from .conftest import TARGET, Through
from .datagrams import client, peer_seen, serving
from .state import state

pytestmark = pytest.mark.net

SWEEP = 5.0
"""Seconds within which a bridge notices."""
QUESTION = bytes.fromhex("0007 0100 0001 0000 0000 0000 03 777777 04 636f7270 04 74657374 00 0001 0001")
"""www.corp.test, A."""


def alive(bridge: Bridge, sock: socket.socket) -> bool:
    """Whether the flow of that socket of the codespace is there."""
    return any(flow["source"].endswith(f":{sock.getsockname()[1]}") for flow in state(bridge)["flows"])


def over(bridge: Bridge, sock: socket.socket) -> bool:
    return not alive(bridge, sock)


def test_idle_times_of_every_kind(idle: World, start: Callable[..., Bridge]) -> None:
    """A resolver's flow is over after its answer, a single exchange later, a stream last of all; and whoever speaks
    again has a flow again. One that is used lives on."""
    limits = ("udp-idle-dns=1", "udp-idle-single=7", "udp-idle-stream=12")
    bridge = start(TARGET, "--ssh", "openssh", *(word for limit in limits for word in ("--limit", limit))).ready()
    through = Through("openssh", bridge, idle.codespace, None)
    with (
        serving(idle.corp, CORP[4]) as (server,),
        client(through, 4) as resolver, client(through, 4) as unanswered, client(through, 4) as single,
        client(through, 4) as stream, client(through, 4) as busy,
    ):  # fmt: skip
        resolver.sendto(QUESTION, (CORP[4], 53))
        assert resolver.recv(512)[:2] == QUESTION[:2]
        unanswered.sendto(b"\0", (CORP[4], 53))  # a resolver drops it
        single.sendto(b"x", (CORP[4], ECHO_PORT))
        assert single.recv(10) == b"x"
        peers = [peer_seen(stream, server) for _twice in range(2)]
        used = time.monotonic()
        wait_until(functools.partial(over, bridge, resolver), "the resolver's end", 1 + SWEEP + 1, 0.1)
        assert alive(bridge, unanswered)
        while alive(bridge, single):
            assert time.monotonic() - used < 7 + SWEEP + 1
            busy.sendto(b"x", (CORP[4], ECHO_PORT))
            busy.recv(10)
            time.sleep(0.1)
        assert time.monotonic() - used >= 7
        assert alive(bridge, stream)
        assert alive(bridge, busy)
        assert peer_seen(stream, server) == peers[0] == peers[1]
        used = time.monotonic()
        wait_until(functools.partial(over, bridge, stream), "the stream's end", 12 + SWEEP + 1, 0.2)
        assert time.monotonic() - used >= 12
        single.sendto(b"again", (CORP[4], ECHO_PORT))
        assert single.recv(10) == b"again"
    assert state(bridge)["counters"]["forward_udp"]["flows_recycled"] == 0
