"""Running bridges and their flows as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .render import size, span
from .text import clean

Bridge = Mapping[str, Any]
Rates = Mapping[int, tuple[float, float]]
"""Bytes a second from there and to there, by the bridge's number."""
TARGET_MAX = 40
"""Characters of a TARGET; an exec: target may be a whole script."""


def bridges(found: Sequence[Bridge], rates: Rates | None = None) -> list[str]:
    """One line a bridge. FROM and TO count TCP payload from the target and to it; with `rates`, by the second."""
    heads = ["", "TARGET", "STATE", "UPTIME", ">ROUND TRIP", ">FLOWS", ">FROM", ">TO"]
    return table(heads, [_bridge(bridge, rates) for bridge in found])


def _bridge(bridge: Bridge, rates: Rates | None) -> list[str]:
    number, target = bridge["number"], _short(str(bridge.get("target", "")))
    if "error" in bridge:
        return [str(number), target or "?", "no answer"]
    tcp = bridge.get("counters", {}).get("tcp", {})
    connection = bridge.get("connection", {})
    trip = f"{connection['rtt'] * 1000:.1f} ms" if connection.get("rtt") else ""
    if rates is None:
        carried = [size(tcp.get(name, 0)) for name in ("bytes_in", "bytes_out")]
    else:
        carried = [f"{size(rate)}/s" for rate in rates.get(number, (0.0, 0.0))]
    flows = sum(bridge.get("totals", {}).values())
    return [str(number), target, bridge["state"], span(bridge["uptime"]), trip, str(flows), *carried]


def flows(bridge: Bridge) -> list[str]:
    """One line a flow, the one used last first."""
    found = bridge.get("flows", [])
    lines = table(
        ["", "SOURCE", "DESTINATION", "STATE", ">FROM", ">TO", ">AGE", ">IDLE"],
        [[
            flow["protocol"], flow["source"],
            flow["destination"] + (f" ({flow['final']})" if "final" in flow else ""), flow["state"],
            size(flow["bytes_up"]), size(flow["bytes_down"]), span(flow["age"]), span(flow["idle"]),
        ] for flow in found],
    )
    if more := sum(bridge.get("totals", {}).values()) - len(found):
        lines.append(f"and {more} more")
    return lines if found else []


def _short(text: str) -> str:
    text = clean(text)
    return text if len(text) <= TARGET_MAX else f"{text[:TARGET_MAX - 1]}…"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as what stands in them; those whose head begins with `>` end at their right side."""
    right = [head.startswith(">") for head in heads]
    cells = [[head.removeprefix(">") for head in heads], *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(row[place]) for row in cells if place < len(row)) for place in range(len(heads))]
    return [
        "  ".join(
            cell.rjust(width) if at_right else cell.ljust(width)
            for cell, width, at_right in zip(row, widths, right, strict=False)
        ).rstrip()
        for row in cells
    ]
