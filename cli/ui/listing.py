"""A list of rows in columns that fit the width, with a cursor that stays on its row while others come and go.

Only what is in sight is made into text: a refresh costs the lines of the screen, however long the list is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from netbridge.cli.text import clean

from .words import fit

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One column."""

    title: str
    text: Callable[[Row], str]
    width: int
    """Characters; the least, where `grows`."""
    right: bool = False
    grows: int = 0
    """Its share of what is left over."""
    begin: bool = False
    """Of what is too long the beginning is shown; else both ends."""
    from_width: int = 0
    """Shown from this width of the list on."""
    style: Callable[[Row], Style | None] | None = None


TITLE = Style(bold=True, reverse=True)
TITLE_FOCUSED = Style(color="green", bold=True, reverse=True)
HEADING = Style(bold=True, underline=True)
CURSOR = Style(reverse=True)
PLAIN = Style()
FAINT = Style(dim=True)


class Listing(Widget, can_focus=True):
    """The base of the lists. Below its title and column heads the rows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "page up", show=False),
        Binding("pagedown,space", "page(1)", "page down", show=False),
        Binding("home,g", "move(-1000000)", "first", show=False),
        Binding("end,G", "move(1000000)", "last", show=False),
    ]
    heads = True
    """Column heads are shown."""
    cursor: reactive[int] = reactive(0)

    class Scrolled(Message):
        """Other rows came into sight."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.columns: Sequence[Column] = ()
        self.rows: Sequence[Row] = ()
        self.title_text = ""
        self._first = 0
        self._at: Hashable = None
        """The row that the cursor is on."""

    # -- what subclasses say

    def key(self, row: Row) -> Hashable:
        """What a row is known by."""
        number: int = row["number"]
        return number

    def row_style(self, row: Row) -> Style:
        """How a row looks as a whole."""
        return PLAIN

    # -- rows

    def show(self, rows: Sequence[Row], title: str) -> None:
        """Show these from now on."""
        self.rows, self.title_text = rows, title
        if self._at is not None and self.cursor:
            place = next((place for place, row in enumerate(rows) if self.key(row) == self._at), None)
            if place is not None:
                self.set_reactive(Listing.cursor, place)
        self._keep_in_sight()
        self.refresh()

    @property
    def selected(self) -> Row | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None

    @property
    def wanted(self) -> int:
        """Rows that are of use: those in sight, and another screen of them."""
        return self._first + 2 * max(1, self._height)

    @property
    def _height(self) -> int:
        return max(0, self.size.height - 1 - self.heads)

    def _keep_in_sight(self) -> None:
        self.set_reactive(Listing.cursor, max(0, min(self.cursor, len(self.rows) - 1)))
        height = max(1, self._height)
        first = min(self._first, self.cursor)
        first = max(first, self.cursor - height + 1)
        self._first = max(0, min(first, max(0, len(self.rows) - height)))

    def action_move(self, by: int) -> None:
        self.cursor = max(0, min(self.cursor + by, len(self.rows) - 1))

    def action_page(self, by: int) -> None:
        self.action_move(by * max(1, self._height - 1))

    def watch_cursor(self) -> None:
        before = self._first
        self._keep_in_sight()
        self._at = self.key(self.rows[self.cursor]) if self.rows else None
        if self._first != before:
            self.post_message(self.Scrolled())

    def on_resize(self, _event: events.Resize) -> None:
        self._keep_in_sight()
        self.post_message(self.Scrolled())

    def on_mouse_scroll_down(self, _event: events.MouseScrollDown) -> None:
        self.action_move(3)

    def on_mouse_scroll_up(self, _event: events.MouseScrollUp) -> None:
        self.action_move(-3)

    def on_click(self, event: events.Click) -> None:
        line = event.y - 1 - self.heads
        if line >= 0 and self._first + line < len(self.rows):
            self.cursor = self._first + line

    # -- drawing

    def _laid_out(self) -> list[tuple[Column, int]]:
        """The columns that fit, each with its width; one blank stands between them."""
        width = self.size.width
        shown = [column for column in self.columns if width >= column.from_width]
        rest = width - sum(column.width + 1 for column in shown) + 1
        growing = sum(column.grows for column in shown) or 1
        return [
            (column, max(0, column.width + rest * column.grows // growing)) for column in shown
        ]

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y == 0:
            style = TITLE_FOCUSED if self.has_focus else TITLE
            marked = f"{'▶' if self.has_focus else ' '}{self.title_text}"
            return Strip([Segment(fit(marked, width), style)], width)
        if y == 1 and self.heads:
            text = " ".join(
                column.title[:cells].rjust(cells) if column.right else column.title[:cells].ljust(cells)
                for column, cells in self._laid_out()
            )
            return Strip([Segment(text[:width].ljust(width), HEADING)], width)
        place = self._first + y - 1 - self.heads
        if place >= len(self.rows):
            return Strip([Segment(" " * width)], width)
        row = self.rows[place]
        whole = CURSOR if self.has_focus and place == self.cursor else self.row_style(row)
        segments = []
        left = width
        for column, cells in self._laid_out():
            text = clean(column.text(row))
            if column.right:
                text = text.rjust(cells)
            text = fit(text, cells, begin=column.begin)
            style = whole
            if column.style is not None and whole is not CURSOR and (own := column.style(row)) is not None:
                style = whole + own
            segments.append(Segment(text, style))
            segments.append(Segment(" ", whole))
            left -= cells + 1
        strip = Strip(segments)
        return strip.adjust_cell_length(width, whole)
