"""Metrics as text: Prometheus' exposition format 0.0.4, and OpenMetrics 1.0.0 for who asks for it.

The two differ in the name of a counter's family (without `_total` in OpenMetrics), in the kind `info`, and in the last
line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(slots=True)
class Family:
    """All samples of one name."""

    name: str
    """Without `_total` or `_info`."""
    kind: str
    """counter, gauge or info."""
    help: str
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)
    """Labels and value."""


def counter(name: str, help: str, value: float, **labels: str) -> Family:
    """A family of one counter."""
    return Family(name, "counter", help, [(labels, value)])


def gauge(name: str, help: str, value: float, **labels: str) -> Family:
    """A family of one gauge."""
    return Family(name, "gauge", help, [(labels, value)])


def text(families: Iterable[Family], *, openmetrics: bool) -> str:
    """The families in one of the two forms."""
    lines: list[str] = []
    for family in families:
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.kind, "")
        kind = family.kind if openmetrics or family.kind != "info" else "gauge"
        about = family.name if openmetrics else name
        lines += (f"# HELP {about} {_escaped(family.help, openmetrics)}", f"# TYPE {about} {kind}")
        for labels, value in family.samples:
            within = ",".join(f'{key}="{_escaped(label, True)}"' for key, label in labels.items())
            lines.append(f"{name}{{{within}}} {value!r}" if within else f"{name} {value!r}")
    if openmetrics:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _escaped(text: str, quotes: bool) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text
