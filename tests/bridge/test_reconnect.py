"""Making a connection anew: attempts that are played, on an event loop whose time is turned by hand."""

from __future__ import annotations

import asyncio
import random
from itertools import islice, pairwise

import pytest

from netbridge.bridge.errors import BridgeGoneError, NotPermittedError, TargetUnreachableError
from netbridge.bridge.reconnect import ATTEMPT, FIRST_WAIT, LONGEST_WAIT, Reconnect, waits
from tests.jumping import run


def now() -> float:
    return asyncio.get_running_loop().time()


class Attempts:
    """What each try does, in order; the last one again and again. An exception is raised, a number is a duration."""

    def __init__(self, *what: Exception | float | None) -> None:
        self.what = list(what)
        self.at: list[float] = []
        self.told: list[tuple[int, float, str]] = []
        self.cancelled = 0
        self.reconnect = Reconnect(self.attempt, lambda *told: self.told.append(told))

    async def attempt(self) -> None:
        self.at.append(now())
        what = self.what.pop(0) if len(self.what) > 1 else self.what[0]
        if isinstance(what, Exception):
            raise what
        try:
            await asyncio.sleep(what or 0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


REFUSED = TargetUnreachableError("The target does not answer.", "Connection refused.", "Start it.")


@pytest.mark.parametrize("seed", range(20))
def test_waits_double_from_one_second_to_thirty_each_with_jitter(seed: int) -> None:
    print("seed", seed)
    found = list(islice(waits(random.Random(seed).uniform), 40))
    for number, wait in enumerate(found):
        middle = min(FIRST_WAIT * 2**number, LONGEST_WAIT)
        assert 0.75 * middle <= wait <= min(1.25 * middle, LONGEST_WAIT)
    assert len(set(found)) == len(found)


def test_the_first_try_comes_at_once() -> None:
    async def test() -> None:
        tries = Attempts(None)
        began = now()
        await tries.reconnect.run(600)
        assert now() - began < 0.01
        assert len(tries.at) == 1
        assert tries.told == []
        assert tries.reconnect.tries == 1

    run(test)


def test_it_tries_until_there_is_a_connection_and_tells_each_failure() -> None:
    async def test() -> None:
        tries = Attempts(REFUSED, REFUSED, NotPermittedError("The key is refused."), None)
        await tries.reconnect.run(600)
        assert len(tries.at) == 4
        assert [number for number, _, _ in tries.told] == [1, 2, 3]
        assert [why for _, _, why in tries.told] == [
            "The target does not answer. Connection refused.", "The target does not answer. Connection refused.",
            "The key is refused.",
        ]
        for (_, wait, _), (one, other) in zip(tries.told, pairwise(tries.at), strict=True):
            assert other - one == pytest.approx(wait, abs=0.01)

    run(test)


def test_after_the_grace_it_is_over_and_says_what_was_last() -> None:
    async def test() -> None:
        tries = Attempts(REFUSED)
        began = now()
        with pytest.raises(BridgeGoneError, match="within 100 s") as caught:
            await tries.reconnect.run(100)
        assert now() - began == pytest.approx(100, abs=0.1)
        assert caught.value.exit_code == 3
        assert "Connection refused" in caught.value.why
        assert caught.value.todo.endswith(".")
        assert all(at - began <= 100.1 for at in tries.at)
        assert sum(wait for _, wait, _ in tries.told) == pytest.approx(100, abs=0.1)

    run(test)


def test_a_try_that_hangs_is_ended_in_time_and_another_follows() -> None:
    async def test() -> None:
        tries = Attempts(1e6, None)
        began = now()
        await tries.reconnect.run(600)
        assert tries.cancelled == 1
        assert tries.told[0][2] == "It took too long."
        assert ATTEMPT <= now() - began <= ATTEMPT + 1.25 * FIRST_WAIT + 0.1

    run(test)


def test_a_try_that_hangs_does_not_outlast_the_grace() -> None:
    async def test() -> None:
        tries = Attempts(REFUSED, 1e6)
        began = now()
        with pytest.raises(BridgeGoneError) as caught:
            await tries.reconnect.run(30)
        assert now() - began == pytest.approx(30, abs=0.1)
        assert "Connection refused" in caught.value.why

    run(test)


def test_where_nothing_is_left_it_ends_at_once() -> None:
    async def test() -> None:
        gone = BridgeGoneError("The target no longer holds this bridge.", "It was restarted.", "Start it again.")
        tries = Attempts(REFUSED, gone)
        with pytest.raises(BridgeGoneError) as caught:
            await tries.reconnect.run(600)
        assert caught.value is gone
        assert len(tries.at) == 2
        assert len(tries.told) == 1

    run(test)


def test_a_wake_ends_a_wait() -> None:
    async def test() -> None:
        tries = Attempts(*[REFUSED] * 8, None)
        running = asyncio.ensure_future(tries.reconnect.run(3600))
        while len(tries.at) < 8:
            await asyncio.sleep(1)
        woken = now()
        tries.reconnect.wake()
        await running
        assert now() - woken < 0.1
        assert len(tries.at) == 9

    run(test)


def test_a_wake_ends_the_try_that_is_under_way() -> None:
    """The network came back while a try was on its way over the old one."""
    async def test() -> None:
        tries = Attempts(50.0)
        failing = tries.attempt

        async def attempt() -> None:
            if len(tries.at) == 1:
                return
            await failing()
            raise REFUSED

        tries.reconnect = Reconnect(attempt, lambda *told: tries.told.append(told))
        running = asyncio.ensure_future(tries.reconnect.run(600))
        await asyncio.sleep(25)
        tries.reconnect.wake()
        await running
        assert now() == pytest.approx(1025, abs=0.1)

    run(test)


def test_cancelling_it_cancels_the_try() -> None:
    async def test() -> None:
        tries = Attempts(1e6)
        running = asyncio.ensure_future(tries.reconnect.run(600))
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert tries.cancelled == 1

    run(test)
