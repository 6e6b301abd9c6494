"""Any bytes as a configuration file, a variable or a flag are a UsageError fit for a terminal, or options to be kept.

Options that were understood are written as a configuration file and read from it again as the same ones.
"""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path, PosixPath
from typing import Any

from fuzz.shown import kind, refused_or, text_of
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.options import PREFIX, Options, key_of

SETTINGS = {item.name: item for item in dataclasses.fields(Options) if "convert" in item.metadata}


class _File(PosixPath):
    """A file that is nowhere."""

    content = b""

    def open(self, *_: Any, **__: Any) -> Any:
        return io.BytesIO(self.content)


def run(data: bytes) -> object:
    """A file; or behind "NAME=" a variable; or behind "--NAME=" a flag."""
    text = text_of(data)
    name, equals, value = text.partition("=")
    if equals and name.startswith("--") and (field := name[2:].replace("-", "_")) in SETTINGS:
        return field, _kept(refused_or(lambda text: Options.gather({field: text}, {}), value))
    if equals and name.startswith(PREFIX) and name.isupper() and value and name != f"{PREFIX}CONFIG":
        return name, _kept(refused_or(lambda text: Options.gather({}, {name: text}), value))
    return _kept(_read(data))


def _read(data: bytes) -> Options | str:
    file = _File("config.toml")
    file.content = data
    return refused_or(lambda _: Options.gather({}, {}, config=file), "")


def _kept(found: Options | str) -> object:
    if isinstance(found, str):
        return kind(found)
    changed = as_table(found)
    if any(0xD800 <= ord(letter) < 0xE000 for letter in repr_of(changed)):
        return "no UTF-8"  # a path from the command line may be none, and then no TOML has it
    assert _read(as_toml(changed)) == found
    return tuple(changed)


def as_table(options: Options) -> dict[str, Any]:
    """The settings that are not the default's, by their keys."""
    table: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        value = getattr(options, name)
        if name != "limits" and value != setting.default:
            table[key_of(setting)] = str(value) if isinstance(value, Path) else value
    limits, usual = dataclasses.asdict(options.limits), dataclasses.asdict(Limits())
    if different := {name: value for name, value in limits.items() if value != usual[name]}:
        table["limits"] = different
    return table


def repr_of(table: dict[str, Any]) -> str:
    """All its texts."""
    return "".join(map(str, table.values()))


def as_toml(table: dict[str, Any]) -> bytes:
    """The table as a file; texts are as JSON has them, but for what TOML writes otherwise."""
    lines = [f"{key} = {_toml(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for name, inner in table.items():
        if isinstance(inner, dict):
            lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in inner.items())]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _toml(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
