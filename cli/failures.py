"""Any exception as three sentences and an exit code."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Sequence

import cyclopts

from netbridge.bridge.errors import BridgeError, UsageError
from netbridge.bridge.shortage import refused

from .text import clean


def told(error: BaseException) -> BridgeError:
    """The failure as it is told to the user; a BridgeError is one already."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, BridgeError):
        return error
    if isinstance(error, (OSError, RuntimeError)) and (failure := refused(error)):
        return failure
    text = str(error).strip() or "No reason was given."
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    if isinstance(error, cyclopts.UnusedCliTokensError):
        words = " ".join(error.unused_tokens or ())
        return UsageError(
            "The command line could not be understood.", f"Nothing is expected where {words!r} stands.",
            f"A COMMAND stands behind --, as in `netbridge up TARGET -- {words}`",
        )
    if isinstance(error, cyclopts.CycloptsError):
        return UsageError("The command line could not be understood.", text, "See `netbridge --help`.")
    return BridgeError(
        f"netbridge failed in a way it should not: {type(error).__name__}.", text,
        "Run it again with --trace-level trace and report what it prints.",
    )


def traced(error: BaseException, form: str) -> list[str]:
    """Where it failed, line by line, for `--trace-level trace`."""
    lines = [line for text in traceback.format_exception(error) for line in text.splitlines()]
    lines = [clean(line) for line in lines]
    if form != "json":
        return lines
    return [json.dumps({"time": round(time.time(), 3), "event": "traceback", "line": line}) for line in lines]


def peek(words: Sequence[str], option: str) -> str:
    """The value of an option on a command line that could not be parsed, or of its variable; empty without."""
    name = f"--{option}"
    for place, word in enumerate(words):
        if word == name:
            return next(iter(words[place + 1:]), "")
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
        if word == "--":
            break
    return os.environ.get("NETBRIDGE_" + option.replace("-", "_").upper(), "")
