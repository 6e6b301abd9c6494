"""Codespaces as `gh codespace list --json` tells them, and which one a person means.

Everything in the list was written elsewhere: display name, branch and repository by whoever made the codespace, the
rest by the service. So a text is only compared and shown; the one that goes into an argument list, the name, must
first pass `argument`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import BridgeError, TargetUnreachableError, UsageError
from ..plain import clean

FIELDS = (
    "name", "displayName", "owner", "repository", "state", "gitStatus", "createdAt", "lastUsedAt", "machineName",
)  # fmt: skip
"""What is asked for; gh 2.13 knows all of them."""

RUNNING = "Available"
LOST_STATES = frozenset({"Archived", "Deleted", "Exporting", "Failed", "Moved", "Unavailable"})
"""States from which no start leads on. Any other one passes by itself (Starting, Rebuilding) or by a start."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,99}\Z")
"""What a codespace's name is made of: nothing that a shell, an option parser or ssh's %-tokens could read otherwise."""
_NAMED = 8
"""Codespaces named in an error; more would push away what matters."""


@dataclass(frozen=True, slots=True)
class Codespace:
    """One codespace. All texts are untrusted."""

    name: str
    """Unique, and what gh is told."""
    display_name: str
    """What a person called it; need not be unique, may be empty."""
    owner: str
    repository: str
    """owner/name."""
    branch: str
    """Checked out now; a * follows when something is not committed or not pushed."""
    state: str
    """Available, Shutdown, Starting, Rebuilding and so on."""
    created_at: str
    """RFC 3339."""
    last_used_at: str
    """RFC 3339."""
    machine: str

    @property
    def running(self) -> bool:
        return self.state == RUNNING

    @property
    def label(self) -> str:
        """How it is called in a sentence: harmless for a terminal, not for an argument list."""
        shown = clean(self.display_name)
        return f"{shown} ({clean(self.name)})" if shown and shown != self.name else clean(self.name)


def parse_list(text: bytes) -> list[Codespace]:
    """What gh printed. Raises BridgeError when it is no list of codespaces."""
    try:
        items = json.loads(text.decode("utf-8", "replace") or "[]")
        if not isinstance(items, list):
            raise TypeError("it is no list")
        found = [_codespace(item) for item in items]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BridgeError(
            "gh's list of codespaces is not understood.", f"{clean(str(error))[:200]}.",
            "See what `gh codespace list --json name` prints.",
        ) from None
    # Running ones first, and of these the one used last: what a person most likely wants stands on top.
    found.sort(key=lambda it: it.last_used_at, reverse=True)
    found.sort(key=lambda it: not it.running)
    return found


def _codespace(item: dict[str, Any]) -> Codespace:
    def text(key: str) -> str:
        value = item.get(key)
        return value if isinstance(value, str) else ""

    git = item.get("gitStatus")
    git = git if isinstance(git, dict) else {}
    branch = git.get("ref")
    changed = bool(git.get("hasUncommittedChanges") or git.get("hasUnpushedChanges"))
    return Codespace(
        name=text("name"), display_name=text("displayName"), owner=text("owner"), repository=text("repository"),
        branch=f"{branch if isinstance(branch, str) else ''}{'*' if changed else ''}", state=text("state"),
        created_at=text("createdAt"), last_used_at=text("lastUsedAt"), machine=text("machineName"),
    )


def find(codespaces: Sequence[Codespace], wanted: str) -> Codespace:
    """The codespace called `wanted`: its name, its display name, or the beginning of either where only one fits.

    Raises TargetUnreachableError when there is none, UsageError when several fit.
    """
    for codespace in codespaces:
        if codespace.name == wanted:
            return codespace
    fitting = [it for it in codespaces if it.display_name == wanted]
    if not fitting:
        beginning = wanted.casefold()
        fitting = [
            it for it in codespaces
            if it.name.casefold().startswith(beginning) or it.display_name.casefold().startswith(beginning)
        ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(
            f"Several codespaces are called {clean(wanted)}.", f"They are {_named(fitting)}.",
            "Name one by more of its name.",
        )
    raise TargetUnreachableError(
        f"There is no codespace {clean(wanted)}.",
        f"There are {_named(codespaces)}." if codespaces else "This account has none.",
        "See `netbridge list`." if codespaces else "Make one with `gh codespace create`.",
    )


def argument(codespace: Codespace) -> str:
    """Its name, fit for an argument list. Raises BridgeError where it is not."""
    if not _NAME.match(codespace.name):
        raise BridgeError(
            f"The codespace {codespace.label[:200]} is refused.",
            "Its name holds characters that names of codespaces do not have.", "Choose another one.",
        )
    return codespace.name


def _named(codespaces: Sequence[Codespace]) -> str:
    names = [it.label[:120] for it in codespaces[:_NAMED]]
    more = len(codespaces) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
