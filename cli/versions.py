"""`netbridge --version`: the program's own version, Python's, and those of the libraries it uses here."""

from __future__ import annotations

import platform
import re
from importlib import metadata

import netbridge


def versions() -> str:
    """One line each; the first is `netbridge VERSION`."""
    about = f"{platform.python_implementation()}, {platform.system()} {platform.release()} {platform.machine()}"
    lines = [f"netbridge {netbridge.__version__}", f"python {platform.python_version()} ({about})"]
    for name in _libraries():
        try:
            lines.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:  # not for this system, or left out
            lines.append(f"{name} is not there")
    return "\n".join(lines)


def _libraries() -> list[str]:
    """What the installed package says that it needs on this system."""
    try:
        needed = metadata.requires("netbridge") or []
    except metadata.PackageNotFoundError:  # run from its sources
        return []
    found = []
    for requirement in needed:
        wanted, _, condition = requirement.partition(";")
        if "extra" not in condition and _holds(condition):
            found.append(re.split(r"[^A-Za-z0-9._-]", wanted.strip(), maxsplit=1)[0])
    return sorted(found)


def _holds(condition: str) -> bool:
    """The conditions of our own list are about one thing: sys_platform."""
    import sys

    match = re.fullmatch(r"\s*sys_platform\s*(==|!=)\s*['\"](\w+)['\"]\s*", condition)
    return match is None or (sys.platform == match[2]) == (match[1] == "==")
