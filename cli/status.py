"""`netbridge status` and `netbridge down`: ask the running bridges of this user."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from netbridge.bridge.errors import BridgeError, TargetUnreachableError, UsageError

from . import render
from .text import clean

STOP_SECONDS = 10.0
"""A bridge stops within 5 s; twice that is a bridge that hangs."""


def status(*, json_: Annotated[bool, Parameter(name="--json", negative=())] = False) -> int:
    """Show running bridges, their flows and counters.

    Parameters
    ----------
    json_
        Everything there is to know, as JSON on standard output.
    """
    from netbridge.bridge import control, runtime

    found: list[dict[str, Any]] = []
    for folder in runtime.folders():
        with folder:
            found += control.statuses(folder)
    if json_:
        print(json.dumps({"bridges": found}))
        return 0
    for bridge in found:
        for line in render.state(bridge):
            print(line, file=sys.stderr)
    if not found:
        print("No bridge is running.", file=sys.stderr)
    return 0


def down(target: str | None = None, /, *, all_: Annotated[bool, Parameter(name="--all", negative=())] = False) -> int:
    """Stop running bridges and wait until they are gone.

    Parameters
    ----------
    target
        TARGET of the bridge, as it was given to `up`, or its number. Not needed when only one runs.
    all_
        Stop all of them.
    """
    from netbridge.bridge import control, runtime

    if target and all_:
        raise UsageError("TARGET and --all contradict each other.", "--all stops every bridge.", "Leave one out.")
    folders = runtime.folders()
    try:
        running = [(folder, bridge) for folder in folders for bridge in control.statuses(folder)]
        chosen = [
            (folder, bridge) for folder, bridge in running
            if target is None or target in {bridge.get("target"), str(bridge["number"])}
        ]
        if not chosen and not all_:
            names = ", ".join(str(bridge.get("target", bridge["number"])) for _, bridge in running) or "none"
            what = f"No bridge to {target} is running." if target else "No bridge is running."
            raise TargetUnreachableError(what, f"Running: {names}.", "See netbridge status.")
        if target is None and not all_ and len(chosen) > 1:
            names = ", ".join(str(bridge.get("target", bridge["number"])) for _, bridge in running)
            raise UsageError(f"{len(chosen)} bridges are running.", f"They are {names}.", "Name one, or stop --all.")
        failed: BridgeError | None = None
        for folder, bridge in chosen:
            try:
                control.ask(folder, bridge["number"], "stop", until_gone=STOP_SECONDS)
                print(clean(f"Stopped the bridge to {bridge.get('target', bridge['number'])}."), file=sys.stderr)
            except BridgeError as error:
                failed = error
        if failed:
            raise failed
    finally:
        for folder in folders:
            folder.close()
    return 0
