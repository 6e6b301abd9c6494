"""Why a bridge could not start or ended: one sentence of what, one of why, one of what to do.

The exit codes are part of the command line's interface; a library user reads the class instead.
"""

from __future__ import annotations

from .plain import clean

LONGEST = 4096
"""Characters of a sentence; what it quotes may be a file, or what somebody else said."""


class BridgeError(Exception):
    """A failure told in three sentences. Part of them may be others' words; here they become harmless."""

    exit_code = 1

    def __init__(self, what: str, why: str = "", todo: str = "") -> None:
        what, why, todo = clean(what, LONGEST), clean(why, LONGEST), clean(todo, LONGEST)
        super().__init__(" ".join(part for part in (what, why, todo) if part))
        self.what = what
        self.why = why
        self.todo = todo


class UsageError(BridgeError):
    """The request itself makes no sense (exit code 2)."""

    exit_code = 2


class TargetUnreachableError(BridgeError):
    """The target does not exist, does not answer, or went away (exit code 3)."""

    exit_code = 3


class NotPermittedError(BridgeError):
    """Not logged in, wrong key, unknown host key, no permission (exit code 4)."""

    exit_code = 4


class TargetLacksError(BridgeError):
    """The target lacks python3, a TUN, sudo or a capability (exit code 5)."""

    exit_code = 5


class BridgeGoneError(TargetUnreachableError):
    """The target is there, and what this bridge had there is not any more: nothing can be resumed."""


class TargetStoppedError(BridgeGoneError):
    """The target does not run, or is no more; what a bridge had there is gone with it."""


class TakenOverError(BridgeError):
    """Another machine made the target's bridge its own."""
