"""Lives of sessions whose connection breaks, on a fake target."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge import capturing, events, reconnect, session
from netbridge.bridge.errors import (
    TargetUnreachableError,
)
from netbridge.bridge.options import Options
from netbridge.bridge.transport.base import Channel, Transport
from tests.bridge.fake_target import FakeTarget
from tests.bridge.life import Life, QuietNetworks

REFUSED = TargetUnreachableError("The target does not answer.", "Connection refused.", "Start it.")
GONE = ConnectionResetError("reset by peer")


def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own, networks that do not change, and a first wait of a moment."""
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(capturing, "local_networks", QuietNetworks)
    monkeypatch.setattr(reconnect, "FIRST_WAIT", 0.02)


class Ups(Life):
    """A life whose events can be waited for."""

    def __init__(self, target: FakeTarget, **options: Any) -> None:
        super().__init__(target, **options)
        self._more = asyncio.Event()

    def tell(self, event: events.Event) -> None:
        super().tell(event)
        self._more.set()

    async def comes(self, kind: type[events.Event], count: int = 1) -> Any:
        """The `count`th event of a kind, when it is there."""
        async with asyncio.timeout(10):
            while True:
                found = [event for event in self.told if isinstance(event, kind)]
                if len(found) >= count:
                    return found[count - 1]
                self._more.clear()
                await self._more.wait()

    def break_(self, error: Exception | None = GONE) -> None:
        assert self.target.channel
        self.target.channel.lose(error)


def ways(life: Life, monkeypatch: pytest.MonkeyPatch) -> list[Way]:
    """Each connection over a transport of its own from here on, as it is with a real target; those that were made."""
    made: list[Way] = []

    def another(_options: Options, _tell: events.EventSink) -> Way:
        made.append(Way(life.target))
        return made[-1]

    monkeypatch.setattr(session, "_transport_for", another)
    life.session.line._make = functools.partial(another, life.session.options, life.tell)
    return made


class Way(Transport):
    """One of several ways to the same target."""

    def __init__(self, target: FakeTarget) -> None:
        self.target = target
        self.closed = 0
        self.hangs = False
        self.peer_address = "203.0.113.7"

    async def connect(self) -> None:
        await self.target.connect()

    async def open(self, command: str) -> Channel:
        return await self.target.open(command)

    async def run(self, argv: Sequence[str]) -> int:
        raise AssertionError(argv)

    async def close(self) -> None:
        self.closed += 1
        if self.hangs:
            await asyncio.Event().wait()
