"""Hypothesis without deadlines: a loaded machine is no defect. Both event loops: they differ in clock and order."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import uvloop
from hypothesis import settings

from tests.stack.networks import Network, Sockets, Stacks

settings.register_profile("stack", deadline=None)
settings.load_profile("stack")

PATIENCE = 20.0
"""Seconds an asynchronous test may take before it is cancelled: a signal does not wake uvloop, so pytest's limit of
120 seconds would not end it."""


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if isinstance(item, pytest.Function) and here in item.path.parents and inspect.iscoroutinefunction(item.obj):
            item.obj = _bounded(item.obj)


def _bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def bounded(*arguments: object, **named: object) -> None:
        async with asyncio.timeout(PATIENCE):
            await test(*arguments, **named)

    return bounded


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
