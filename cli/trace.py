"""`netbridge trace`: how one destination travels, on one screen, and the first thing that stops it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from netbridge.bridge.errors import BridgeError, TargetUnreachableError

from .text import clean

INTERRUPTED = 128 + signal.SIGINT
"""Exit status after ctrl-c, as a shell has it: nobody knows whether it works."""
PATIENCE = 40.0
"""Seconds a bridge may take: a dead resolver and a black hole on both sides take some twenty."""


def trace(
    place: str, /, *,
    target: Annotated[str | None, Parameter(
        name="--target", metavar="TARGET",
        help="TARGET of the running bridge, or its number; not needed when only one runs.")] = None,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Show how one destination travels: name, route, policy, resolver, connect; exit status 1 when it would not work.

    Without a bridge, what this machine alone can say.

    Parameters
    ----------
    place
        HOST[:PORT]: a name (short ones too), an address, [IPv6]:port, or a URL. Without a port nothing is connected.
    json_
        Everything that was found out, as JSON on standard output.
    """
    from netbridge.bridge.trace.place import parse_place

    wanted = parse_place(place)
    if not json_:
        print("tracing; where nobody answers it takes some twenty seconds …", file=sys.stderr, flush=True)
    try:
        found = _ask(wanted.host, wanted.port, target)
    except KeyboardInterrupt:
        return INTERRUPTED
    if "error" in found:
        raise BridgeError("The bridge could not trace it.", f"{found['error']}.", "See `netbridge status`.")
    if json_:
        print(json.dumps(found))
    else:
        for line in lines(found):
            print(line, file=sys.stderr)
    if problem := found["problem"]:
        raise BridgeError(problem["what"], problem["why"], problem["todo"])
    return 0


def _ask(host: str, port: int, target: str | None) -> dict[str, Any]:
    """The trace as JSON, from the bridge that is meant or, where there is none, made here."""
    from netbridge.bridge import control, runtime
    from netbridge.bridge.back.door import find

    folders = runtime.folders()
    try:
        folder, number = find(folders, target)
        found = control.ask(folder, number, "trace", timeout=PATIENCE, host=host, port=port)
        if found.get("bridge"):
            found["bridge"]["number"] = number
        return found
    except TargetUnreachableError as error:
        if error.__cause__ is not None:  # a bridge that does not answer is not none
            raise
        return _alone(host, port, error)
    finally:
        for each in folders:
            each.close()


def _alone(host: str, port: int, why: BridgeError) -> dict[str, Any]:
    from netbridge.bridge.options import Options, default_config
    from netbridge.bridge.trace.place import Place
    from netbridge.bridge.trace.run import trace_alone
    from netbridge.bridge.user import helper_user

    user = helper_user()
    options = Options.gather({}, user.environment, default_config=default_config(user))
    return asyncio.run(trace_alone(Place(host, port), options, reason=why)).as_json()


# --- for people ---------------------------------------------------------------------------------------------------


def lines(trace: dict[str, Any]) -> list[str]:
    """The screen. Part of it was written by the target, so every line is cleaned."""
    port = f" port {trace['port']}" if trace["port"] else ""
    bridge = trace["bridge"]
    head = f"by the bridge to {bridge['target']} ({bridge['state']})" if bridge else "no bridge is running"
    found = [f"{trace['host']}{port}: {head}"]
    for key, title in (("there", "name over there"), ("here", "name here")):
        if trace[key] is not None and trace[key]["who"] != "literal":
            found += ["", title, *_names(trace[key])]
    for target in trace["targets"]:
        found += ["", *_target(target, trace)]
    found.append("")
    if trace["works"]:
        found.append("It works." if trace["port"] else "It would travel so; name a port to try it.")
    return [clean(line) for line in found]


_WHO = {
    "hosts": "by the hosts file", "own": "by the target's own nameserver",
    "bridge": "by the bridge", "here": "by nameserver", "system": "by the system's name service",
}


def _names(names: dict[str, Any]) -> list[str]:
    took = f", {_milliseconds(names['seconds'])}"
    if names["addresses"]:
        server = f" {names['server']}" if names["server"] not in {"", "hosts", "system"} else ""
        full = f"{names['name']}: " if names["name"] else ""
        who = _WHO.get(names["who"], "by whom, nobody says")
        found = [f"  {full}{', '.join(names['addresses'])} ({who}{server}{took})"]
    else:
        found = [f"  nothing: {names['error'] or 'it does not resolve'}{took}"]
    for answer in names["answers"]:
        if names["name"] not in {"", answer["name"]}:
            continue  # what a short name stood for in vain is left to --json
        who = {"own": "own nameserver", "bridge": "bridge", "here": "asked"}[answer["who"]]
        server = f" {answer['server']}" if answer["server"] else ""
        says = ", ".join(answer["addresses"]) or _empty(answer)
        found.append(f"    {who}{server}, {answer['name']}: {says} ({_milliseconds(answer['seconds'])})")
    return found


def _empty(answer: dict[str, Any]) -> str:
    if answer["rcode"] == "NOERROR":
        return "no such record"
    return str(answer["rcode"] or answer["error"] or "nothing")


def _target(target: dict[str, Any], trace: dict[str, Any]) -> list[str]:
    alias = f", which stands for {target['final']}" if target["final"] != target["address"] else ""
    only = "" if trace["there"] is None or "there" in target["seen"] else " (only here)"
    found = [f"{target['address']}{alias}{only}"]
    if (way := target["way_there"]) is not None:
        found.append(f"  route there   {_way(way)}")
    if target["connect_there"] is not None:
        found.append(f"  from there    {_connect(target['connect_there'])}")
    found.append(f"  captured      {_captured(target['captured'])}")
    if target["captured"]["state"] == "never":
        return found
    found.append("  policy        " + ("allowed" if target["allowed"] else target["rule"]))
    if target["way_here"] is not None:
        found.append(f"  route here    {_way(target['way_here'])}")
    if target["connect_here"] is not None:
        found.append(f"  from here     {_connect(target['connect_here'])}")
    return found


def _captured(captured: dict[str, Any]) -> str:
    network = f"{captured['network']}: " if captured["network"] else ""
    because = f"{network}{captured['reason']}"
    match captured["state"]:
        case "captured":
            return f"yes, by {captured['network']} ({captured['reason']})"
        case "wanted":
            return f"it would be, by {captured['network']} ({captured['reason']})"
        case "overlap":
            return f"no, it overlaps a network over there ({because})"
        case "never":
            return f"never ({because})"
        case "excluded" | "left out":
            return f"no, {captured['state']} ({because})"
    return f"no ({because})"


def _way(way: dict[str, Any]) -> str:
    if way["error"]:
        return f"none: {way['error']}"
    words = (("on", "interface"), ("by", "gateway"), ("from", "source"))
    return " ".join(part for part in (way["route"], *(f"{word} {way[key]}" for word, key in words if way[key])) if part)


def _connect(connect: dict[str, Any]) -> str:
    words = {"": "connected", "ECONNREFUSED": "refused", "ETIMEDOUT": "no answer"}
    said = words.get(connect["code"]) or connect["error"] or connect["code"]
    return f"{said} ({_milliseconds(connect['seconds'])})"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
