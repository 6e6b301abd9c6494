"""Which networks a bridge captures: looked up here, decided with the user's wishes, installed there, kept true.

The local machine's routes are looked at before the start and whenever the kernel tells of a change, so a VPN that comes
up later is captured as well and one that goes down is let go; flows into it keep their way (`hostroutes.py`). The agent
does the same with the target's networks. What it cannot or must not install it gives back with a reason; that is told
too, since a network that silently does not work is the worst of all answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from . import events
from .errors import BridgeError, TargetUnreachableError, UsageError
from .forward.policy import Policy
from .hostroutes import HostRoutes
from .options import Options
from .overlaps import MOST_OWN, Overlaps
from .routes import Capture, LocalNetworksError, Snapshot, choose, local_networks, notice

log = logging.getLogger(__name__)

WATCH_SECONDS = 1.5
"""Where the kernel gives no word of a change, a VPN that comes up is noticed within this time."""
HEARING_SECONDS = 30.0
"""Where it does, the time between two looks in case a word was lost. A look costs some milliseconds here, but three
processes on macOS."""
PACE = 1.0
"""Seconds between two unasked words of the agent that are looked at; of those in between the last one counts. An honest
agent waits for a moment itself, another would keep the event loop and fill the terminal with lines."""
MOST_ROUTES, MOST_SKIPPED = 8192, 1024
"""Networks that are taken of one message: with everything captured and 256 holes there are some 6,000."""


class RouteKeeper(Protocol):
    """What is needed of the agent."""

    async def change_routes(self, routes: Sequence[str], exclude: Sequence[str]) -> dict[str, Any]:
        """Install exactly these; the `routes_changed` answer."""


class Capturing:
    """The captured networks of one bridge."""

    def __init__(
        self, options: Options, tell: events.EventSink, hosts: HostRoutes, *,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_change` hears of each change of this machine's network that `watch` sees."""
        self._options = options
        self._tell = tell
        self.hosts = hosts
        self._on_change = on_change
        self._due = False
        """Whether the agent has still to be told."""
        self._look_now = asyncio.Event()
        self._snapshot: Snapshot | None = None
        self._peers: tuple[str, ...] = ()
        self._own: tuple[str, ...] = ()
        self._alias: tuple[str, ...] = ()
        self._policy: Policy | None = None
        self._choice: Capture | None = None
        self._told: tuple[tuple[events.Network, ...], tuple[events.Network, ...]] | None = None
        self._installed: tuple[str, ...] = ()
        self._own_there: tuple[str, ...] = ()
        self._skipped: tuple[events.Network, ...] = ()
        self._unheard: Mapping[str, Any] | None = None
        """The last unasked word, while it is too early for it."""
        self._pace: asyncio.TimerHandle | None = None

    @property
    def local(self) -> tuple[str, ...]:
        """The networks this machine has routes to, as CIDRs."""
        return tuple(str(route.network) for route in self._snapshot.routes) if self._snapshot else ()

    @property
    def routes(self) -> list[str]:
        """What the agent is asked to capture."""
        return self._choice.routes if self._choice else []

    @property
    def exclude(self) -> list[str]:
        """What the agent must leave alone."""
        return self._choice.exclude if self._choice else []

    @property
    def captured(self) -> tuple[events.Network, ...]:
        """The networks that come through the bridge, and why."""
        refused = {it.network for it in self._skipped}
        wanted = self._choice.captured if self._choice else ()
        return tuple(events.Network(str(it.network), it.reason) for it in wanted if str(it.network) not in refused)

    @property
    def skipped(self) -> tuple[events.Network, ...]:
        """The networks that were wanted and are not captured, and why."""
        return self._skipped

    @property
    def excluded(self) -> tuple[events.Network, ...]:
        """The networks never captured, and why."""
        return tuple(events.Network(str(it.network), it.reason) for it in self._choice.excluded) if self._choice else ()

    @property
    def installed(self) -> tuple[str, ...]:
        """The routes as they are over there: captured networks with holes for what is excluded."""
        return self._installed

    async def look(self) -> None:
        """Look at this machine's routes. Raises UsageError for a wish that cannot be fulfilled."""
        try:
            self._snapshot = await local_networks().snapshot()
        except LocalNetworksError as error:
            self._tell(events.Hint(f"{error}; only networks named by --route are captured"))
        self.decide()

    def tell_own_addresses(self, policy: Policy) -> None:
        """Tell `policy`, now and whenever they change, which addresses this machine has. Raises UsageError.

        A rule that speaks of addresses nobody can find out would deny nothing, so there is no bridge then.
        """
        if self._snapshot is None and policy.follows_own_addresses:
            raise UsageError(
                "The rule `local` cannot be kept.", "This machine's own addresses cannot be looked up.",
                "Name them by --deny CIDR instead.",
            )
        self._policy = policy
        self._pass_own_addresses()

    def _pass_own_addresses(self) -> None:
        if self._policy is not None and self._snapshot is not None:
            self._policy.own_addresses(self._snapshot.own)

    def decide(self, *, peers: Iterable[str] = (), own: Iterable[str] = (), alias: Iterable[str] = ()) -> None:
        """Choose. `peers` are the tunnel's own addresses, `own` the bridge's networks, `alias` what of them is captured
        nevertheless. Raises UsageError.
        """
        self._peers = tuple(peers) or self._peers
        self._own = tuple(own) or self._own
        self._alias = tuple(alias) or self._alias
        options = self._options
        try:
            self._choice = choose(
                self._snapshot, routes=options.route, exclude=options.exclude, everything=options.capture_all,
                peers=self._peers, own=self._own, alias=self._alias,
            )
        except ValueError as error:
            raise UsageError(
                "A network cannot be captured.", f"{error}.", "Correct --route or --exclude and start again.",
            ) from None

    def heard(self, message: Mapping[str, Any]) -> None:
        """The agent said so unasked, since the target's own networks changed; at most one such word a PACE counts."""
        if self._pace is not None:
            self._unheard = message
            return
        self._pace = asyncio.get_running_loop().call_later(PACE, self._hear)
        self.answered(message)

    def _hear(self) -> None:
        self._pace = None
        if self._unheard is not None:
            self.heard(self._unheard)

    def close(self) -> None:
        """Hear nothing any more."""
        self._unheard = None
        if self._pace is not None:
            self._pace.cancel()

    def answered(self, answer: Mapping[str, Any]) -> None:
        """The agent said (in `ready` and `routes_changed`) what it installed and what not; tell what changed by it."""
        self._unheard = None  # it is older
        routes, skipped, own = answer.get("routes"), answer.get("skipped"), answer.get("own")
        self._installed = tuple(map(str, routes[:MOST_ROUTES])) if isinstance(routes, list) else ()
        self._own_there = tuple(map(str, own[:MOST_OWN])) if isinstance(own, list) else ()
        self.hosts.follow(Overlaps(self._choice, self._own_there, self._installed))
        self._skipped = tuple(
            events.Network(str(it.get("route")), str(it.get("reason")))
            for it in (skipped[:MOST_SKIPPED] if isinstance(skipped, list) else ()) if isinstance(it, dict)
        )
        now = (self.captured, self.skipped)
        before, self._told = self._told, now
        if before is None or before[0] != now[0]:
            self._tell(events.Captured(now[0]))
        if before is None or before[1] != now[1]:
            if now[1] or before:
                self._tell(events.Skipped(now[1]))

    def renew(self, peer: str) -> None:
        """The tunnel was made anew, perhaps from elsewhere: tell the agent once more what is captured."""
        if peer:
            self._peers = (peer,)
        self.hosts.renew()
        self._due = True
        self._look_now.set()

    async def watch(self, agent: RouteKeeper) -> None:
        """Follow this machine's routes until cancelled."""
        with notice(self._look_now.set) as hears:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEARING_SECONDS if hears else WATCH_SECONDS):
                        await self._look_now.wait()
                self._look_now.clear()
                wanted = self.routes
                await self._look_again()
                if not self._due and self.routes == wanted:
                    continue
                self._due = True
                try:
                    if self.hosts.follow(Overlaps(self._choice, self._own_there, self.routes)):
                        await self.hosts.make()
                    self.answered(await agent.change_routes(self.routes, self.exclude))
                    self._due = False
                except TargetUnreachableError as error:
                    log.debug("the agent is told later what is captured: %s", error)
                except (BridgeError, OSError) as error:
                    self._due = False
                    log.warning("the captured networks could not be changed: %s", error)

    async def _look_again(self) -> None:
        before = self._snapshot
        try:
            self._snapshot = await local_networks().snapshot()
        except LocalNetworksError as error:
            log.debug("the local routes could not be looked at: %s", error)
        self._pass_own_addresses()
        try:
            self.decide()
        except UsageError as error:
            log.warning("the captured networks could not be changed: %s", error)
        if before is not None and self._snapshot != before:
            self._on_change()
