"""JSON messages of any shape out of an input's bytes: real ones changed by a program of edits, or the input as it is.

An input that begins with `{`, `[` or `"` is JSON already, a message a line. Any other is a program: the first byte
picks one of the real messages, and each three bytes behind it are an edit: where (a walk through the message), and what
is put there. So mutations stay JSON, and change what the message says instead of its quotes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any

STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 255, 65535, 65536, 1 << 32, -(1 << 63), 1 << 64, 10**40, 0.5, -1.0, 1e308,
    float("inf"), float("nan"), "", "a", "\0", "\x1b]0;owned\x07", "\ud800", "\u202e", "a\nb", "x" * 5000,
    "127.0.0.1", "::1", "0.0.0.0/0", "10.20.0.0/16", "10.20.0.5", "fd00:20::/32", "fe80::1%eth0", "../../etc/passwd",
    "%s%d", "-", "nan", "0", "localhost", [], {}, [[]], [None], [0] * 300, {"a": {"b": []}}, [{}],
    ["10.20.0.0/16"] * 40, {"type": "ready"},
)  # fmt: skip
"""Values that no honest end puts there, and some that one does, elsewhere."""
EDITS = 12


def messages(data: bytes, real: Sequence[dict[str, Any]]) -> list[Any]:
    """The messages of an input; at most a few."""
    if data[:1] in {b"{", b"[", b'"'}:
        return list(_lines(data))
    made: list[Any] = []
    for program in data.split(b"\xff\xff")[:8]:
        if program:
            made.append(edited(copy.deepcopy(real[program[0] % len(real)]), program[1:]))
    return made


def _lines(data: bytes) -> Iterator[Any]:
    for line in data.split(b"\n")[:8]:
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            continue


def edited(message: Any, program: bytes) -> Any:
    """The message after the edits; not always an object any more."""
    for at in range(0, min(len(program) - 2, 3 * EDITS), 3):
        where, how, what = program[at : at + 3]
        message = _edit(message, where, how, STRANGE[what % len(STRANGE)])
    return message


def _edit(value: Any, where: int, how: int, new: Any) -> Any:
    """Walk `where` steps, by turns deeper and further, then replace, remove, add or repeat."""
    if not isinstance(value, dict | list) or not value or where < 2:
        return new
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[where % len(keys)]
    inner = value[key]
    if isinstance(inner, dict | list) and inner and how & 0x80:
        value[key] = _edit(inner, where // len(keys), how << 1 & 0xFF, new)
    elif how & 3 == 0:
        del value[key]
    elif how & 3 == 1 and isinstance(value, list):
        value[key:key] = [new] * (1 + (how >> 4))
    elif how & 3 == 2 and isinstance(value, dict):
        value[str(new)[:40]] = copy.deepcopy(inner)
    else:
        value[key] = copy.deepcopy(new)
    return value
