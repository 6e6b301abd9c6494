"""Numbers and addresses for narrow columns."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size

_BARS = " ▁▂▃▄▅▆▇█"


def count(number: float) -> str:
    """Bytes in at most five characters; nothing for nothing."""
    if number < 1:
        return ""
    for unit in ("B", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.0f}{unit}" if unit == "B" or number >= 99.5 else f"{number:.1f}{unit}"
        number /= 1000
    return f"{number:.1f}T"


def age(seconds: float) -> str:
    """A length of time in at most five characters."""
    if seconds < 0:
        return "0s"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes}m{int(seconds) % 60:02d}"
    hours = minutes // 60
    return f"{hours}h{minutes % 60:02d}" if hours < 100 else f"{hours // 24}d"


def took(seconds: float) -> str:
    """How long an answer took."""
    return f"{seconds * 1000:.1f}ms" if seconds < 0.0995 else f"{seconds * 1000:.0f}ms" if seconds < 1 else age(seconds)


def fit(text: str, width: int, *, begin: bool = False) -> str:
    """`text` in exactly `width` cells; what is too long loses its middle, or (`begin`, or if it is wide) its end."""
    if not text.isascii() and (cells := cell_len(text)) != len(text):  # Chinese is two cells wide, an accent none
        return text + " " * (width - cells) if cells <= width else set_cell_size(text, max(0, width - 1)) + "…"[:width]
    if len(text) <= width:
        return text.ljust(width)
    if begin or width < 8:
        return text[: max(0, width - 1)] + "…" if width > 0 else ""
    tail = (width - 1) // 2
    return text[: width - 1 - tail] + "…" + text[-tail:]


def sparkline(values: Iterable[float], width: int) -> str:
    """The last `width` values as bars, the highest of them as a whole one."""
    shown = list(values)[-width:]
    most = max(shown, default=0.0)
    if most <= 0:
        return "▁" * width
    top = len(_BARS) - 1
    return "".join(_BARS[max(1, round(value / most * top))] for value in shown).rjust(width)
