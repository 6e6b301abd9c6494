"""What the keys do; and any text as a whole."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from netbridge.cli.text import clean

KEYS = (
    ("q, ctrl-c", "stop the bridge (a second time: leave without waiting)"),
    ("d", "detach: close this screen, the bridge goes on"),
    ("ctrl-z", "suspend, as any program; fg goes on"),
    ("tab, shift-tab", "the next list, the one before"),
    ("↑ ↓ PgUp PgDn Home End", "move in the list (also k j g G)"),
    ("enter", "details of the flow; the whole entry"),
    ("/", "filter: words that must all occur; esc clears it"),
    ("s, r", "sort the flows by something else, the other way round"),
    ("c", "copy the destination's address or the name's (by the terminal: OSC 52)"),
    ("z", "the list alone, or all of them"),
    ("p", "pause: the screen stands still"),
)
NOTES = """
↑ is from the codespace, ↓ towards it; sizes are payload, in powers of 1000.
A flow that ended stays for ten seconds, dimmed.
dropped counts packets that went nowhere: `netbridge status --json` says why.
denied counts flows that the policy refused: --log-file has each of them.
"""


class Whole(ModalScreen[None]):
    """A text that a line was too short for."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "dismiss", "close")]
    CSS = """
    Whole { align: center middle; }
    Whole > VerticalScroll {
        width: 90%; height: auto; max-height: 100%; border: round ansi_default; padding: 0 1;
    }
    """

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title = self._title
            box.border_subtitle = "esc closes"
            yield Static(Text(clean(self._text)))


class Help(ModalScreen[None]):
    """Shown until a key is pressed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q,question_mark", "dismiss", "close")]
    CSS = """
    Help { align: center middle; }
    Help > VerticalScroll {
        width: 78; max-width: 100%; height: auto; max-height: 100%; border: round ansi_default; padding: 0 1;
    }
    """

    def compose(self) -> ComposeResult:
        text = Text()
        for key, what in KEYS:
            text.append(f"{key:>23}  ", style="bold").append(what + "\n")
        text.append(NOTES.rstrip(), style="dim")
        with VerticalScroll() as box:
            box.border_title = "keys"
            box.border_subtitle = "esc closes"
            yield Static(text)
