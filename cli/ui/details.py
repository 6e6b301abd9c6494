"""One flow in full, over the lists: both addresses, both sockets, and what each TCP says of its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from netbridge.cli.render import size, span
from netbridge.cli.text import clean

from .model import Model

Lines = Iterator[tuple[str, str]]


def lines(flow: dict[str, Any], now: float) -> Lines:
    """What is shown of a flow: pairs of a word and what it is; an empty second one begins a part."""
    yield "codespace", flow["source"]
    yield "destination", flow["destination"] + (f"  {flow['name']}" if flow.get("name") else "")
    if "final" in flow:
        yield "stands for", flow["final"]
    yield "state", flow["state"]
    yield "up", f"{size(flow['bytes_up'])}, {size(flow['rate_up'])}/s"
    yield "down", f"{size(flow['bytes_down'])}, {size(flow['rate_down'])}/s"
    yield "age, idle", f"{span(now - flow['opened'])}, {span(max(0, now - flow['last_used']))}"
    if connection := flow.get("connection"):
        yield "towards the codespace", ""
        yield from _tcp(connection)
        yield "window there, here", f"{size(connection['window_there'])}, {size(connection['window_here'])}"
        yield "queued, unread", f"{size(connection['queued'])}, {size(connection['unread'])}"
    if sock := flow.get("socket"):
        yield "towards the destination", ""
        yield "socket", f"{sock.get('local', 'none')} > {sock.get('remote', 'none')}  descriptor {sock['descriptor']}"
        if "state" in sock:
            yield from _tcp(sock)
            yield "congestion window", size(sock["congestion_window"])


def _tcp(end: dict[str, Any]) -> Lines:
    trip = f"{end['rtt'] * 1000:.2f} ms" if end["rtt"] else "not measured"
    yield "TCP state", end["state"]
    yield "round trip, timeout", f"{trip}, {end['rto'] * 1000:.0f} ms"
    yield "retransmitted", f"{end['retransmitted']} segment{'' if end['retransmitted'] == 1 else 's'}"
    yield "in flight", f"{size(end['in_flight'])}, segments of {end['mss']} B"


class Details(ModalScreen[None]):
    """Shown until escape, enter or q."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "dismiss", "close"), Binding("c", "app.copy", "copy address"),
    ]
    CSS = """
    Details { align: center middle; }
    Details > VerticalScroll {
        width: 74; max-width: 100%; height: auto; max-height: 100%; border: round ansi_default; padding: 0 1;
    }
    """

    def __init__(self, model: Model, row: dict[str, Any]) -> None:
        super().__init__()
        self._model = model
        self.row = row
        self._facts = Static()

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title = f"{self.row['protocol']} flow {self.row['number']}"
            box.border_subtitle = "esc closes · c copies the address"
            yield self._facts

    def on_mount(self) -> None:
        self.refresh_facts()

    def refresh_facts(self) -> None:
        """Show what came last; what is over stays as it was last seen."""
        heard = self._model.details
        if heard and heard["number"] == self.row["number"]:
            self.row = heard
        text = Text()
        for word, what in lines(self.row, self._model.now):
            if what:
                text.append(f"{word:>22}  ", style="dim").append(clean(what) + "\n")
            else:
                text.append(f"{word}\n", style="bold")
        text.rstrip()
        self._facts.update(text)
