"""The connection of one bridge to its target: watched, and made anew when it breaks.

It has a transport at a time, the way on which the agent speaks. When that breaks, `make_anew` reaches the target by a
new one, again and again (`reconnect.py`), while somebody knocks at its port (`knock.py`), and has the agent resume.
What of the old ways may still carry something, COMMAND namely, is kept until the end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any

from netbridge.stack.link.base import LinkError

from . import events
from .bootstrap import AgentHandle, AgentOptions, agent_command
from .errors import BridgeError, TargetUnreachableError
from .heart import Heart
from .knock import knock
from .options import Options
from .reconnect import Reconnect, waits
from .transport.base import Transport

log = logging.getLogger(__name__)

SETTLED = 10.0
"""Seconds after which a connection that breaks is no longer one that breaks at once."""
AT_ONCE = 3
"""So often in a row a connection that breaks at once is made anew at once; then each time later. A target that resumes
and hangs up would otherwise have a program started and a login made ten times a second."""
CLOSE_SECONDS = 3.0
"""Closing a way that broke takes no longer; nobody waits for it."""


class Lifeline:
    """All ways to the target, one after the other."""

    def __init__(
        self, options: Options, tell: events.EventSink, make: Callable[[], Transport], *, carries_command: bool,
    ) -> None:
        """`make` gives a transport to the target, not yet connected. `carries_command`: the first one may be in use for
        COMMAND as long as the bridge lives. Raises what `make` raises.
        """
        self._options = options
        self._tell = tell
        self._make = make
        self._carries_command = carries_command
        self.transport = make()
        """The way that is used at present."""
        self._kept = [self.transport]
        self._agent: AgentHandle | None = None
        self._heart: Heart | None = None
        self._reconnect: Reconnect | None = None
        self._task: asyncio.Task[None] | None = None
        self._resumed_at = -SETTLED
        self._broke_at_once = 0
        """How often in a row."""
        self._leaving: set[asyncio.Task[None]] = set()

    def watch(self, agent: AgentHandle) -> Coroutine[Any, Any, None]:
        """The bridge outlives its connection from now on; what is returned notices when that is silent, and runs
        until it is cancelled.
        """
        self._agent = agent
        self._heart = Heart(
            agent.framed, interval=self._options.ping_interval, awake=self._options.keep_awake, dead=_silent
        )
        agent.outlive()
        return self._heart.beat()

    def network_changed(self) -> None:
        """This machine has other routes or addresses: the connection may be gone, or possible again."""
        if self._heart:
            self._heart.suspect(time.monotonic())
        if self._reconnect:
            self._reconnect.wake()

    def make_anew(self, resumed: Callable[[events.Resumed], None], failed: Callable[[Exception], None]) -> None:
        """The connection broke. One of the two is called in the end, unless `give_up` comes first."""
        self._task = asyncio.get_running_loop().create_task(self._go_on(resumed, failed))

    async def give_up(self) -> bool:
        """Try no more; whether that was being done."""
        if self._task is None or self._task.done():
            return False
        self._task.cancel()
        await asyncio.wait([self._task], timeout=1.0)
        return True

    async def close(self) -> None:
        """Close every way that is left."""
        for transport in self._kept:
            await transport.close()
        if self._leaving:
            await asyncio.gather(*self._leaving)

    async def _go_on(self, resumed: Callable[[events.Resumed], None], failed: Callable[[Exception], None]) -> None:
        began = time.monotonic()

        def tell(tries: int, wait: float, why: str) -> None:
            self._tell(events.Reconnecting(tries, round(wait, 1), why))

        self._broke_at_once = self._broke_at_once + 1 if began - self._resumed_at < SETTLED else 0
        after = next(islice(waits(), max(0, self._broke_at_once - AT_ONCE), None))
        reconnect = self._reconnect = Reconnect(self._reach, tell)
        address, port = self.transport.peer_address, self.transport.peer_port
        knocking = None
        if address and port:
            knocking = asyncio.get_running_loop().create_task(knock(address, port, reconnect.wake))
        try:
            await reconnect.run(self._options.grace, after=after if self._broke_at_once > AT_ONCE else 0.0)
        except Exception as error:
            if not isinstance(error, BridgeError):
                log.exception("making the connection anew")
            failed(error)
            return
        finally:
            self._reconnect = None
            if knocking:
                knocking.cancel()
        assert self._agent is not None
        self._resumed_at = time.monotonic()
        sent_again = self._agent.framed.counters.sent_again
        resumed(events.Resumed(round(time.monotonic() - began, 3), reconnect.tries, sent_again))

    async def _reach(self) -> None:
        """One try to resume. Raises BridgeError."""
        assert self._agent is not None
        transport = self._make()
        transport.may_start = False
        options = AgentOptions(mend=transport.mend)
        try:
            await transport.connect()
            await self._agent.resume(await transport.open(agent_command(options)), options)
        except BaseException:
            if transport is not self.transport:
                self._leave_behind(transport)
            raise
        if transport is not self.transport:
            old, self.transport = self.transport, transport
            self._kept.append(transport)
            if not self._carries_command or old is not self._kept[0]:
                self._kept.remove(old)
                self._leave_behind(old)
        if not self._agent.framed.carrying:  # between its word and ours
            raise TargetUnreachableError("The connection broke again.", "It was there for a moment.", "Try again.")

    def _leave_behind(self, transport: Transport) -> None:
        task = asyncio.get_running_loop().create_task(_close(transport))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


async def _close(transport: Transport) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await transport.close()
    except Exception as error:
        log.debug("closing a broken connection: %s", error)


def _silent(seconds: float) -> Exception:
    return LinkError(f"link_lost: nothing came back for {seconds:.0f} s")
