"""`python -m tests.cli.ui.busy FILE`: ten seconds of a bridge with 5,000 flows and 2,000 new ones a second.

Every row in sight is another one in each frame, as a bridge sends them then. Writes to FILE what that took: seconds of
the processor, seconds, frames.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from netbridge.bridge.feed import EVERY
from netbridge.cli.ui.app import BridgeApp
from tests.cli.ui.made_up import MadeUp, event, flow, frame, question

SECONDS = 10.0
ROWS = 80


class Busy(MadeUp):
    """Four frames a second, as the feed sends them."""

    def __init__(self, result: Path) -> None:
        super().__init__()
        self._result = result

    async def frames(self) -> AsyncIterator[dict[str, Any]]:
        yield frame()
        await asyncio.sleep(1)  # what is loaded when the screen is first drawn is no part of it
        began, used, count = time.monotonic(), time.process_time(), 0
        while time.monotonic() - began < SECONDS:
            first = count * 500
            rows = [
                flow(first + row, rate_up=first, rate_down=row * 1000, bytes_down=first * row, name="db.corp.internal")
                for row in range(ROWS)
            ]
            yield frame(
                flows=rows, matching=5000, up=count * 1000, down=count % 7 * 1e6,
                questions=[question(count * 5 + number) for number in range(5)],
                log=[event(count, "Hint", text=f"hint {count}")],
            )
            count += 1
            await asyncio.sleep(EVERY)
        seconds = time.monotonic() - began
        said = {"cpu": time.process_time() - used, "seconds": seconds, "frames": count}
        self._result.write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    BridgeApp(Busy(Path(sys.argv[1]))).run()
