"""Both hosts side by side, step by step, until they differ for good."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from .accepted import explanation
from .case import Case, Past, Rule
from .host import NOT_OPEN
from .linux_host import Kernel, LinuxHost
from .script import Says, Seen, Step
from .stack_host import StackHost
from .wire import SYN

TRIES = 5


@dataclass
class Told:
    """What came of one script."""

    log: list[str] = field(default_factory=list)
    compared: int = 0
    """Steps whose answers were compared."""
    rules: list[Rule] = field(default_factory=list)
    """Those that explained a difference."""
    unexplained: bool = False

    def __str__(self) -> str:
        return "\n".join(["", *self.log])


class Late(Exception):
    """The kernel's timers may have come in between."""


class Busy(AssertionError):
    """This machine has no time for it."""


def tell(kernel: Kernel, version: int, steps: Callable[[], Iterable[tuple[str, Step]]]) -> Told:
    """Tell both; inside an event loop. `steps` is called for each try, as a machine may be too busy for one.

    A difference after which nothing can be compared, as only one of them still has the connection, is the end.
    """
    for _ in range(TRIES):
        try:
            return _tell(kernel, version, steps())
        except Late:
            continue
    raise Busy(f"this machine is too busy: in {TRIES} runs timers may have come in between")


def _tell(kernel: Kernel, version: int, steps: Iterable[tuple[str, Step]]) -> Told:
    told = Told()
    linux, ours = LinuxHost(kernel, version), StackHost(version)
    state, past = "CLOSED", Past()
    acks: list[int | None] = [None, None]
    try:
        for line, step in steps:
            theirs, mine = _unhurried(linux.take(step), step, state), ours.take(step)
            if linux.late:
                raise Late
            told.compared += 1
            past.note(step, theirs)
            if theirs == mine:
                told.log.append(f"{line:<34} {theirs}")
            else:
                rule = explanation(Case(state, step, past, theirs, mine))
                told.log += [f"{line:<34} Linux {theirs}", f"{'':34} we    {mine}"]
                if rule is None:
                    told.unexplained = True
                    return told
                told.log.append(f"{'':34} accepted: {rule.name}")
                told.rules.append(rule)
            acks = [_last_ack(theirs, acks[0]), _last_ack(mine, acks[1])]
            if acks[0] != acks[1] or not _alike(theirs, mine) or any(rule.lasting for rule in told.rules):
                return told
            state = theirs.state
        return told
    finally:
        linux.end()
        ours.end()


def _unhurried(seen: Seen, step: Step, state: str) -> Seen:
    """Without the SYN or SYN-ACK that Linux sends again two ticks of its clock after an unacceptable ACK."""
    if state not in NOT_OPEN or (isinstance(step, Says) and step.flags & SYN):
        hurried = {"S"} if state == "SYN-SENT" else set()
    else:
        hurried = {"S", "SA"}
    return replace(seen, replies=tuple(reply for reply in seen.replies if reply.flags not in hurried))


def _last_ack(seen: Seen, before: int | None) -> int | None:
    return next((reply.ack for reply in reversed(seen.replies) if reply.ack is not None), before)


def _alike(one: Seen, other: Seen) -> bool:
    """Whether both hosts stand alike, whatever they said."""
    return replace(one, replies=()) == replace(other, replies=()) and (
        sum(len(reply.payload) for reply in one.replies) == sum(len(reply.payload) for reply in other.replies)
    )
