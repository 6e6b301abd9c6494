"""A stack with a peer that sends what the test says, and two ends for asyncio's streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.stack.tcp.networks import Network, Sockets, Stacks
from tests.stack.tcp.peer import Peer


@pytest.fixture(params=[4, 6])
async def peer(request: pytest.FixtureRequest) -> AsyncIterator[Peer]:
    peer = Peer(version=request.param)
    yield peer
    peer.close()


@pytest.fixture
async def peer4() -> AsyncIterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
async def complaints() -> AsyncIterator[list[dict[str, Any]]]:
    """What the event loop's exception handler is told."""
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    yield told
    loop.set_exception_handler(None)


@pytest.fixture(params=[Sockets, Stacks], ids=["sockets", "stacks"])
async def network(request: pytest.FixtureRequest) -> AsyncIterator[Network]:
    async with AsyncExitStack() as exits:
        network = request.param(exits)
        if isinstance(network, Stacks):
            await network.start()
        yield network


@pytest.fixture
async def stacks() -> AsyncIterator[Stacks]:
    async with AsyncExitStack() as exits:
        stacks = Stacks(exits)
        await stacks.start()
        yield stacks
