"""The kernel's word about a changed network, in a network namespace where real things change."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from netbridge.bridge.routes.notice import MOMENT, notice

net = pytest.mark.net
CLONE_NEWNET = 0x40000000
LOOPS = pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop])


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")


Run = Callable[[Callable[[], asyncio.AbstractEventLoop], Callable[[], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def in_network() -> Iterator[Run]:
    """Run a coroutine in a thread that has a network namespace of its own, and `ip` with it."""
    def run(loop: Callable[[], asyncio.AbstractEventLoop], test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(test())

    with concurrent.futures.ThreadPoolExecutor(1, initializer=_unshare) as pool:
        yield lambda loop, test: pool.submit(run, loop, test).result(30)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Ear:
    """Counts the words, and lets one be waited for."""

    def __init__(self) -> None:
        self.words = 0
        self._more = asyncio.Event()

    def __call__(self) -> None:
        self.words += 1
        self._more.set()

    async def hears(self) -> None:
        async with asyncio.timeout(5):
            await self._more.wait()
        self._more.clear()


@net
@LOOPS
@pytest.mark.parametrize("change", ["link add other type bridge", "link set eth0 down", "addr add 10.7.0.2/24 dev eth0",
    "addr del 10.6.0.2/24 dev eth0", "addr add fd00:7::2/64 dev eth0 nodad", "route add 10.8.0.0/16 via 10.6.0.1",
    "-6 route add fd00:8::/32 dev eth0", "rule add priority 100 lookup 52", "-6 rule add priority 100 lookup 52",
    "route add 10.8.0.0/16 via 10.6.0.1 table 52"])  # fmt: skip
def test_each_change_is_told(in_network: Run, loop: Callable[[], asyncio.AbstractEventLoop], change: str) -> None:
    async def test() -> None:
        ip("link", "add", "eth0", "type", "bridge")
        ip("addr", "add", "10.6.0.2/24", "dev", "eth0")
        ip("link", "set", "eth0", "up")
        ear = Ear()
        with notice(ear):
            ip(*change.split())
            await ear.hears()

    in_network(loop, test)


@net
@LOOPS
def test_a_hundred_changes_at_once_are_told_in_few_words_and_the_last_one_too(
    in_network: Run, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def test() -> None:
        ear = Ear()
        with notice(ear):
            began = asyncio.get_running_loop().time()
            batch = "".join(f"link add dummy{number} type bridge\n" for number in range(100))
            process = await asyncio.create_subprocess_exec("ip", "-batch", "-", stdin=subprocess.PIPE)
            await process.communicate(batch.encode())
            took = asyncio.get_running_loop().time() - began
            await ear.hears()
            assert 1 <= ear.words <= took / MOMENT + 2
            ip("link", "del", "dummy99")
            await ear.hears()

    in_network(loop, test)


@net
@LOOPS
def test_more_changes_than_the_socket_holds_are_a_change_as_well(
    in_network: Run, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def test() -> None:
        ear = Ear()
        with notice(ear):
            ip("link", "set", "lo", "up")
            batch = "".join(f"addr add 10.9.{number // 250}.{number % 250 + 1}/8 dev lo\n" for number in range(2000))
            subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)  # nobody reads meanwhile
            await ear.hears()
            ip("link", "add", "after", "type", "bridge")
            await ear.hears()

    in_network(loop, test)


@net
def test_after_its_end_nothing_is_told_and_nothing_stays_open(in_network: Run) -> None:
    async def test() -> None:
        before = len(os.listdir("/proc/self/fd"))
        ear = Ear()
        with contextlib.suppress(KeyError), notice(ear):
            ip("link", "add", "one", "type", "bridge")
            await asyncio.sleep(0)  # perhaps it is heard already, and its word still to come
            raise KeyError
        words = ear.words
        ip("link", "add", "two", "type", "bridge")
        await asyncio.sleep(2 * MOMENT)
        assert ear.words == words
        assert len(os.listdir("/proc/self/fd")) == before

    in_network(asyncio.SelectorEventLoop, test)


async def test_where_the_kernel_gives_no_word_there_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")  # as on a system that is no Linux
    before = len(os.listdir("/proc/self/fd"))
    with notice(lambda: pytest.fail("told")) as hears:
        assert not hears
        await asyncio.sleep(0)
        assert len(os.listdir("/proc/self/fd")) == before
