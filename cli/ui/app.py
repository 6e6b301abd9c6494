"""The screen: which keys there are, and who hears of a frame.

`run` shows it until the bridge is gone or the user leaves; it draws when a frame came, and not otherwise.
"""

from __future__ import annotations

import os
from enum import IntEnum
from typing import Any, ClassVar

from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input

from netbridge.bridge.errors import TargetUnreachableError
from netbridge.bridge.runtime import Folder
from netbridge.cli.text import clean

from .details import Details
from .entries import EntryList, words
from .flows import SORTS, FlowList
from .heading import Heading
from .help import Help, Whole
from .listing import Listing
from .model import Model
from .questions import QuestionList, answer
from .source import BridgeSource, Source

YIELDING = 5
"""Niceness: where cores are short, packets come first."""


class Left(IntEnum):
    """Why the screen was left; the exit status of its process."""

    DETACHED = 0
    GONE = 4
    """The bridge is not there any more."""


class BridgeApp(App[Left]):
    """One bridge on one terminal."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "netbridge"
    CSS = """
    Heading { height: 3; }
    #flows { height: 5fr; min-height: 4; }
    #questions { height: 3fr; min-height: 3; }
    #entries { height: 2fr; min-height: 2; }
    #filter { display: none; height: 1; border: none; padding: 0; }
    #filter.open { display: block; }
    .alone #flows, .alone #questions, .alone #entries { display: none; }
    .alone .shown { display: block !important; height: 1fr; }
    Footer { height: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "stop", "stop"),
        Binding("ctrl+c,ctrl+q", "stop", "stop", show=False, priority=True),
        Binding("d", "detach", "detach"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("s", "sort", "sort"),
        Binding("r", "reverse", "reverse", show=False),
        Binding("enter", "details", "details", key_display="⏎"),
        Binding("c", "copy", "copy"),
        Binding("z", "alone", "zoom"),
        Binding("p", "pause", "pause", show=False),
        Binding("tab", "app.focus_next", "next", show=False),
        Binding("escape", "clear", "clear", show=False),
        Binding("ctrl+z", "suspend_process", "suspend", show=False, priority=True),
    ]

    def __init__(self, source: Source) -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self.model = Model()
        self.source = source
        # Held here rather than looked up: a frame may come while the screen is being taken down.
        self.heading = Heading("heading", self.model)
        self.flows = FlowList("flows", self.model)
        self.questions = QuestionList("questions", self.model)
        self.entries = EntryList("entries")
        self.filter_box = Input(placeholder="words that must all occur; enter keeps, esc clears", id="filter")
        self.filter_words = ""
        self.sort, self.reverse = SORTS[0], False
        self.paused = False
        self.fault = ""
        """Why the bridge could not be heard."""
        self._stopping = False
        self._details: Details | None = None
        """Shown over the lists."""

    def compose(self) -> ComposeResult:
        yield self.heading
        yield self.flows
        yield self.questions
        yield self.entries
        yield self.filter_box
        yield Footer()

    def on_mount(self) -> None:
        self.flows.focus()
        # After a suspension the terminal is empty, and the widgets think that they stand there.
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))
        self.listen()

    # -- the bridge

    @work(exclusive=True)
    async def listen(self) -> None:
        """Take frames until there are no more."""
        self._ask()
        try:
            async for frame in self.source.frames():
                self.model.take(frame)
                if not self.paused:
                    self.draw()
        except (OSError, ValueError) as error:
            self.fault = str(error)
        self.exit(Left.GONE)

    def draw(self) -> None:
        """Show what was heard."""
        model = self.model
        wanted = self.filter_words
        self.heading.refresh()
        self.flows.take(model, self.sort, reverse=self.reverse, words=wanted)
        self.questions.take(model, wanted)
        self.entries.take(model, wanted)
        if self._details:
            self._details.refresh_facts()

    @on(Listing.Scrolled)
    def _ask(self) -> None:
        self.source.wish(
            rows=max(20, self.flows.wanted), sort=self.sort, reverse=self.reverse, filter=self.filter_words,
            details=self._details.row["number"] if self._details else 0,
        )

    # -- keys

    def action_stop(self) -> None:
        if self._stopping:
            self.exit(Left.GONE)
            return
        self._stopping = True
        self.source.stop("q was pressed")
        self.notify("Stopping the bridge; q again leaves at once.", timeout=10)

    def action_detach(self) -> None:
        self.exit(Left.DETACHED)

    def action_help(self) -> None:
        self.push_screen(Help())

    def action_sort(self) -> None:
        self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
        self._ask()
        self.draw()

    def action_reverse(self) -> None:
        self.reverse = not self.reverse
        self._ask()
        self.draw()

    def action_pause(self) -> None:
        self.paused = self.heading.paused = not self.paused
        if self.paused:
            self.heading.refresh()
            self.notify("The screen stands still; p goes on.", timeout=5)
        else:
            self.draw()

    def action_alone(self) -> None:
        panel = self._panel()
        alone = not self.screen.has_class("alone")
        self.screen.set_class(alone, "alone")
        for one in (self.flows, self.questions, self.entries):
            one.set_class(alone and one is panel, "shown")

    def action_details(self) -> None:
        panel = self._panel()
        row: dict[str, Any] | None = panel.selected if panel else None
        match panel:
            case FlowList() if row:
                self._details = Details(self.model, row)
                self.push_screen(self._details, self._details_closed)
                self._ask()
            case QuestionList() if row:
                self.push_screen(Whole("name", f"{row['name']} {row['type']}: {answer(row)}"))
            case EntryList() if row:
                self.push_screen(Whole("log", words(row)))

    def _details_closed(self, _result: None) -> None:
        self._details = None
        self._ask()

    def action_copy(self) -> None:
        # What a clipboard holds is pasted into shells, and an answer is written by whoever owns the name.
        if text := clean(self._address()):
            self.copy_to_clipboard(text)
            self.notify(f"Copied {text}", timeout=3, markup=False)

    def _address(self) -> str:
        """What `c` copies: the address without its port, or the first one that a name has."""
        if self._details:
            return _host(self._details.row)
        panel = self._panel()
        row: dict[str, Any] | None = panel.selected if panel else None
        if row is None:
            return ""
        match panel.id if panel else "":
            case "flows":
                return _host(row)
            case "questions":
                return answer(row).partition(", ")[0] if row["answer"] else str(row["name"])
        return ""

    def _panel(self) -> Listing | None:
        return self.focused if isinstance(self.focused, Listing) else None

    # -- the filter

    def action_filter(self) -> None:
        box = self.filter_box
        box.add_class("open")
        box.focus()

    def action_clear(self) -> None:
        box = self.filter_box
        box.value = ""
        self._close_filter()

    def _close_filter(self) -> None:
        box = self.filter_box
        box.set_class(bool(box.value), "open")
        if box.has_focus:
            self.flows.focus()

    @on(Input.Changed, "#filter")
    def _filter_changed(self, event: Input.Changed) -> None:
        self.filter_words = event.value.strip()
        self._ask()
        self.draw()

    @on(Input.Submitted, "#filter")
    def _filter_kept(self) -> None:
        self._close_filter()


def _host(row: dict[str, Any]) -> str:
    return str(row["destination"]).rpartition(":")[0].strip("[]")


def run(folder: Folder, number: int) -> Left:
    """Watch bridge `number` on this terminal. Raises BridgeError when there is none."""
    os.nice(YIELDING)
    for name in ("COLUMNS", "LINES"):  # exported by some shells, and then the window could not be followed
        os.environ.pop(name, None)
    screen = BridgeApp(BridgeSource(folder, number))
    left = screen.run()
    if screen.fault:
        raise TargetUnreachableError(
            f"Bridge {number} does not answer.", f"{screen.fault}.", "Look whether it still runs (`netbridge status`).",
        )
    return Left.GONE if left is None else left
