"""The two tables: every figure of every path, and what is required of netbridge."""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"

COLUMNS = (
    ("up", "up\nGbit/s", "{:.2f}"),
    ("down", "down\nGbit/s", "{:.2f}"),
    ("http_keepalive", "HTTP keep\nreq/s", "{:,.0f}"),
    ("http_new", "HTTP new\nreq/s", "{:,.0f}"),
    ("rtt_tcp", "TCP rtt\nµs", "{:,.0f}"),
    ("rtt_udp", "UDP rtt\nµs", "{:,.0f}"),
    ("dns", "DNS\nquery/s", "{:,.0f}"),
    ("names", "names\nquery/s", "{:,.0f}"),
    ("names_new", "new names\nquery/s", "{:,.0f}"),
    ("names_ms", "names p50\nms", "{:.2f}"),
    ("cpu_up", "CPU up\ns/GB", "{:.2f}"),
    ("cpu_down", "CPU down\ns/GB", "{:.2f}"),
    ("memory", "peak\nMB", "{:.0f}"),
)

NETBRIDGE = ("netbridge-openssh", "netbridge-asyncssh", "netbridge-sandbox")


def write(result: dict[str, Any], target: Path | None, kind: str = "") -> None:
    """Write a result and say where: to `target`, else beside the earlier ones by `kind` and time."""
    name = f"{kind}{result['machine']['time'].replace(':', '')}.json"
    path = target or RESULTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {os.path.relpath(path)}")


def figure(rows: dict[str, Any], path: str, key: str) -> float | None:
    value = rows.get(path, {}).get(key)
    return value if isinstance(value, (int, float)) else None


def requirements(rows: dict[str, Any], rounds: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Each requirement with what was measured; `met` is None when a figure is missing.

    A ratio is taken within each round, where both were measured within seconds of each other, and its median counts.
    """
    found: list[dict[str, Any]] = []

    def ratio(what: str, path: str, key: str, other: str, least: float, unit: str) -> None:
        pairs = zip(rounds.get(path, []), rounds.get(other, []), strict=False)
        figures = [(figure({"": mine}, "", key), figure({"": theirs}, "", key)) for mine, theirs in pairs]
        ratios = [mine / theirs for mine, theirs in figures if mine is not None and theirs]
        value = statistics.median(ratios) if ratios else None
        found.append(
            {
                "what": what,
                "measured": value,
                "required": f"≥ {least:.2g} {unit}",
                "scale": "ratio",
                "met": None if value is None else value >= least,
            }
        )

    for key in ("up", "down"):
        ratio(f"openssh {key} / raw cat", "netbridge-openssh", key, "raw-cat", 0.7, "×")
    for key in ("up", "down"):
        ratio(f"openssh {key} / sshuttle", "netbridge-openssh", key, "sshuttle", 10, "×")
    for key in ("up", "down"):
        value = figure(rows, "netbridge-sandbox", key)
        found.append(
            {
                "what": f"sandbox {key}",
                "measured": value,
                "required": "≥ 8 Gbit/s",
                "scale": "Gbit/s",
                "met": None if value is None else value >= 8,
            }
        )
    for key in ("up", "down"):
        # the 8 Gbit/s are required of a machine whose veth carries 34; this holds on a slower or busier one as well
        ratio(f"sandbox {key} / kernel", "netbridge-sandbox", key, "kernel", 8 / 34, "×")
    ratio("openssh HTTP keepalive / sshuttle", "netbridge-openssh", "http_keepalive", "sshuttle", 4, "×")
    for what, key in (("names", "names"), ("new names", "names_new")):
        value = figure(rows, "netbridge-openssh", key)
        found.append(
            {
                "what": f"openssh {what}",
                "measured": value,
                "required": "≥ 3,000 queries/s",
                "scale": "queries/s",
                "met": None if value is None else value >= 3000,
            }
        )
    value = figure(rows, "netbridge-openssh", "names_ms")
    found.append(
        {
            "what": "openssh names p50, cached",
            "measured": value,
            "required": "< 1 ms",
            "scale": "ms",
            "met": None if value is None else value < 1,
        }
    )
    for path in NETBRIDGE:
        value = figure(rows, path, "memory")
        found.append(
            {
                "what": f"{path} peak memory",
                "measured": value,
                "required": "< 120 MB",
                "scale": "MB",
                "met": None if value is None else value < 120,
            }
        )
    return found


def grid(lines: list[list[str]]) -> str:
    """Columns padded to their widest word; the first is flush left."""
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            word.ljust(width) if index == 0 else word.rjust(width)
            for index, (word, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def text(result: dict[str, Any]) -> str:
    """Both tables, with a note for every figure that is missing."""
    rows, notes = result["paths"], []

    def note(reason: str) -> str:
        if reason not in notes:
            notes.append(reason)
        return f"({notes.index(reason) + 1})"

    lines = [
        ["", *(title.split("\n")[0] for _key, title, _form in COLUMNS)],
        ["", *(title.split("\n")[1] for _key, title, _form in COLUMNS)],
    ]
    for path, row in rows.items():
        words = [f"{path}"]
        for key, _title, form in COLUMNS:
            value = row.get(key)
            if "failed" in row:
                words.append(note(row["failed"]))
            elif isinstance(value, dict):
                words.append(note(value["reason"]))
            else:
                words.append("–" if value is None else form.format(value))
        lines.append(words)
    machine = result["machine"]
    settings = f"{result['seconds']:g} s each, load before {machine['load']:.1f}"
    out = [
        f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, Python {machine['python']}",
        f"{machine['openssh'].split(',')[0]}, {machine['cipher']}, {settings}",
        "",
        grid(lines),
        "",
    ]
    out += [f"({number}) {reason}" for number, reason in enumerate(notes, 1)]
    table = [["required", "", "measured", ""]]
    for item in result["requirements"]:
        value = item["measured"]
        form = {"ratio": "{:.2f} ×", "Gbit/s": "{:.2f} Gbit/s", "MB": "{:.0f} MB"}.get(
            item["scale"], "{:,.4g} " + item["scale"]
        )
        table.append(
            [
                item["what"],
                item["required"],
                "not measured" if value is None else form.format(value),
                {True: "yes", False: "NO", None: "?"}[item["met"]],
            ]
        )
    return "\n".join([*out, "", grid(table)])
