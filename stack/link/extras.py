"""Packages that only one kind of link needs: installed by an extra, imported when that link is made."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType


def need(module: str, extra: str) -> ModuleType:
    """Import `module`. Raises ImportError that says which extra brings it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a package's own imports will lose one day is not its user's affair
            return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{module} cannot be imported ({error}); it comes with: pip install "netbridge[{extra}]"', name=error.name
        ) from error
