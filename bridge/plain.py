"""Make text that came from elsewhere harmless for a terminal.

Host names, error texts and the last lines of a remote standard error may carry escape sequences that move the cursor,
retitle the window or forge lines. Every control, format (bidirectional overrides, zero-width) and separator character
is shown as its escape instead.

There are three places where such text comes in, and it is cleaned there: a CONTROL message of the agent (`link.py`), a
failure (`errors.py`) and an event (`session.py`). Whoever writes to a terminal cleans his lines once more, for texts
that are neither.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

LINE_MAX = 2000
"""Characters of one remote text; the rest would only push away what matters."""
DEPTH = 32
"""Levels of a value that is looked through; no message has six."""

T = TypeVar("T")


def clean(text: str, most: int = LINE_MAX) -> str:
    """`text` as one line without characters a terminal acts upon, and not longer than so many."""
    if len(text) > most:
        text = text[:most] + "…"
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_SHOWN)


class _Shown(dict[int, str]):
    """How each character is shown, found when it is met: a hostile message has half a million of them."""

    def __missing__(self, number: int) -> str:
        character = chr(number)
        if not character.isprintable():
            character = character.encode("unicode_escape").decode("ascii")
        if number < 0x10000:  # the others are too many to be kept
            self[number] = character
        return character


_SHOWN = _Shown({ord(character): " " for character in "\n\t\r"})


def harmless(value: T, depth: int = DEPTH) -> T:
    """The same with each text in it clean: what JSON gives, tuples and dataclasses. ValueError when it is too deep."""
    return _harmless(value, depth)  # type: ignore[no-any-return]


def _harmless(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        if value.isascii() and value.isprintable() and len(value) <= LINE_MAX:
            return value
        return clean(value)
    if not value or isinstance(value, (int, float)):
        return value
    if not depth:
        raise ValueError("nested too deeply")
    depth -= 1
    if isinstance(value, dict):
        return {_harmless(key, depth): _harmless(it, depth) for key, it in value.items()}
    if isinstance(value, (list, tuple)):
        # what is nothing or a number needs no call: of these there may be many
        made = [it if not it or type(it) is int else _harmless(it, depth) for it in value]
        return made if isinstance(value, list) else tuple(made)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {
            field.name: made for field in dataclasses.fields(value)
            if (made := _harmless(it := getattr(value, field.name), depth)) is not it
        }
        return dataclasses.replace(value, **changed) if changed else value
    return value
