"""The log panel: events and log records, in the words that the lines of `--gui false` have."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from rich.style import Style

from netbridge.bridge import events
from netbridge.cli import render

from .listing import PLAIN, Column, Listing, Row
from .model import Model

BAD, WARNING = Style(color="red"), Style(color="yellow")
_BAD = {"Lost", "Interrupted", "Reconnecting"}
_WARNING = {"FlowDenied", "FlowsDenied", "Hint"}


def event_of(name: str, fields: dict[str, Any]) -> events.Event | None:
    """The event that was sent as JSON; None for one that this version does not know."""
    kind = getattr(events, name, None)
    if not (isinstance(kind, type) and issubclass(kind, events.Event)):
        return None
    known = {item.name for item in dataclasses.fields(kind)}
    given = {key: _networks(value) for key, value in fields.items() if key in known}
    try:
        return kind(**given)
    except TypeError:
        return None


def _networks(value: Any) -> Any:
    """JSON has neither tuples nor our small classes."""
    if isinstance(value, dict) and set(value) == {"network", "reason"}:
        return events.Network(**value)
    return tuple(map(_networks, value)) if isinstance(value, list) else value


def words(entry: Row) -> str:
    """One entry as a sentence."""
    if "event" in entry:
        event = event_of(entry["event"], entry["fields"])
        return render.line(event) if event else str(entry["event"])
    return f"{entry['level']}: {entry['logger']}: {entry['text']}"


def _style(entry: Row) -> Style | None:
    if entry.get("event") in _BAD or entry.get("level") == "error":
        return BAD
    return WARNING if entry.get("event") in _WARNING or entry.get("level") == "warning" else None


class EntryList(Listing):
    """The log, the newest at the end; it follows the end while the cursor is there."""

    heads = False

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.columns = (
            Column("TIME", lambda entry: time.strftime("%H:%M:%S", time.localtime(entry["time"])), 8),
            Column("WHAT", words, 20, grows=1, begin=True, style=_style),
        )

    def row_style(self, row: Row) -> Style:
        return PLAIN

    def take(self, model: Model, filtered: str) -> None:
        """Show what was heard."""
        wanted = filtered.lower().split()
        rows = list(model.entries)
        if wanted:
            rows = [entry for entry in rows if all(word in words(entry).lower() for word in wanted)]
        follows = self.cursor >= len(self.rows) - 1
        self.show(rows, f"LOG · {len(rows)}")
        if follows:
            self.cursor = max(0, len(rows) - 1)
