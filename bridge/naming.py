"""Keeps true over there what this machine knows of names: its private suffixes and its search list.

A VPN that comes up brings domains of its own. They are looked for where the system keeps them (resolv.conf,
systemd-resolved's links, macOS) whenever one of the files changed that change with them, when this machine's network
did, and on macOS, which leaves no such file behind, again and again. What is captured counts as well, as addresses of
captured networks are looked up here first. No packet and no question waits for any of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from .dns import Names, Upstream
from .dns.systemnames import POLLED, SystemNames, system_names
from .errors import BridgeError, TargetUnreachableError

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks at the resolver's files (a stat each): what a VPN changes is told within two seconds."""
RETRY_SECONDS = 15.0
"""Until a system that could not be asked is asked again: without a message bus it may never be possible."""


class NameKeeper(Protocol):
    """What is needed of the agent."""

    async def change_names(self, suffixes: Sequence[str], search: Sequence[str]) -> None:
        """Ask names below `suffixes` here first from now on, and try `search` for short ones. Raises a BridgeError."""


class Naming:
    """The names of one bridge's machine."""

    def __init__(
        self, upstream: Upstream, captured: Callable[[], Iterable[str]], *,
        ask_system: Callable[[], Awaitable[SystemNames | None]] = system_names, polled: bool = POLLED,
    ) -> None:
        """`captured` gives the captured networks as CIDRs; `polled`: the system is asked with each look."""
        self._upstream = upstream
        self._captured = captured
        self._ask_system = ask_system
        self._polled = polled
        self._look_now = asyncio.Event()
        self._seen = -1
        """The resolver's generation when the system was asked last."""
        self._again = 0.0
        """When it is asked again whatever happens, by the event loop's clock."""
        self._due = False
        """Whether the agent has still to be told."""
        self.names = Names()
        """What the agent has."""
        self.on_private: Callable[[], None] = lambda: None
        """Called when the agent was told of other suffixes than before, reverse names aside."""

    @property
    def nameservers(self) -> list[str]:
        """Whom this machine asks."""
        return self._upstream.nameservers

    async def look(self) -> Names:
        """What this machine knows of names now."""
        generation = self._upstream.generation()
        now = asyncio.get_running_loop().time()
        if generation != self._seen or now >= self._again:
            system = await self._ask_system()
            if system is None:
                log.debug("the system does not say which domains its links have; it is asked again")
            self._again = now + RETRY_SECONDS if system is None else now if self._polled else math.inf
            current = self._upstream.generation() == generation
            self._upstream.learn(system)
            self._seen = self._upstream.generation() if current else -1  # what changed meanwhile is asked for soon
        self._upstream.learn(captured=self._captured())
        return self._upstream.names

    def told(self, names: Names) -> None:
        """The agent has these."""
        self.names = names

    def network_changed(self) -> None:
        """This machine's network changed; answers from before are forgotten."""
        self._upstream.network_changed()
        self._look_now.set()

    def renew(self) -> None:
        """The connection was made anew: tell the agent once more."""
        self._due = True
        self._look_now.set()

    async def watch(self, agent: NameKeeper) -> None:
        """Follow this machine's names until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._look_now.wait()
            self._look_now.clear()
            names = await self.look()
            if names == self.names and not self._due:
                continue
            self._due = False
            try:
                await agent.change_names(names.suffixes, names.search)
            except TargetUnreachableError as error:
                log.debug("the agent is told later which names are asked here: %s", error)
                self._due = True
                continue
            except (BridgeError, OSError) as error:
                log.warning("the names that are asked here could not be changed: %s", error)
                self.told(names)
                continue
            before, self.names = self.names, names
            if before.private != names.private:
                self.on_private()
