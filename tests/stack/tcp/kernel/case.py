"""A step that two hosts answered differently, what came before it, and the form of a rule that explains it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from .script import Calls, Says, Seen, Step
from .wire import ACK, ECE, FIN, RST, SYN


@dataclass(slots=True)
class Past:
    """What was said and done in a script so far, its latest step too: what both may keep without a word."""

    closed: bool = False
    """The application had closed it."""
    stamped: bool = False
    """Timestamps were agreed on."""
    old_window: bool = False
    """A segment showed another window than those before, whose sequence numbers are higher, or without its stamp."""
    acked: int = 0
    """What the peer has acknowledged before the latest step, of what was sent."""
    old_ack: bool = False
    """A segment that is wholly old acknowledged something new."""
    wild_early: bool = False
    """Data came before its turn with an acknowledgement of nothing."""
    fins: set[int] = field(default_factory=set)
    """The numbers that FINs bore."""
    echoed: bool = False
    """The peer has told of a mark."""
    _window: int = 65535
    _highest: int = 0
    _next: int = 0
    """What Linux acknowledged last."""
    _sent: int = 0
    """One past what Linux has sent."""
    _says: tuple[int, int] = 0, 0
    """Flags and acknowledgement of the step before."""

    def note(self, step: Step, linux: Seen) -> None:
        """Linux answered a step."""
        flags, ack = self._says
        if flags & ACK and not flags & RST and self.acked < ack <= self._sent:
            self.acked = ack
        self._says = 0, 0
        if isinstance(step, Says):
            self._segment(step)
        else:
            self.closed = self.closed or step.what in {"close", "abort"}
        self.stamped = self.stamped or any(
            reply.flags in {"SA", "SAE", "A"} and any(option[0] == "timestamp" for option in reply.options)
            for reply in linux.replies
        )
        for reply in linux.replies:
            self._next = self._next if reply.ack is None else reply.ack
            if "R" not in reply.flags:
                length = len(reply.payload) + sum(letter in "SF" for letter in reply.flags)
                self._sent = max(self._sent, reply.seq + length)

    def _segment(self, step: Says) -> None:
        self._says = step.flags, step.ack
        plain = step.flags & ACK and not step.flags & (SYN | RST)
        end = step.seq + step.length
        self._highest = max(self._highest, self._next)
        if step.seq < self._highest or (self.stamped and step.stamp is None):
            self.old_window = self.old_window or step.window != self._window
        else:
            self._window = step.window
        self._highest = max(self._highest, step.seq if step.flags & ACK else 0)
        if plain and step.seq < self._next and end <= self._next:
            self.old_ack = self.old_ack or self.acked < step.ack <= self._sent
        if plain and step.ack < 1 and step.length and self._next < step.seq:
            self.wild_early = True
        if plain and step.flags & FIN:
            self.fins.add(end)
        self.echoed = self.echoed or bool(plain and step.flags & ECE)


@dataclass(frozen=True, slots=True)
class Case:
    """A step that was answered in two ways."""

    state: str
    """The connection's before it."""
    step: Step
    past: Past
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

    @property
    def acknowledged(self) -> bool:
        """Whether ours is one acknowledgement without data, be there a mark to tell of or not."""
        return self.ours.flags in (["A"], ["AE"]) and not self.ours.replies[0].payload

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
