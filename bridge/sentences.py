"""The sentence beneath each field of a dataclass, for those who read the program's numbers and not its source."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from functools import cache


def sentences(kind: type) -> dict[str, str]:
    """The texts beneath the fields of a dataclass and of those it inherits from, each on one line; empty without one.

    Reads and parses the source: some milliseconds a module, once, so not where packets wait.
    """
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if dataclasses.is_dataclass(each):
            found |= _own(each.__module__, each.__name__)
    return found


@cache
def _own(module: str, name: str) -> dict[str, str]:
    (body,) = (node.body for node in _parsed(module).body if isinstance(node, ast.ClassDef) and node.name == name)
    found: dict[str, str] = {}
    for field, text in zip(body, body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            told = text.value.value if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) else ""
            found[field.target.id] = " ".join(str(told).split())
    return found


@cache
def _parsed(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(sys.modules[module]))
