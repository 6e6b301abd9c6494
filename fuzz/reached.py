"""Which lines of the parsers the named inputs, and what was found beside them, reach.

Counted are statements inside functions: what runs when a module is loaded says nothing about inputs.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from pathlib import Path

from .parsers import ENOUGH, PARSERS
from .target import FOUND, load, read_found

ROOT = Path(__file__).parents[1]
PATIENCE = 15.0
"""Seconds a target for what was found, the smallest first; the named inputs all run."""


def report(names: list[str], *, found: bool = True) -> int:
    """Run these targets and print a line a file; the exit status, 1 if too little is reached."""
    try:
        import coverage
    except ImportError:
        print("coverage is not installed here: which lines are reached is not known")
        return 0
    files = [str(ROOT / path) for path in PARSERS]
    watch = coverage.Coverage(data_file=None, include=files, config_file=False)
    watch.start()
    inputs = sum(_run(name, found=found) for name in names)
    watch.stop()
    print(f"lines of parsers reached by {inputs} inputs{'' if found else ' of the named corpus'}:")
    reached = total = 0
    for path, wanted in PARSERS.items():
        _, statements, _, missing, _ = watch.analysis2(str(ROOT / path))
        inside = set(_inside(path, wanted)) & set(statements)
        missed = sorted(inside & set(missing))
        reached += len(inside) - len(missed)
        total += len(inside)
        lines = f"  missed: {', '.join(map(str, missed))}" if missed else ""
        print(f"{path:32} {len(inside) - len(missed):5} of {len(inside):5}{lines}")
    enough = reached >= ENOUGH * total
    print(f"{'all':32} {reached:5} of {total:5}  {reached / total:.1%}{'' if enough else f', less than {ENOUGH:.0%}'}")
    return 0 if enough else 1


def _run(name: str, *, found: bool) -> int:
    target = load(name)
    named = list(target.corpus().values())
    for data in named:
        target.run(target.repair(data))
        target.run(data)
    count, until = len(named), time.monotonic() + PATIENCE
    for data in read_found(FOUND / name) if found else []:
        if time.monotonic() > until:
            break
        target.run(data)
        count += 1
    return count


def _inside(path: str, wanted: tuple[str, ...]) -> Iterator[int]:
    """The lines of the bodies of a file's functions, or of those that are wanted."""
    tree = ast.parse((ROOT / path).read_text())
    seen: set[str] = set()
    yield from _lines(tree, "", wanted, seen, chosen=not wanted)
    assert seen == set(wanted), f"{path} has no {set(wanted) - seen}"


def _lines(node: ast.AST, prefix: str, wanted: tuple[str, ...], seen: set[str], *, chosen: bool) -> Iterator[int]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = prefix + child.name
            if name in wanted:
                seen.add(name)
            inner = chosen or name in wanted
            if inner and not isinstance(child, ast.ClassDef):
                yield from range(child.body[0].lineno, (child.end_lineno or child.lineno) + 1)
            else:
                yield from _lines(child, name + ".", wanted, seen, chosen=inner)
