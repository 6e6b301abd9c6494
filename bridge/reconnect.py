"""A connection that broke is made anew, again and again, until the target would have given up as well.

The first try comes at once: a server that was restarted, a proxy that dropped an idle connection, a Wi-Fi that changed.
Then the waits double from 1 s to 30 s, each with jitter, so that many bridges behind one gateway do not come all at
the same moment. `wake` ends a wait, and a try that is under way on what is no path any more: this machine's network
changed, or the target's port answers again (`knock.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator

from .errors import BridgeError, BridgeGoneError

FIRST_WAIT = 1.0
LONGEST_WAIT = 30.0
ATTEMPT = 90.0
"""Seconds one try may take: a gateway's login and the agent's start take ten at the worst."""


def waits(jitter: Callable[[float, float], float] = random.uniform) -> Iterator[float]:
    """Seconds before the second try, the third, and so on."""
    wait = FIRST_WAIT
    while True:
        yield jitter(0.75 * wait, 1.25 * wait) if wait < LONGEST_WAIT else jitter(0.75 * wait, wait)
        wait = min(2 * wait, LONGEST_WAIT)


class Reconnect:
    """Makes the connection anew."""

    def __init__(self, attempt: Callable[[], Awaitable[None]], tell: Callable[[int, float, str], None]) -> None:
        """`attempt` is one try and raises BridgeError; `tell(tries, wait, why)` hears of each that failed."""
        self._attempt = attempt
        self._tell = tell
        self._wake = asyncio.Event()
        self.tries = 0

    def wake(self) -> None:
        """Try at once."""
        self._wake.set()

    async def run(self, grace: float, *, after: float = 0.0) -> None:
        """Return when there is a connection. The first try comes after so many seconds, or when it is woken.

        Raises BridgeGoneError when there is nothing to go on with, or when it took longer than `grace` seconds.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        why = ""
        if after:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(after, grace / 4)):  # a try has to have its time
                    await self._wake.wait()
        for wait in waits():
            self.tries += 1
            self._wake.clear()
            try:
                async with asyncio.timeout(max(0.0, min(ATTEMPT, deadline - loop.time()))):
                    if await self._unless_woken():
                        return
                continue
            except BridgeGoneError:
                raise
            except BridgeError as error:
                why = f"{error.what} {error.why}".strip()
            except TimeoutError:
                why = why or "It took too long."
            left = deadline - loop.time()
            if left <= 0:
                break
            wait = min(wait, left)
            self._tell(self.tries, wait, why)
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                pass
        raise self._too_late(grace, why)

    async def _unless_woken(self) -> bool:
        """One try; False when it was broken off because another shall be made at once."""
        loop = asyncio.get_running_loop()
        attempt, woken = loop.create_task(self._try()), loop.create_task(self._wake.wait())
        try:
            await asyncio.wait((attempt, woken), return_when=asyncio.FIRST_COMPLETED)
            if not attempt.done():
                return False
            attempt.result()
            return True
        finally:
            for task in (attempt, woken):
                task.cancel()
            await asyncio.wait((attempt, woken))

    async def _try(self) -> None:
        await self._attempt()

    @staticmethod
    def _too_late(grace: float, why: str) -> BridgeGoneError:
        return BridgeGoneError(
            f"The connection could not be made anew within {grace:.0f} s.", why,
            "Start the bridge again; the target undoes by itself what was left there.",
        )
