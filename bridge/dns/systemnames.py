"""What the local machine's system says about names beyond resolv.conf, and what a bridge makes of it.

systemd-resolved knows domains for each link (:mod:`.linkdomains`), macOS has resolvers for single domains
(:mod:`.scutil`). Each is asked by the program that the system brings for it, and only when something changed: never
while a question waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .own import ZONE
from .resolvconf import MAX_SEARCH

MAX_SUFFIXES = 256
"""Private suffixes a bridge has; systemd-resolved takes as many for one link (LINK_SEARCH_DOMAINS_MAX)."""
PATIENCE = 3.0
"""Seconds for the system's program: a message bus that does not answer is waited for much longer by itself."""
POLLED = sys.platform == "darwin"
"""macOS leaves no file behind that changes with its resolvers, so there they are looked up again and again."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the codespace is told of the local machine's names."""

    suffixes: tuple[str, ...] = ()
    """Names below these are asked here first; lower case, without dots at their ends."""
    search: tuple[str, ...] = ()
    """Suffixes tried for short names here."""

    @property
    def private(self) -> tuple[str, ...]:
        """The suffixes that a person knows: no reverse names, and not the bridge's own."""
        return tuple(each for each in self.suffixes if not each.endswith(".arpa") and each != ZONE)


@dataclass(frozen=True, slots=True)
class DomainResolver:
    """Nameservers for the names of one domain (resolver(5) of macOS)."""

    domain: str
    nameservers: tuple[str, ...]
    """Addresses as text; an IPv6 one may carry a %scope."""
    port: int = 53
    timeout: float | None = None
    """Seconds for each of them, where the system says so."""
    order: int = 0
    """Of resolvers for the same domain the lowest comes first."""


@dataclass(frozen=True, slots=True)
class SystemNames:
    """What the system says."""

    search: tuple[str, ...] = ()
    routing: tuple[str, ...] = ()
    """Domains whose names have nameservers of their own, but which are not tried for short names."""
    resolvers: tuple[DomainResolver, ...] = ()
    """Where a question is to be put by its domain; systemd-resolved does that itself."""

    def resolvers_for(self, name: bytes) -> list[DomainResolver]:
        """Those of the longest domain that holds `name` (wire form, lower case), in their order."""
        best: list[DomainResolver] = []
        for each in self.resolvers:
            if best and len(each.domain) < len(best[0].domain):
                continue
            wire = b"".join(bytes((len(label),)) + label for label in each.domain.encode().split(b".")) + b"\0"
            if name.endswith(wire) and _on_border(name, len(name) - len(wire)):
                best = [*best, each] if best and best[0].domain == each.domain else [each]
        return sorted(best, key=lambda each: each.order)


def _on_border(name: bytes, offset: int) -> bool:
    """Whether a label of `name` begins at `offset`."""
    position = 0
    while position < offset:
        position += name[position] + 1
    return position == offset


def merged(*lists: Iterable[str], most: int = MAX_SEARCH) -> tuple[str, ...]:
    """One list without repetitions, cut at `most`."""
    return tuple(dict.fromkeys(name for each in lists for name in each))[:most]


def clean(name: str) -> str:
    """A domain in lower case without dots at its ends; empty for the root and for what no message can carry."""
    name = name.strip(".").lower()
    labels = name.split(".")
    fits = name.isascii() and name.isprintable() and " " not in name and len(name) <= 253
    return name if fits and all(0 < len(label) <= 63 for label in labels) else ""


async def system_names() -> SystemNames | None:
    """Ask the system; None when it cannot be asked now, and what it said before may still hold."""
    from . import linkdomains, scutil

    if sys.platform == "darwin":
        said = await output(scutil.COMMAND)
        return None if said is None else scutil.parse(said)
    if not os.path.isdir(linkdomains.RUNS):
        return SystemNames()
    said = await output(linkdomains.COMMAND)
    return None if said is None else linkdomains.parse(said)


async def output(command: Sequence[str]) -> str | None:
    """What a program prints; None when it is missing, fails or takes longer than PATIENCE."""
    try:
        program = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"},
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(PATIENCE):
            said, _ = await program.communicate()
    except TimeoutError:
        return None
    finally:
        if program.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                program.kill()
            await program.wait()
    return None if program.returncode else said.decode("utf-8", "replace")
