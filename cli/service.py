"""`netbridge service`: a bridge that the system's service manager starts, watches and starts again.

Files are the user's, written with the user's own rights; under sudo that is who called sudo.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from netbridge.bridge.errors import BridgeError, NotPermittedError
from netbridge.bridge.transport.target import CodespaceTarget, parse_target
from netbridge.bridge.user import helper_user, in_person

from .service_job import job, service_name
from .service_manager import Command, ServiceManager, service_manager
from .text import clean

app = cyclopts.App(
    name="service", help="Let the system's service manager keep a bridge running.", help_format="plaintext",
    version_flags=(),
)
LARGEST = 1 << 20
"""Bytes; a larger file is none of ours."""


@app.command(usage="Usage: netbridge service install [--now] TARGET [OPTIONS]")
def install(
    *words: Annotated[str, Parameter(name="TARGET", allow_leading_hyphen=True, help=(
        "What to bridge, and any options of `netbridge up`; the service is run with them."
    ))],
    now: Annotated[bool, Parameter(name="--now", negative=(), help=(
        "Start it as well, where the service manager can be reached."
    ))] = False,
) -> int:
    """Write a service that bridges TARGET, and say how to start it. Repeated, it brings the service up to date."""
    user = helper_user()
    made = job(words, user)
    manager = service_manager(user)
    path, data = manager.file(made.name), manager.text(made)
    with in_person(user), _told(path):
        before = _ours(manager, path)
        if before != data:
            _write(path, data)
    _say(f"{path} is as it should be." if before == data else f"Wrote {path}.")
    commands = manager.starting(made.name, known=before is not None, changed=before != data)
    why = manager.absent() if now else ""
    if now and not why:
        _run(manager, commands)
    else:
        _next(f"The service manager cannot be asked here: {why}." if why else "", commands)
    advice = manager.advice(made.name)
    if isinstance(parse_target(made.target), CodespaceTarget):
        advice.append("A codespace that stops is started again, and paid for, as long as the service runs.")
    for sentence in advice:
        _say(sentence)
    return 0


@app.command
def uninstall(target: str, /) -> int:
    """Stop the service for TARGET and remove it.

    Parameters
    ----------
    target
        TARGET as it was given to `install`, or the service's name as `status` shows it.
    """
    user = helper_user()
    manager = service_manager(user)
    names = (service_name(target), target.removesuffix(manager.suffix))
    for name in dict.fromkeys(name for name in names if name.startswith("netbridge-") and "/" not in name):
        path = manager.file(name)
        with in_person(user), _told(path):
            data = _ours(manager, path)
        if data is None:
            continue
        why = manager.absent()
        if not why:
            _run(manager, manager.stopping(name))
        with in_person(user), _told(path):
            for leftover in (*manager.links(name), path):
                leftover.unlink(missing_ok=True)
        _say(f"Removed {path}.")
        if why:
            _next(f"The service manager cannot be asked here: {why}. A bridge that runs goes on.", [
                Command(("netbridge", "down", manager.target(data))), *manager.forgetting(name),
            ])
        else:
            _run(manager, manager.forgetting(name))
        return 0
    _say(f"There is no service for {clean(target)}.")
    return 0


@app.command
def status(*, json_: Annotated[bool, Parameter(name="--json", negative=())] = False) -> int:
    """Show the services that were installed, and how they are.

    Parameters
    ----------
    json_
        As JSON on standard output.
    """
    user = helper_user()
    manager = service_manager(user)
    found: list[dict[str, Any]] = []
    with in_person(user):
        for path in sorted(manager.folder.glob(f"netbridge-*{manager.suffix}")):
            with contextlib.suppress(OSError, BridgeError):
                if data := _ours(manager, path):
                    found.append({"name": path.name.removesuffix(manager.suffix), "file": str(path),
                                  "target": manager.target(data)})
    why = manager.absent() if found else ""
    if not why:
        for service in found:
            service.update(manager.state(service["name"]))
    if json_:
        print(json.dumps({"services": found}))
        return 0
    for service in found:
        _say(f"{service['name']}: {service['target']}: {_state(service) if not why else 'installed'}")
    if why:
        _say(f"Whether they run is not known, as the service manager cannot be asked here: {why}.")
    if not found:
        _say("No service is installed.")
    return 0


def _state(service: dict[str, Any]) -> str:
    parts = [service["state"], "at each login" if service["enabled"] else "not enabled"]
    if service["pid"]:
        parts.append(f"process {service['pid']}")
    if service["restarts"]:
        parts.append(f"started again {service['restarts']} time{'' if service['restarts'] == 1 else 's'}")
    if service["result"] not in {"", "success"}:
        parts.append(service["result"])
    return ", ".join(parts) + (f": {service['status']}" if service["status"] else "")


def _say(text: str) -> None:
    print(clean(text), file=sys.stderr)


def _run(manager: ServiceManager, commands: list[Command]) -> None:
    for command in commands:
        _say(f"Running {command}")
        manager.run(command)


def _next(why: str, commands: list[Command]) -> None:
    _say(f"{why} Next:".strip())
    for command in commands:
        print(f"  {clean(str(command))}", file=sys.stderr)


def _ours(manager: ServiceManager, path: Path) -> bytes | None:
    """What the file of a service holds; None without one. Raises BridgeError for a file that is not ours, OSError."""
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not manager.target(data):
        raise BridgeError(
            f"{path} was not written by netbridge.", "It does not name the target of a bridge.",
            "Move it away, or remove it.",
        )
    return data


def _write(path: Path, data: bytes) -> None:
    """Put a file in place as a whole, for its owner's eyes: an exec: target may hold what others need not read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".netbridge-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        failure = NotPermittedError if isinstance(error, PermissionError) else BridgeError
        raise failure(
            f"The service {path} cannot be read or written.", f"{error.strerror}.", "Check who owns it and its folder."
        ) from error
