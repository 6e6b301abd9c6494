"""The NAT panel: every flow that the bridge carries, and those that just ended."""

from __future__ import annotations

from rich.style import Style

from .listing import FAINT, PLAIN, Column, Listing, Row
from .model import Model
from .words import age, count

SORTS = ("rate", "bytes", "newest", "age", "idle", "destination", "state")
"""In the order in which `s` goes through them."""
UP, DOWN = Style(color="cyan"), Style(color="green")
FAILING, BEGINNING = Style(color="red"), Style(color="yellow")


def destination(row: Row) -> str:
    """The name and port, or address and port; where there is another address behind it, that too."""
    name, address = row["name"], row["destination"]
    shown: str = f"{name}:{address.rpartition(':')[2]}" if name else address
    return shown.removesuffix(":0") if row["protocol"] == "icmp" else shown


def address(row: Row) -> str:
    """Where the flow leads, as an address."""
    return str(row.get("final", row["destination"])) if row["name"] or "final" in row else ""


def _state(row: Row) -> Style | None:
    state = row["state"]
    if "reset" in state:
        return FAILING
    return BEGINNING if state in {"connecting", "one datagram"} else None


_STATES = {
    "half closed by codespace": "half ↑", "half closed by host": "half ↓", "reset by host": "reset",
    "one datagram": "asked", "connecting": "connect",
}
"""Those that are too long for a column."""


def _state_text(row: Row) -> str:
    state: str = row["state"]
    return _STATES.get(state, state)


class FlowList(Listing):
    """The flows, as the bridge sorted them."""

    def __init__(self, id: str, model: Model) -> None:
        super().__init__(id)

        def source(row: Row) -> str:
            """The codespace's own address need not be told each time."""
            whole: str = row["source"].removesuffix(":0")
            host, colon, port = whole.rpartition(":")
            return f":{port}" if colon and host.strip("[]") in model.bridge.get("addresses", ()) else whole

        self.columns = (
            Column("PROT", lambda row: row["protocol"], 4),
            Column("CODESPACE", source, 10, grows=1),
            Column("DESTINATION", destination, 18, grows=2),
            Column("ADDRESS", address, 21, from_width=130),
            Column("STATE", _state_text, 8, style=_state),
            Column("↑/s", lambda row: count(row["rate_up"]), 5, right=True, style=lambda _: UP),
            Column("↓/s", lambda row: count(row["rate_down"]), 5, right=True, style=lambda _: DOWN),
            Column("↑", lambda row: count(row["bytes_up"]), 5, right=True, style=lambda _: UP),
            Column("↓", lambda row: count(row["bytes_down"]), 5, right=True, style=lambda _: DOWN),
            Column("AGE", lambda row: age(model.now - row["opened"]), 5, right=True),
            Column("IDLE", lambda row: age(model.now - row["last_used"]), 5, right=True, from_width=86),
        )

    def row_style(self, row: Row) -> Style:
        return FAINT if row["state"] == "closed" else PLAIN

    def take(self, model: Model, sort: str, *, reverse: bool, words: str) -> None:
        """Show what the bridge sent."""
        order = f"{'▲' if reverse else '▼'} {sort}"
        found = f" · {model.matching:,} match “{words}”" if words else ""
        kinds = ", ".join(f"{number:,} {name}" for name, number in sorted(model.header.get("flows", {}).items()))
        self.show(model.flows, f"NAT · {kinds or 'no flows'}{found} · {order}")

