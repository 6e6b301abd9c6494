"""A session on a fake target: what it told and how it ended, on a machine whose network is not this one's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from typing import Any

from netbridge.bridge import events
from netbridge.bridge.options import Options
from netbridge.bridge.routes import Interface, LocalNetworks, Route, Snapshot
from netbridge.bridge.session import Session
from tests.bridge.fake_target import FakeTarget


class Life:
    """One session on a fake target: what it told, how it ended."""

    def __init__(self, target: FakeTarget, **options: Any) -> None:
        self.target = target
        self.told: list[events.Event] = []
        self.when: dict[type[events.Event], Callable[[], object]] = {}
        """What to do when an event of a type comes."""
        self.session = Session(Options(**{"target": "exec:fake", **options}), self.tell, transport=target)

    def tell(self, event: events.Event) -> None:
        self.told.append(event)
        act = self.when.get(type(event))
        if act:
            asyncio.get_running_loop().call_soon(act)

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.told]

    def the(self, kind: type[events.Event]) -> Any:
        (event,) = (event for event in self.told if isinstance(event, kind))
        return event

    async def run(self) -> int:
        """Run it to its end, and see that it leaves no task behind."""
        before = asyncio.all_tasks()
        try:
            async with asyncio.timeout(20):
                return await self.session.run()
        finally:
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == before
            assert self.session.state == "stopped"
            assert self.target.closed == 1 or not isinstance(self.told[0], events.Starting)

    async def during(self, act: Callable[[Life], Awaitable[None]]) -> int:
        """Run it, do `act` when it is ready, then stop it."""
        ready = asyncio.Event()
        self.when[events.Ready] = ready.set

        async def acting() -> None:
            await ready.wait()
            try:
                await act(self)
            finally:
                self.session.stop("the test is over")

        async with asyncio.TaskGroup() as group:
            running = group.create_task(self.session.run())
            group.create_task(acting())
        return running.result()


class QuietNetworks(LocalNetworks):
    """A machine with one wire to the internet, whatever the real one has: a VPN, a 10.0.0.0/8."""

    async def snapshot(self) -> Snapshot:
        routes = (Route(ip_network("192.0.2.0/24"), "eth0"), Route(ip_network("0.0.0.0/0"), "eth0"))
        return Snapshot((Interface("eth0"),), routes)
