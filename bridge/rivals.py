"""Other bridges that the target has already: whose they are, and whether they give way to a new one.

A target has one bridge at a time: its names and routes can follow one machine only. What this machine left there when
it was killed gives way by itself; a bridge of this machine that lives is named; another machine's is ended only when
the user says so.
"""

from __future__ import annotations

from collections.abc import Container

from .errors import BridgeError
from .startfaults import printable


def to_replace(
    bridges: object, *, machine: str, living: Container[str], take_over: bool, target: str,
) -> list[str]:
    """The sessions that have to end first, from `bridges` of the agent's facts (untrusted).

    `living`: the sessions of bridges that run on this machine. Raises BridgeError when one of them is in the way.
    """
    found = []
    for bridge in bridges if isinstance(bridges, list) else ():
        if not isinstance(bridge, dict) or not isinstance(bridge.get("session"), str):
            continue
        session, theirs = bridge["session"], bridge.get("machine")
        theirs = theirs if isinstance(theirs, dict) else {}
        if session in living:
            raise BridgeError(
                f"This machine bridges {target} already.", "A target has one bridge at a time.",
                "See it with `netbridge status`, or end it with `netbridge down`.",
            )
        if theirs.get("id") != machine and not take_over:
            who = f"{printable(theirs.get('user'))} at {printable(theirs.get('name'))}"
            state = "" if bridge.get("attached") else " (its connection is down at present)"
            raise BridgeError(
                f"{target} is bridged by {who} already{state}.", "A target has one bridge at a time.",
                "End it there (`netbridge down`), or say --take-over to end it from here.",
            )
        found.append(session)
    return found
