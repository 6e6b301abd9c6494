"""Limits as settings: read from ``name=value``, checked against their ranges, shown as a table.

A name is a field of :class:`.Limits` with dashes. A size may carry a unit: ``8MiB``, ``64k`` (powers of 1024).
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping

from .limits import KIB, MIB, Limits

FIELDS = {field.name.replace("_", "-"): field for field in dataclasses.fields(Limits)}
"""By the name a person writes."""

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmg])(?:i?b)?|([bs]))?\Z", re.ASCII | re.IGNORECASE)
MOST = 1 << 53
"""Beyond any limit, and still exact as a float."""
_POWERS = {"": 1, "k": KIB, "m": MIB, "g": KIB * MIB}


def parse_limits(value: object) -> dict[str, float]:
    """Settings by field name, from a table, from ``name=value`` texts or from one text of them with blanks between.

    Raises ValueError that names the limit, its range, its unit and its reason.
    """
    if isinstance(value, Mapping):
        return dict(_checked(str(name), raw) for name, raw in value.items())
    texts = value.split() if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise ValueError("limits are a table, or texts such as tcp-flows=1000")
    found = {}
    for text in texts:
        name, equals, raw = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is no limit such as tcp-flows=1000")
        key, number = _checked(name.strip(), raw.strip())
        found[key] = number
    return found


def _checked(name: str, raw: object) -> tuple[str, float]:
    field = FIELDS.get(name.replace("_", "-"))
    if field is None:
        near = difflib.get_close_matches(name.replace("_", "-"), FIELDS, 1)
        meant = f"; perhaps {near[0]} was meant" if near else f"; there are {', '.join(FIELDS)}"
        raise ValueError(f"there is no limit {name!r}{meant}")
    number = parse_number(raw, field.metadata["unit"], whole=isinstance(field.metadata["default"], int))
    least, most = field.metadata["least"], field.metadata["most"]
    if number is None or not least <= number <= most:
        kind = "a whole number" if isinstance(field.metadata["default"], int) else "a number"
        unit, default, reason = field.metadata["unit"], field.metadata["default"], field.metadata["reason"].rstrip(".")
        raise ValueError(
            f"the limit {name.replace('_', '-')} is {kind} of {unit} from {shown(least)} to {shown(most)},"
            f" not {str(raw)[:40]!r} ({shown(default)} unless set: {reason})"
        )
    return field.name, number


def parse_number(raw: object, unit: str, *, whole: bool) -> float | None:
    """The number of `unit` (bytes, seconds, …) that `raw` stands for; None when it is none."""
    if isinstance(raw, bool):
        return None
    if isinstance(raw, str):
        match = _NUMBER.match(raw)
        if match is None:
            return None
        suffix = "b" if match[2] else (match[3] or "").lower()
        if suffix and unit != {"b": "bytes", "s": "seconds"}[suffix]:
            return None
        raw = float(match[1]) * _POWERS[(match[2] or "").lower()]
    if not isinstance(raw, (int, float)) or not -MOST <= raw <= MOST or (whole and raw != int(raw)):  # NaN is neither
        return None
    return int(raw) if whole else float(raw)


def shown(number: float) -> str:
    """A number for people: without a fraction of nothing, with thousands apart."""
    return f"{int(number):,}" if number == int(number) else f"{number:g}"


def amount(number: float, unit: str) -> str:
    """A number with its unit, sizes as powers of 1024: ``8 MiB``, ``30 s``, ``128 connects``."""
    if unit == "bytes":
        for size, name in ((KIB * MIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
            if number and number % size == 0:
                return f"{shown(number // size)} {name}"
    return f"{shown(number)} {'s' if unit == 'seconds' else unit}"


def table() -> Iterator[str]:
    """All limits as the lines of a Markdown table."""
    yield "| limit | default | from | to | why |"
    yield "|---|---|---|---|---|"
    for name, field in FIELDS.items():
        numbers = (field.metadata[key] for key in ("default", "least", "most"))
        columns = " | ".join(amount(number, field.metadata["unit"]) for number in numbers)
        yield f"| `{name}` | {columns} | {field.metadata['reason']} |"


if __name__ == "__main__":
    print("\n".join(table()))
