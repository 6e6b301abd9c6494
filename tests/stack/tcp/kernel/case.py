"""A step that two hosts answered differently, and the form of a rule that explains it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .script import Calls, Says, Seen, Step


@dataclass(frozen=True, slots=True)
class Case:
    """A step that was answered in two ways."""

    state: str
    """The connection's before it."""
    closed: bool
    """The application had closed it."""
    step: Step
    stamped: bool
    """Timestamps were agreed on."""
    old_window: bool
    """A segment showed another window than those before, whose sequence numbers are higher, or without its stamp."""
    linux: Seen
    ours: Seen

    def says(self, flags: int, *, without: int = 0) -> bool:
        """Whether it is a segment with these flags and without those."""
        return isinstance(self.step, Says) and self.step.flags & (flags | without) == flags

    def calls(self, what: str) -> bool:
        """Whether it is this call."""
        return isinstance(self.step, Calls) and self.step.what == what

    @property
    def ack(self) -> int:
        """The segment's acknowledgement number."""
        return self.step.ack if isinstance(self.step, Says) else 0

    @property
    def length(self) -> int:
        """Payload of the segment."""
        return self.step.length if isinstance(self.step, Says) else 0

    def same_but(self, **fields: object) -> bool:
        """Whether the answers are equal once these fields of Linux's are put into ours."""
        return replace(self.ours, **{name: getattr(self.linux, name) for name in fields}) == self.linux


@dataclass(frozen=True, slots=True)
class Rule:
    """An accepted difference."""

    name: str
    why: str
    explains: Callable[[Case], bool]
    lasting: bool = False
    """Both hold something else from then on: what comes after cannot be compared."""
