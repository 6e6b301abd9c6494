"""What a check came to, and what all of them come to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import BridgeError

OK, NOTE, WARNING, FAULT = "ok", "note", "warning", "fault"


@dataclass(frozen=True, slots=True)
class Check:
    """One line."""

    name: str
    """What was looked at, in one or two words."""
    state: str
    """ok; note: nothing is wrong with it; warning: a bridge works, but not as well as it could; fault: none would."""
    said: str
    """What was found. Part of it may come from the target."""
    why: str = ""
    todo: str = ""
    """The mend."""
    exit_code: int = 0
    """Of a fault: that of `up`."""
    place: str = "here"
    """here, or there: on the target."""
    details: dict[str, Any] = field(default_factory=dict)
    """What machines may want to know besides, JSON-able."""


Tell = Callable[[Check], None]
"""Hears of each check as it is done."""


def ok(name: str, said: str, **details: Any) -> Check:
    return Check(name, OK, said, details=details)


def note(name: str, said: str, **details: Any) -> Check:
    return Check(name, NOTE, said, details=details)


def warning(name: str, said: str, why: str = "", todo: str = "", **details: Any) -> Check:
    return Check(name, WARNING, said, why, todo, details=details)


def fault(name: str, error: BridgeError, **details: Any) -> Check:
    """What `up` would end with."""
    return Check(name, FAULT, error.what, error.why, error.todo, error.exit_code, details=details)


def there(check: Check) -> Check:
    """The same, of the target."""
    return dataclasses.replace(check, place="there")


@dataclass(slots=True)
class Report:
    """All checks, in the order in which they were done."""

    target: str
    """Empty: this machine alone."""
    checks: list[Check] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 when a bridge would work, else what `up` would end with: that of the first fault."""
        return next((check.exit_code for check in self.checks if check.state == FAULT), 0)

    def count(self, state: str) -> int:
        return sum(check.state == state for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {"works": self.exit_code == 0, "exit_code": self.exit_code, **dataclasses.asdict(self)}
