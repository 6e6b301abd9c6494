"""The connection to a bridge: its frames as they come, and what is wished for.

One line of JSON each; see `bridge/feed.py`. Who draws slowly gets fewer frames: the bridge drops what is not read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

from netbridge.bridge.runtime import Folder

LARGEST = 8 << 20
"""Bytes of one frame: 500 rows of each kind have a fifth of it."""


class Source(Protocol):
    """Where frames come from."""

    def frames(self) -> AsyncIterator[dict[str, Any]]:
        """Each frame, until the bridge is gone. Raises OSError when it cannot be reached."""

    def wish(self, **fields: object) -> None:
        """Look at something else; see `bridge.feed.Wish`."""

    def stop(self, why: str) -> None:
        """Stop the bridge."""


class BridgeSource:
    """A bridge of this machine."""

    def __init__(self, folder: Folder, number: int) -> None:
        self._folder = folder
        self._number = number
        self._writer: asyncio.StreamWriter | None = None
        self._wish: dict[str, object] = {}

    async def frames(self) -> AsyncIterator[dict[str, Any]]:
        reader, writer = await asyncio.open_unix_connection(
            self._folder.address(f"{self._number}.sock"), limit=LARGEST
        )
        self._writer = writer
        try:
            self._folder.check_peer(writer.get_extra_info("socket"))
            self._say({"ask": "watch", **self._wish})
            while line := await reader.readline():
                frame = json.loads(line)
                if "header" in frame:  # the others answer a stop
                    yield frame
                elif "error" in frame:
                    raise OSError(frame["error"])
        except ConnectionError:
            pass  # its end, in another form
        finally:
            self._writer = None
            writer.close()

    def wish(self, **fields: object) -> None:
        changed = {name: value for name, value in fields.items() if self._wish.get(name) != value}
        if changed:
            self._wish |= changed
            self._say({"ask": "watch", **changed})

    def stop(self, why: str) -> None:
        self._say({"ask": "stop", "why": why})

    def _say(self, request: dict[str, object]) -> None:
        if self._writer:
            self._writer.write(json.dumps(request).encode() + b"\n")
