"""Single hosts captured for a time: those that names of this machine lead to inside the target's own networks, and
those that open flows go to when their network is let go.

A name's host gets its route before the client hears the answer, for the name's TTL, so the connect that follows takes
the bridge. A name that the target's own resolver knew makes none, since nobody here hears of it. A route that runs out
is kept as long as a flow goes to its host. The agent refuses what must stay its own (itself, its gateway, nameservers,
neighbours that answered) and says why.

When a network is let go because a VPN went down here, or because one like it came up over there, the flows into it keep
their way, each by a route for its host: what becomes of them is then what becomes of a program's flow here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Protocol

from . import events
from .dns.answer import Answer
from .dns.message import Query, name_text
from .errors import BridgeError
from .overlaps import Overlaps

log = logging.getLogger(__name__)

LEAST, LONGEST = 60.0, 7200.0
"""Seconds a route lasts. A TTL of some seconds is shorter than the time from a lookup to a slow program's connect;
nobody keeps an answer for longer than two hours (systemd-resolved's limit)."""
MOST = 512
"""Routes at a time; the one asked for longest ago gives way. Each is a route in the target's kernel, and a company's
names lead to dozens."""
OF_AN_ANSWER = 32
"""Addresses of one answer that get a route: programs try some of the first. An answer holds thousands, and one question
must not drive out everybody else's routes, nor take long where all else waits for it."""
WAIT = 1.0
"""Seconds an answer waits for its route: a resolver over there asks again after two."""
LEAD = 10.0
"""Seconds before its end a route is renewed if a flow needs it."""
IN_USE = 120.0
"""Seconds by which it is renewed."""
REFUSED = 60.0
"""Seconds for which a refusal holds: the neighbour may be gone then."""
TELL = 20
"""Routes told one by one within `REFUSED` seconds; more of them are seen in the state."""
NAMES = 8
"""Names remembered for one host."""


class RouteMaker(Protocol):
    """What is needed of the agent."""

    async def make_host_routes(self, addresses: Sequence[tuple[str, float]]) -> dict[str, Any]:
        """Capture each address for so many seconds; the `host_routes_changed` answer."""


@dataclass(slots=True)
class _Wish:
    seconds: float
    network: str
    name: str = ""


@dataclass(slots=True)
class _Host:
    network: str
    until: float = 0.0
    names: dict[str, None] = field(default_factory=dict)
    refused: str = ""


class HostRoutes:
    """The hosts of one bridge that have a route of their own."""

    def __init__(
        self, tell: events.EventSink, in_use: Callable[[], Iterable[bytes]], *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`in_use`: the destinations of all open flows, packed."""
        self.overlaps = Overlaps()
        """Kept true by whoever knows what is captured."""
        self._tell = tell
        self._in_use = in_use
        self._clock = clock
        self._hosts: OrderedDict[bytes, _Host] = OrderedDict()
        self._wishes: dict[bytes, _Wish] = {}
        self._untold: dict[bytes, _Wish] = {}
        """For open flows, of which the agent could not be told; names are asked for again by whoever wants them."""
        self._waiting: list[asyncio.Future[None]] = []
        self._more = asyncio.Event()
        self._working = False
        self._hinted: set[str] = set()
        self._told = 0
        self._told_since = 0.0

    # --- before an answer is given ------------------------------------------------------------------------------------

    def lacks(self, query: Query, answer: Answer, age: int = 0) -> bool:
        """Whether `answer` leads to a host that wants a route first; `make` is then to be awaited.

        A route that is there and would end before the answer does is renewed; nobody has to wait for that.
        """
        if not self.overlaps.all or not self._working:
            return False
        lacking = False
        now = self._clock()
        for address, ttl in itertools.islice(answer.addresses(), OF_AN_ANSWER):
            overlap = self.overlaps.holding(address)
            if overlap is None:
                continue
            host = self._hosts.get(address)
            left = max(0.0, min(ttl - age, LONGEST))
            if host is None or host.until <= now:
                lacking = True
            else:
                self._hosts.move_to_end(address)
                if host.until >= now + left or host.refused:
                    continue
            self._wishes[address] = _Wish(max(LEAST, left), str(overlap.own), name_text(query.name))
            self._more.set()
        return lacking

    async def make(self) -> None:
        """Wait until what was lacking is there, for a second at most."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._more.set()
        await asyncio.wait([done], timeout=WAIT)

    # --- when networks change -----------------------------------------------------------------------------------------

    def follow(self, now: Overlaps) -> bool:
        """This is captured from now on, or will be in a moment: flows that were captured and are so no longer keep
        their way. Whether there are any; `make` waits until each has its own.
        """
        before, self.overlaps = self.overlaps, now
        if before.same_routes(now):
            return False
        for address in set(self._in_use()):
            host = ip_address(address)
            if before.captures(host) and not now.captures(host):
                self._wishes.setdefault(address, _Wish(IN_USE, str(before.wanted(host) or host)))
        if self._wishes:
            self._more.set()
        return self._working and bool(self._wishes)

    def renew(self) -> None:
        """The connection was made anew: the agent forgot nothing, but its time went on."""
        self._wishes, self._untold = {**self._untold, **self._wishes}, {}
        self._hosts = OrderedDict((address, host) for address, host in self._hosts.items() if not host.refused)
        for address, host in self._hosts.items():
            host.until = max(host.until, self._clock() + LEAD)  # the agent waits at least as long
            if address not in self._wishes:
                self._wishes[address] = _Wish(host.until - self._clock(), host.network)
        self._more.set()

    # --- what is there ------------------------------------------------------------------------------------------------

    def state(self) -> list[dict[str, Any]]:
        """Each host as JSON: its address and names, the network it lies in, the seconds left, whether it is in use."""
        now, used = self._clock(), set(self._in_use())
        return [
            {
                "address": str(ip_address(address)), "names": list(host.names), "network": host.network,
                "seconds": round(host.until - now, 1), "in_use": address in used, "refused": host.refused,
            }
            for address, host in self._hosts.items() if host.until > now
        ]  # fmt: skip

    async def watch(self, agent: RouteMaker) -> None:
        """Tell the agent what is wanted, and renew what is in use, until cancelled."""
        self._working = True
        try:
            while True:
                self._look()
                if self._wishes or self._waiting:
                    await self._ask(agent)
                    continue
                due = min((host.until for host in self._hosts.values()), default=None)
                left = None if due is None else due - self._clock()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left and max(0.1, left - LEAD if left > LEAD else left)):
                        await self._more.wait()
                self._more.clear()
        finally:
            self._working = False
            self._release(self._waiting)

    def _look(self) -> None:
        """Renew what is about to end and is in use; forget what ended."""
        now = self._clock()
        ending = [address for address, host in self._hosts.items() if host.until - now <= LEAD]
        if not ending:
            return
        used = set(self._in_use())
        for address in ending:
            host = self._hosts[address]
            if address in used and not host.refused:
                self._wishes.setdefault(address, _Wish(IN_USE, host.network))
            elif host.until <= now:
                del self._hosts[address]

    async def _ask(self, agent: RouteMaker) -> None:
        """Put all wishes that gathered to the agent at once."""
        wishes, self._wishes = dict(itertools.islice(self._wishes.items(), MOST)), {}
        waiting, self._waiting = self._waiting, []
        if not wishes:  # they were fulfilled with somebody else's
            self._release(waiting)
            return
        gone = self._make_room(wishes)
        asked = {str(ip_address(address)): address for address in wishes}
        try:
            answer = await agent.make_host_routes(
                # longer than is counted on here, so that it is there when it is renewed in time
                [(text, wishes[address].seconds + LEAD) for text, address in asked.items()]
                + [(text, 0.0) for text in gone]
            )
        except (BridgeError, OSError) as error:
            log.debug("no routes for %s: %s", ", ".join(asked), error)
            for address, wish in wishes.items():  # without a connection the agent lets nothing run out
                if host := self._hosts.get(address):
                    host.until = max(host.until, self._clock() + 2 * LEAD)
                elif not wish.name and len(self._untold) < MOST:
                    self._untold[address] = wish
        else:
            self._answered(answer, asked, wishes)
        finally:
            self._release(waiting)

    def _make_room(self, wishes: Iterable[bytes]) -> list[str]:
        """Forget so many that these fit as well; those that are to be taken away over there."""
        kept = set(wishes)
        over = len(self._hosts.keys() | kept) - MOST
        if over <= 0:
            return []
        kept.update(self._in_use())
        gone = [address for address in self._hosts if address not in kept][:over]
        return [str(ip_address(address)) for address in gone if not self._hosts.pop(address).refused]

    def _answered(self, answer: dict[str, Any], asked: dict[str, bytes], wishes: dict[bytes, _Wish]) -> None:
        now = self._clock()
        skipped = answer.get("skipped")
        refused = {
            str(it.get("route")): str(it.get("reason"))
            for it in (skipped if isinstance(skipped, list) else ()) if isinstance(it, dict)
        }
        for text, address in asked.items():
            wish = wishes[address]
            known = self._hosts.get(address)
            new = known is None or known.until <= now or known.refused != refused.get(text, "")
            host = self._hosts[address] = known or _Host(wish.network)
            self._hosts.move_to_end(address)
            if wish.name and len(host.names) < NAMES:
                host.names[wish.name] = None
            host.refused = refused.get(text, "")
            host.until = max(host.until, now + wish.seconds) if not host.refused else now + REFUSED
            if new:
                self._say(text, wish, host.refused)

    def _say(self, text: str, wish: _Wish, refused: str) -> None:
        log.debug("a route for %s (%s) in %s: %s", text, wish.name, wish.network, refused or f"{wish.seconds:.0f} s")
        now = self._clock()
        if now - self._told_since > REFUSED:
            self._told, self._told_since = 0, now
        self._told += 1
        if self._told <= TELL:
            self._tell(events.HostRoute(text, wish.name, wish.network, round(wish.seconds, 1), refused))
        if wish.name and not refused and wish.network not in self._hinted:
            self._hinted.add(wish.network)
            self._tell(events.Hint(
                f"{wish.network} is a network of the target's own and one that is reached here: by name a host in it is"
                " reached through the bridge, by its bare address only with --route ADDRESS"
            ))

    @staticmethod
    def _release(waiting: list[asyncio.Future[None]]) -> None:
        for future in waiting:
            if not future.done():
                future.set_result(None)
        waiting.clear()
