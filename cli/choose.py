"""The dialog of `netbridge up` without a TARGET: a numbered list of codespaces, and a question.

It is held on the terminal itself (/dev/tty), so it works with whatever standard output is, and only when this process
is in the terminal's foreground. Without a terminal nothing is asked, neither a person nor GitHub.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from netbridge.bridge.errors import BridgeError, TargetUnreachableError, UsageError
from netbridge.bridge.transport.gh_codespace import Codespace, argument, find
from netbridge.bridge.transport.target import FORMS, CodespaceTarget, parse_target

TRIES = 5
"""Answers that fit nothing before we give up: who types into the void should hear of it."""


def choose_target() -> str:
    """The name of the codespace a person chose. Raises UsageError without a terminal, or when none was chosen."""
    from netbridge.bridge.transport.ask import ask_now
    from netbridge.bridge.transport.gh import Gh
    from netbridge.bridge.transport.terminal import has_terminal

    from .codespaces import show

    if not has_terminal():
        raise UsageError(
            "No target was named.", "Standard input is no terminal, so there is nobody to choose a codespace.", FORMS
        )
    gh = Gh()
    found = asyncio.run(gh.codespaces())
    if not found:
        raise TargetUnreachableError(
            "There is no codespace to choose.", "This account has none.",
            f"Make one with `gh codespace create`, or name another target. {FORMS}",
        )
    show(found, numbered=True)
    problem = ""
    for _ in range(TRIES):
        answer = ask_now(f"{problem}Which one? (1 to {len(found)} or a name; Enter: 1, q: none) ", echo=True)
        if answer is None or answer.strip().lower() in {"q", "quit"}:
            break
        try:
            return argument(pick(found, answer.strip()))
        except BridgeError as error:
            problem = f"{error.what} "
    raise UsageError("No codespace was chosen.", "The question was not answered.", FORMS)


def named(codespace: str, target: str | None) -> str:
    """The TARGET that `-c NAME` means. Raises UsageError beside another TARGET, and for what is no codespace's name."""
    if target is not None:
        raise UsageError(
            "Two targets were named.", f"-c {codespace!r} names one and {target!r} another.", "Leave one out."
        )
    if not isinstance(parse_target(codespace), CodespaceTarget):
        raise UsageError(f"{codespace!r} is not the name of a codespace.", "It is another kind of target.", FORMS)
    return codespace


def pick(found: Sequence[Codespace], answer: str) -> Codespace:
    """The codespace that an answer means: a number of the list, nothing for the first, else a name. Raises BridgeError.

    A number that is not in the list may begin a name.
    """
    if not answer:
        return found[0]
    if answer.isascii() and answer.isdigit() and len(answer) < 6 and 1 <= int(answer) <= len(found):
        return found[int(answer) - 1]
    return find(found, answer)
