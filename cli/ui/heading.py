"""The top of the screen: what is bridged, since when, how fast, and what went wrong."""

from __future__ import annotations

from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from netbridge.cli.text import clean

from .model import Model
from .words import age, count, fit, sparkline

_STATES = {
    "starting": Style(color="yellow", bold=True), "running": Style(color="green", bold=True),
    "reconnecting": Style(color="red", bold=True, reverse=True), "stopping": Style(color="yellow", bold=True),
    "paused": Style(color="yellow", bold=True, reverse=True), "gone": Style(color="red", bold=True, reverse=True),
}
BOLD, PLAIN, FAINT = Style(bold=True), Style(), Style(dim=True)
UP, DOWN = Style(color="cyan"), Style(color="green")
BAD = Style(color="red", bold=True)
LABEL = 15
"""Characters in front of a sparkline."""


class Heading(Widget):
    """Three lines."""

    def __init__(self, id: str, model: Model) -> None:
        super().__init__(id=id)
        self._model = model
        self.paused = False
        """Said instead of the state, which may have become another meanwhile."""

    def render_line(self, y: int) -> Strip:
        header = self._model.header
        if not header:
            return Strip([Segment("connecting to the bridge …" if y == 0 else "")]).adjust_cell_length(self.size.width)
        lines = (self._about, self._rates, self._faults)
        segments = lines[y](header) if y < len(lines) else []
        return Strip(segments).adjust_cell_length(self.size.width)

    def _about(self, header: dict[str, Any]) -> list[Segment]:
        bridge = self._model.bridge
        state = str(header["state"])
        trip = header["rtt"]
        right = f" up {age(float(header['uptime']))}"
        right += f" · rtt {float(trip) * 1000:.1f} ms" if trip else ""
        place = clean(str(bridge.get("target", "")))
        if (host := clean(bridge.get("host", ""))) and host not in place:
            place += f" ({clean(bridge.get('user', ''))}@{host})"
        if self.paused:
            state = "paused"
        marked = f" {'●' if state == 'running' else '○'} {state} "
        room = max(0, self.size.width - len("netbridge ") - len(marked) - len(right) - 1)
        return [
            Segment("netbridge ", BOLD), Segment(fit(place, room), PLAIN), Segment(marked, _STATES.get(state, PLAIN)),
            Segment(right, PLAIN),
        ]

    def _rates(self, header: dict[str, Any]) -> list[Segment]:
        half = max(LABEL, (self.size.width - 1) // 2)
        segments = []
        for sign, style, rate, history in (
            ("↑", UP, header["up"], self._model.up), ("↓", DOWN, header["down"], self._model.down),
        ):
            label = f"{sign} {count(float(rate)) or '0B'}/s"
            segments.append(Segment(label.ljust(LABEL - 5), style + BOLD))
            segments.append(Segment(sparkline(history, half - LABEL + 4) + " ", style))
        return segments

    def _faults(self, header: dict[str, Any]) -> list[Segment]:
        flows = self._model.open_flows
        text = f"{flows:,} flow{'' if flows == 1 else 's'}"
        text += f" · {count(float(header['bytes_up'])) or '0B'} up, {count(float(header['bytes_down'])) or '0B'} down"
        segments = [Segment(text, PLAIN)]
        for name in ("reconnects", "dropped", "denied"):
            number = int(header[name])
            segments += [Segment(" · ", FAINT), Segment(f"{number:,} {name}", BAD if number else FAINT)]
        return segments
