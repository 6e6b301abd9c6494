"""Draw docs/pictures/bench.svg from docs/figures/bench.json: `python bench/plot.py`.

Bars on a logarithmic scale, as the paths lie a factor of two hundred apart. Plain SVG, readable on light and dark.
"""

from __future__ import annotations

import json
from math import log10
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs/figures/bench.json"
PICTURE = ROOT / "docs/pictures/bench.svg"
WIDTH, LABELS, RIGHT = 880, 210, 70
ROW, BAR, TOP = 40, 14, 56
FONT = 'font-family="sans-serif" font-size="13"'
LEAST, MOST = 0.05, 30.0
"""Gbit/s at both ends of the scale."""
TICKS = (0.1, 1, 10)
UP, DOWN, TEXT, LINE = "#00796b", "#ef8f00", "#7a7a7a", "#9e9e9e55"


def place(value: float) -> float:
    """How far to the right a figure reaches."""
    return LABELS + (WIDTH - LABELS - RIGHT) * (log10(value) - log10(LEAST)) / (log10(MOST) - log10(LEAST))


def text(x: float, y: float, words: str, **more: object) -> str:
    extra = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in more.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{TEXT}"{extra}>{escape(words)}</text>'


def bars(row: dict[str, Any], y: float) -> list[str]:
    strong = "bold" if row["name"].startswith("netbridge") else "normal"
    drawn = [text(LABELS - 10, y + BAR + 4, row["name"].replace("`", ""), text_anchor="end", font_weight=strong)]
    for key, colour, top in (("up", UP, y), ("down", DOWN, y + BAR + 2)):
        right = place(row[key])
        drawn.append(f'<rect x="{LABELS}" y="{top}" width="{right - LABELS:.1f}" height="{BAR}" fill="{colour}"/>')
        drawn.append(text(right + 6, top + BAR - 3, f"{row[key]:g}", font_size=11))
    return drawn


def draw(result: dict[str, Any]) -> str:
    """The picture as SVG."""
    rows = result["paths"]
    height = TOP + ROW * len(rows) + 30
    said = "; ".join(f"{row['name'].replace('`', '')}: {row['up']:g} up, {row['down']:g} down" for row in rows)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT} role="img">',
        "<title>Throughput in Gbit/s, logarithmic scale</title>",
        f"<desc>{escape(said)}</desc>",
        f'<rect x="{LABELS}" y="12" width="12" height="12" fill="{UP}"/>',
        text(LABELS + 18, 23, "up, from the codespace"),
        f'<rect x="{LABELS + 190}" y="12" width="12" height="12" fill="{DOWN}"/>',
        text(LABELS + 208, 23, "down, to the codespace"),
        text(WIDTH - RIGHT, 23, "Gbit/s, logarithmic", text_anchor="end"),
    ]
    for tick in TICKS:
        x = place(tick)
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 12}" y2="{height - 26}" stroke="{LINE}"/>')
        out.append(text(x, height - 10, f"{tick:g}", text_anchor="middle", font_size=11))
    for number, row in enumerate(rows):
        out += bars(row, TOP + ROW * number)
    return "\n".join([*out, "</svg>"]) + "\n"


def main() -> None:
    PICTURE.write_text(draw(json.loads(FIGURES.read_text())))


if __name__ == "__main__":
    main()
