"""A screen under test: what is on it, as text, and keys to press."""

from __future__ import annotations

import asyncio
from typing import Any

from textual.pilot import Pilot

from netbridge.cli.ui.app import BridgeApp
from tests.cli.ui.made_up import MadeUp


class Seen:
    """One screen."""

    def __init__(self, source: MadeUp, app: BridgeApp, pilot: Pilot[Any]) -> None:
        self.source, self.app, self.pilot = source, app, pilot

    async def show(self, **fields: Any) -> str:
        """Send a frame, and the screen when it was drawn."""
        self.source.send(**fields)
        while self.source.queue.qsize():
            await asyncio.sleep(0)
        return await self.settled()

    async def press(self, *keys: str) -> str:
        await self.pilot.press(*keys)
        return await self.settled()

    async def settled(self) -> str:
        await self.pilot.pause()
        return self.text

    @property
    def lines(self) -> list[str]:
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip) for strip in strips]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)
