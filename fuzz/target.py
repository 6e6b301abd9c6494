"""What a fuzz target is, and the corpus of named inputs that goes with it.

A target is a module in `fuzz/targets/` whose docstring's first line states the invariant. It has `run(data)`, which
raises anything at all when the invariant is broken and otherwise returns a label of what happened (which check refused
the input, how it ended); a label never seen before makes the input worth mutating further. It may have
`repair(data)`, which makes checksums right again so that mutations reach what lies behind them.

The corpus is `fuzz/corpus/<target>/<name>.hex`, hexadecimal so that a change shows in a diff; each name says what the
input is about. What `make fuzz` finds is kept beside it, in `build/fuzz/<target>/`, and is where its next run goes on.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import targets

CORPUS = Path(__file__).parent / "corpus"
FOUND = Path(__file__).parents[1] / "build" / "fuzz"


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to fuzz."""

    name: str
    invariant: str
    """What holds for every input."""
    run: Callable[[bytes], object]
    repair: Callable[[bytes], bytes]
    """The input with its checksums made right."""

    def corpus(self) -> dict[str, bytes]:
        """The named inputs."""
        return read_corpus(self.name)


def read_corpus(name: str) -> dict[str, bytes]:
    """The named inputs of a target, without loading it."""
    return {path.stem: bytes.fromhex(path.read_text()) for path in sorted((CORPUS / name).glob("*.hex"))}


def read_found(folder: Path) -> list[bytes]:
    """What earlier runs left in a folder, the smallest first."""
    found = (path.read_bytes() for path in folder.glob("*") if path.is_file())
    return sorted(found, key=lambda data: (len(data), data))


def load(name: str) -> Target:
    """The target of that name; raises ModuleNotFoundError."""
    module = importlib.import_module(f"{targets.__name__}.{name}")
    assert module.__doc__
    return Target(name, module.__doc__.splitlines()[0], module.run, getattr(module, "repair", lambda data: data))


def names() -> list[str]:
    """All targets."""
    return sorted(module.name for module in pkgutil.iter_modules(targets.__path__))
