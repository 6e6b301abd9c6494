"""Fixtures of the forwarders' tests: both event loops, a bench, host sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import uvloop

from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.forward.policy import Policy
from tests.bridge.forward.bridge import Bridge, Listener
from tests.bridge.forward.fakes import ALLOW_LOOPBACK, HOST, Bench, needs_ipv6

PATIENCE = 20.0


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every asynchronous test here runs under both: uvloop treats socket errors differently."""
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture(params=[4, pytest.param(6, marks=needs_ipv6)])
def version(request: pytest.FixtureRequest) -> int:
    """Both IP versions."""
    version: int = request.param
    return version


@pytest.fixture
def host(version: int) -> Iterator[socket.socket]:
    """A UDP socket on this machine's loopback that plays the far host."""
    with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST[version], 0))
        sock.settimeout(5)
        yield sock


@pytest.fixture
def limits() -> Limits:
    return Limits(tcp_connect_timeout=0.15, tcp_orphan_timeout=0.3)


@pytest.fixture
async def bridge(limits: Limits) -> AsyncIterator[Bridge]:
    loop = asyncio.get_running_loop()
    # pytest's own limit works by a signal, which does not wake uvloop.
    limit = loop.call_later(PATIENCE, lambda: [task.cancel() for task in asyncio.all_tasks()])
    bridge = Bridge(limits, Policy(ALLOW_LOOPBACK))
    yield bridge
    await bridge.close()
    limit.cancel()


@pytest.fixture(params=[4, pytest.param(6, marks=needs_ipv6)])
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    listener = Listener(request.param)
    yield listener
    listener.close()


@pytest.fixture
def listener4() -> Iterator[Listener]:
    listener = Listener(4)
    yield listener
    listener.close()
