"""Codespaces as a table on standard error. Every cell passes `clean`: branch and display name were made elsewhere."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from netbridge.bridge.transport.gh_codespace import Codespace

from .text import clean

HEAD = ("name", "repository", "branch", "state", "last used")
WIDEST = (48, 40, 32, 12, 16)
"""Characters of each column; a name is at most about 48 long, the rest may be cut."""
NARROWEST = 10


def show(codespaces: Sequence[Codespace], *, numbered: bool = False) -> None:
    """Print them, a line each, as wide as the terminal."""
    for line in table(codespaces, shutil.get_terminal_size().columns, numbered=numbered, now=datetime.now(UTC)):
        print(line, file=sys.stderr)
    if not codespaces:
        print("There is no codespace.", file=sys.stderr)


def table(codespaces: Sequence[Codespace], width: int, *, numbered: bool, now: datetime) -> list[str]:
    """The lines of the table, at most `width` characters each where that leaves every column NARROWEST."""
    if not codespaces:
        return []
    shown = Counter(codespace.display_name for codespace in codespaces)
    rows = [HEAD, *(_cells(codespace, now, unique=shown[codespace.display_name] == 1) for codespace in codespaces)]
    numbers = ["", *(f"{place})" for place in range(1, len(rows)))]
    margin = len(numbers[-1]) + 1 if numbered else 0
    widths = [min(most, max(len(row[column]) for row in rows)) for column, most in enumerate(WIDEST)]
    while sum(widths) + 2 * (len(widths) - 1) + margin > width and max(widths[:3]) > NARROWEST:
        widest = max(range(1, 3), key=widths.__getitem__) if max(widths[1:3]) > NARROWEST else 0
        widths[widest] -= 1  # repository and branch give way first: the name is what is typed
    lines = []
    for number, row in zip(numbers, rows, strict=True):
        cells = [_fit(cell, size) for cell, size in zip(row, widths, strict=True)]
        lines.append((f"{number:>{margin - 1}} " if numbered else "") + "  ".join(cells).rstrip())
    return lines


def age(then: str, now: datetime) -> str:
    """How long ago an RFC 3339 time was, for people; as it stands where it is none."""
    try:
        seconds = (now - datetime.fromisoformat(then)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return clean(then)
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "just now"


def _cells(codespace: Codespace, now: datetime, *, unique: bool) -> tuple[str, ...]:
    """`unique`: no other one has its display name, so that tells it from all others."""
    return (
        clean((unique and codespace.display_name) or codespace.name),
        clean(codespace.repository), clean(codespace.branch), clean(codespace.state),
        age(codespace.last_used_at, now),
    )


def _fit(text: str, size: int) -> str:
    return text.ljust(size) if len(text) <= size else f"{text[:size - 1]}…"
