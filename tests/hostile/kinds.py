"""The registry of hostile agents: each has a name, one sentence, what it does, and how it may end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .wire import Wire

Act = Callable[[Wire], None]

BROKE = (1,)
"""The exit code of a session whose agent broke the protocol."""
UNREACHABLE = (3,)
"""The exit code of a session whose target went away, or said nothing."""
DONE = "done"
"""The file by which an agent says that its worst is over."""
LACKS = (5,)
"""The exit code where the target lacks something."""


@dataclass(frozen=True)
class Kind:
    """One hostile agent."""

    name: str
    what: str
    """One sentence."""
    act: Act
    """Does it; afterwards the agent is honest until the session's end."""
    ends: tuple[int, ...] = ()
    """The exit codes of the session; empty: it goes on unharmed."""
    either: bool = False
    """It may also go on."""
    slow: bool = False
    """The session waits for the agent until its patience is over."""
    grace: float = 600.0
    """The bridge's `--grace`."""
    stopped: bool = True
    """Whether the agent confirms the stop, where the session goes on."""


KINDS: dict[str, Kind] = {}


def kind(
    name: str, what: str, *, ends: tuple[int, ...] = (), either: bool = False, slow: bool = False,
    grace: float = 600.0, stopped: bool = True,
) -> Callable[[Act], Act]:
    """Register a kind."""

    def register(act: Act) -> Act:
        assert name not in KINDS, name
        KINDS[name] = Kind(name, what, act, ends, either, slow, grace, stopped)
        return act

    return register
