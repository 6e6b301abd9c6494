"""Fixtures of the forwarders' tests: both event loops, a bench, host sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import uvloop

from tests.bridge.forward.fakes import HOST, Bench, needs_ipv6


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
