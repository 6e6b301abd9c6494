"""A target under atheris: inputs that reach new branches are kept, and changed further.

libFuzzer mutates; the changes our own mutator knows (header fields, splices of the corpus) are mixed in, and checksums
are made right as for it. It ends the process itself: what it found lies in the folder, and what it did on stderr.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import FunctionType

from .engine import MAX_LEN, Mutator, broken
from .parsers import watched
from .target import Target, load

TIMEOUT = 20
"""Seconds for one input; the slowest take a few hundred milliseconds."""
MEMORY = 2048
"""MiB."""


def has_atheris() -> bool:
    """Whether atheris is installed."""
    try:
        import atheris  # noqa: F401
    except ImportError:
        return False
    return True


def load_all(names: list[str]) -> list[Target]:
    """These targets, with the branches of what they are about counted.

    Done to the functions of the modules that matter once all is loaded: atheris' import hook knows top-level packages
    only, and takes a minute for the whole of ours.
    """
    import atheris

    targets = [load(name) for name in names]
    prefixes = tuple(watched())
    with open(os.devnull, "w") as quiet, contextlib.redirect_stderr(quiet):
        for name, module in list(sys.modules.items()):
            if name.startswith(prefixes):
                for function in _functions(module, name):
                    atheris.instrument_func(function)
    return targets


def _functions(holder: object, module: str) -> Iterator[FunctionType]:
    """Those that a module defines, and those of its classes."""
    for item in list(vars(holder).values()):
        if isinstance(item, type) and item.__module__ == module and item is not holder:
            yield from _functions(item, module)
        places: tuple[object, ...] = (item,)
        if isinstance(item, property):
            places = item.fget, item.fset
        elif isinstance(item, classmethod | staticmethod):
            places = (item.__func__,)
        for place in places:
            if isinstance(place, FunctionType) and place.__module__ == module:
                yield place


def run(target: Target, *, seconds: float, seed: int, found: Path) -> None:
    """Fuzz a target of `load_all`'s, beginning with what earlier runs left in `found`; never returns."""
    import atheris

    named = list(target.corpus().values())
    mutator = Mutator(f"{seed}/{target.name}", named)

    def once(data: bytes) -> None:
        try:
            target.run(data)
        except Exception as error:
            broken(target, data, error)
            os._exit(1)  # libFuzzer would say it all again

    def change(data: bytes, most: int, number: int) -> bytes:
        # All chance comes from libFuzzer's own, so that the same seed gives the same inputs.
        mutator.random = Random(number)
        new = mutator.changed(data) if number & 1 else atheris.Mutate(data, most)
        return (target.repair(new) if number & 6 else new)[:most]

    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(named):
            Path(corpus, str(number)).write_bytes(data)
        options = {
            "max_total_time": max(round(seconds), 1), "max_len": MAX_LEN, "seed": seed + 1, "timeout": TIMEOUT,
            "rss_limit_mb": MEMORY, "print_final_stats": 1, "reduce_inputs": 0, "artifact_prefix": f"{found}-",
        }  # fmt: skip
        atheris.Setup(
            [sys.argv[0], *(f"-{option}={value}" for option, value in options.items()), str(found), corpus], once,
            custom_mutator=change,
        )
        atheris.Fuzz()
