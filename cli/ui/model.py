"""What was heard from the bridge, kept for the screen."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

HISTORY = 120
"""Throughputs kept for the sparklines: half a minute."""
QUESTIONS = 500
ENTRIES = 1000


class Model:
    """The bridge as it was when the last frame left it."""

    def __init__(self) -> None:
        self.bridge: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.flows: list[dict[str, Any]] = []
        """Those to be shown, in their order."""
        self.matching = 0
        """Flows that the filter lets through, of which `flows` are the first."""
        self.questions: deque[dict[str, Any]] = deque(maxlen=QUESTIONS)
        """The newest first."""
        self.entries: deque[dict[str, Any]] = deque(maxlen=ENTRIES)
        """Of the log, the newest last."""
        self.details: dict[str, Any] | None = None
        self.up: deque[float] = deque([0.0] * HISTORY, maxlen=HISTORY)
        self.down: deque[float] = deque([0.0] * HISTORY, maxlen=HISTORY)
        self._rows: dict[int, dict[str, Any]] = {}
        self._ahead = 0.0

    def take(self, frame: dict[str, Any]) -> None:
        """Take one frame of the feed."""
        self._ahead = frame["now"] - time.monotonic()
        self.bridge = frame.get("bridge", self.bridge)
        self.header = frame["header"]
        if "order" in frame:
            self._rows |= {row["number"]: row for row in frame["rows"]}
            self._rows = {number: self._rows[number] for number in frame["order"] if number in self._rows}
            self.flows = list(self._rows.values())
            self.matching = frame["matching"]
        self.questions.extendleft(frame["questions"])
        self.entries.extend(frame["log"])
        self.details = frame.get("details")
        self.up.append(self.header["up"])
        self.down.append(self.header["down"])

    @property
    def now(self) -> float:
        """The bridge's clock at this moment."""
        return time.monotonic() + self._ahead

    @property
    def open_flows(self) -> int:
        """Flows that the bridge carries."""
        return sum(self.header.get("flows", {}).values())
