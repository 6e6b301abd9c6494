"""What a service runs: this very program with `up TARGET` and the options that were given to `service install`.

A service starts in another place than the shell it was made in: in the home folder, with hardly an environment. So
paths are made absolute, and PATH (where ssh and gh are found) and the NETBRIDGE_ variables are taken along.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cyclopts

from netbridge.bridge import values
from netbridge.bridge.errors import NotPermittedError, UsageError
from netbridge.bridge.options import PREFIX, Options, key_of
from netbridge.bridge.transport.target import FORMS, SandboxTarget, parse_target
from netbridge.bridge.user import User, in_person

from .itself import program
from .up import gathered, joined, up

LONGEST_NAME = 60
"""Characters of a target in a file's name, whose limit is 255 bytes."""
_SETTINGS = {field.name: field for field in dataclasses.fields(Options) if "convert" in field.metadata}
_PATHS = {"config", *(key_of(field) for field in _SETTINGS.values() if field.metadata["convert"] is values.path)}
_NOT_TAKEN = {"target", "gui"}
"""Said by the command line itself."""


@dataclass(frozen=True, slots=True)
class Job:
    """One service."""

    name: str
    """netbridge-…, of letters that a file and a service manager take."""
    target: str
    """TARGET as `up` gets it."""
    words: tuple[str, ...]
    """The command line, beginning with an absolute path."""
    environment: Mapping[str, str]


def job(words: Sequence[str], user: User) -> Job:
    """The service that runs `up` with these words. Raises UsageError, NotPermittedError, cyclopts.CycloptsError."""
    parser = cyclopts.App(help_flags=(), version_flags=())
    parser.default(up)
    _, bound, _ = parser.parse_args(joined(words), exit_on_error=False, print_error=False)
    given = {name: value for name, value in bound.arguments.items() if value is not None}
    options = gathered(given, user)
    target = options.target
    if options.take_over:
        raise UsageError(
            "A service cannot take a bridge over.",
            "It is started again when another machine took it back, and two of them would go on like that for ever.",
            "Leave --take-over out: the service waits until the target is free.",
        )
    if isinstance(parse_target(target), SandboxTarget):
        raise UsageError(
            "The sandbox cannot be a service.", "It lives as long as the shell or the COMMAND in it.", FORMS
        )
    itself = program()
    with in_person(user):
        runs = os.access(itself[0], os.X_OK)
    if not runs:
        raise NotPermittedError(
            f"{user.name} may not run {itself[0]}.", "The service is to run it as that user.",
            "Install netbridge where that user can reach it.",
        )
    line = (*itself, "up", target, "--gui=false", *_flags(given))
    return Job(service_name(target), target, line, _environment(user.environment))


def service_name(target: str) -> str:
    """The name of the service for `target`: the target itself where it is one word, else with a mark of its own."""
    word = re.sub(r"[^A-Za-z0-9_.-]+", "-", target)[:LONGEST_NAME].strip("-.")
    mark = "" if word == target else f"-{hashlib.sha256(target.encode(errors='replace')).hexdigest()[:6]}"
    return f"netbridge-{word}{mark}"


def _flags(given: Mapping[str, object]) -> list[str]:
    """Arguments of `up`, by their names there, as words."""
    words = []
    for name, value in given.items():
        setting = _SETTINGS.get(name)
        key = key_of(setting) if setting else name  # config and limit (a setting called limits) are their own flags
        if key in _NOT_TAKEN or key == "codespace":
            continue
        if isinstance(value, bool):
            words.append(f"--{key}" if value else f"--no-{key}")
            continue
        for item in value if isinstance(value, list) else [value]:
            words.append(f"--{key}={_absolute(key, str(item))}")
    return words


def _absolute(key: str, value: str) -> str:
    return os.path.abspath(value) if key in _PATHS else value


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    found = {"PATH": environment["PATH"]} if environment.get("PATH") else {}
    for variable, value in sorted(environment.items()):
        key = variable.removeprefix(PREFIX).replace("_", "-").lower()
        if variable.startswith(PREFIX) and value and key not in _NOT_TAKEN:
            found[variable] = _absolute(key, value)
    return found
