"""`netbridge status` and `netbridge down`: ask the running bridges of this user."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

from cyclopts import Parameter

from netbridge.bridge.errors import BridgeError, TargetUnreachableError, UsageError

from . import render, tables
from .text import clean

STOP_SECONDS = 10.0
"""A bridge stops within 5 s; twice that is a bridge that hangs."""


def status(
    target: str | None = None, /, *,
    flows: Annotated[bool, Parameter(name="--flows", negative=(), help="Show each flow.")] = False,
    json_: Annotated[bool, Parameter(name="--json", negative=(), help=(
        "Everything there is to know, as JSON on standard output."
    ))] = False,
    watch: Annotated[bool, Parameter(name=["--watch", "-w"], negative=(), help=(
        "Show it anew every second, until ctrl-c, with what is carried by the second."
    ))] = False,
) -> int:
    """Show running bridges and what they carry.

    Parameters
    ----------
    target
        Only the bridge to this TARGET, or of this number.
    """
    from .watching import watch as watched

    watcher = _Watcher(target, flows=flows, as_json=json_)
    if watch:
        watched(watcher.again)
        return 0
    found = watcher.look()
    if target is not None and not found:
        raise TargetUnreachableError(
            f"No bridge to {target} is running.", "None of the running ones is it.", "See `netbridge status`.")
    if not found and not json_:
        print("No bridge is running.", file=sys.stderr)
        return 0
    for line in watcher.shown(found):
        print(line)
    return 0


class _Watcher:
    """What `status` shows, once or again and again."""

    def __init__(self, target: str | None, *, flows: bool, as_json: bool) -> None:
        self._target = target
        self._flows = flows
        self._as_json = as_json
        self._before: dict[int, tuple[float, float, float]] = {}
        """By number: when, and the bytes each way."""

    def look(self) -> list[dict[str, Any]]:
        """The state of the bridges that are meant."""
        from netbridge.bridge import control, runtime

        found: list[dict[str, Any]] = []
        most = None if self._flows or self._as_json else 0
        for folder in runtime.folders():
            with folder:
                found += control.statuses(folder, flows=most)
        return [
            bridge for bridge in found
            if self._target is None or self._target in {bridge.get("target"), str(bridge["number"])}
        ]

    def shown(self, found: list[dict[str, Any]], rates: tables.Rates | None = None) -> list[str]:
        """As lines."""
        if self._as_json:
            return [json.dumps({"bridges": found})]
        lines = tables.bridges(found, rates)
        for bridge in found:
            lines += ["", *render.state(bridge)]
            if self._flows and (table := tables.flows(bridge)):
                lines += ["", *(f"  {line}" for line in table)]
        return lines

    def again(self) -> list[str]:
        """The same with what was carried by the second since the last time; on no terminal it has a time."""
        found, now = self.look(), time.monotonic()
        rates: dict[int, tuple[float, float]] = {}
        for bridge in found:
            tcp = bridge.get("counters", {}).get("tcp", {})
            number, sums = bridge["number"], (tcp.get("bytes_in", 0), tcp.get("bytes_out", 0))
            if before := self._before.get(number):
                seconds = max(now - before[0], 0.001)
                rates[number] = max(0.0, sums[0] - before[1]) / seconds, max(0.0, sums[1] - before[2]) / seconds
            self._before[number] = (now, *sums)
        if self._as_json:
            return self.shown(found)
        at = time.strftime("%Y-%m-%d %H:%M:%S")
        return [f"{at}  ctrl-c ends it", "", *(self.shown(found, rates) if found else ["No bridge is running."]), ""]


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
            names = ", ".join(str(bridge.get("target", bridge["number"])) for _, bridge in running)
            what = f"No bridge to {target} is running." if target else "No bridge is running."
            why = f"Running: {names}." if names else "You have started none, or it has ended."
            raise TargetUnreachableError(what, why, "See `netbridge status`.")
        if target is None and not all_ and len(chosen) > 1:
            names = ", ".join(str(bridge.get("target", bridge["number"])) for _, bridge in running)
            raise UsageError(f"{len(chosen)} bridges are running.", f"They are {names}.", "Name one, or say --all.")
        failed: BridgeError | None = None
        for folder, bridge in chosen:
            named = clean(str(bridge.get("target", bridge["number"])))
            try:
                print(f"Stopping the bridge to {named} …", file=sys.stderr, flush=True)
                control.ask(folder, bridge["number"], "stop", until_gone=STOP_SECONDS)
                print(f"Stopped the bridge to {named}.", file=sys.stderr)
            except BridgeError as error:
                failed = error
        if failed:
            raise failed
    finally:
        for folder in folders:
            folder.close()
    return 0
