"""The poller: edges are never lost, whatever a callback does."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from netbridge.bridge.forward.poller import IN, OUT, RDHUP, Poller
from tests.bridge.forward.bridge import settle
from tests.bridge.forward.fakes import until


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    made = [socket.socketpair() for _ in range(5)]
    for pair in made:
        pair[0].setblocking(False)
    yield made
    for near, far in made:
        near.close()
        far.close()


async def test_an_edge_is_told_once_and_a_level_again_and_again(pairs: Any) -> None:
    poller = Poller(asyncio.get_running_loop())
    edges: list[int] = []
    levels: list[int] = []
    poller.register(pairs[0][0].fileno(), edges.append)
    poller.register(pairs[1][0].fileno(), levels.append, events=IN, edge=False)
    await settle()
    assert edges == [OUT]
    pairs[0][1].send(b"x")
    pairs[1][1].send(b"x")
    await until(lambda: len(levels) > 3)
    assert edges == [OUT, OUT | IN]
    pairs[0][1].close()
    await until(lambda: len(edges) == 3)
    assert edges[2] & RDHUP
    assert len(poller) == 2
    poller.close()
    poller.close()
    assert len(poller) == 0


async def test_a_callback_that_fails_takes_no_edge_from_others(pairs: Any) -> None:
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    poller = Poller(loop)
    told: list[int] = []

    def fail(events: int) -> None:
        raise OSError(errno.EIO, "no")

    for number, (near, _) in enumerate(pairs):
        poller.register(near.fileno(), fail if number % 2 else told.append)
    await until(lambda: len(told) == 3)
    assert [str(context["exception"]) for context in complaints] == ["[Errno 5] no"] * 2
    poller.close()
    loop.set_exception_handler(None)


async def test_what_an_earlier_callback_closed_is_not_called(pairs: Any) -> None:
    poller = Poller(asyncio.get_running_loop())
    told: list[int] = []

    def close_all(events: int) -> None:
        told.append(events)
        for near, _ in pairs:
            poller.unregister(near.fileno())
            near.close()

    for near, _ in pairs:
        poller.register(near.fileno(), close_all)
    await settle()
    assert told == [OUT]
    assert len(poller) == 0
    poller.close()


async def test_closing_from_inside_a_callback(pairs: Any) -> None:
    poller = Poller(asyncio.get_running_loop())
    told: list[int] = []

    def close(events: int) -> None:
        told.append(events)
        poller.close()

    for near, _ in pairs:
        poller.register(near.fileno(), close)
    await settle()
    assert told == [OUT]


async def test_what_could_not_be_registered_is_not_there(pairs: Any, tmp_path: Any) -> None:
    poller = Poller(asyncio.get_running_loop())
    near = pairs[0][0]
    with open(tmp_path / "file", "wb") as file:  # a file cannot be waited for: EPERM
        with pytest.raises(PermissionError):
            poller.register(file.fileno(), lambda events: None)
        assert len(poller) == 0
        poller.unregister(file.fileno())
    fd = near.fileno()
    poller.register(fd, lambda events: None)
    near.close()  # the kernel forgets it by itself
    poller.unregister(fd)
    assert len(poller) == 0
    poller.close()
