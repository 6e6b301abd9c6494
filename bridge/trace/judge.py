"""The first thing that stops a destination, in three sentences: what, why, what to do."""

from __future__ import annotations

import ipaddress

from ..errors import BridgeError
from ..hostalias import NAME
from .found import Captured, Connect, Names, Target, Trace

CONNECTS = {
    "ECONNREFUSED": ("refuses port {port}", "It is reached, and nothing listens there (or a firewall refuses).",
                     "See that the service runs and listens on that address."),
    "ETIMEDOUT": ("does not answer on port {port}", "A firewall drops the packets, or nobody is there.",
                  "See whether the address is right and the VPN is up."),
    "EHOSTUNREACH": ("is not reached", "A router, or the last network itself, says that there is no such host.",
                     "See whether the host runs and the VPN is up."),
    "ENETUNREACH": ("is not reached", "There is no route to its network.", "See whether the VPN is up."),
    "EACCES": ("is not reached", "A rule of this machine or of a router forbids it.", "See the firewall here."),
    "EPERM": ("is not reached", "A rule of this machine forbids it.", "See the firewall here."),
}  # fmt: skip
"""What a failed connect means, by the error's name."""

Problem = dict[str, str]


def settle(trace: Trace, *, reason: BridgeError | None = None) -> None:
    """Fill in whether it works and the first thing that stops it.

    `reason`: what is in the way before anything else (no bridge, no connection).
    """
    for target in trace.targets:
        target.problem = _of_target(target, trace)
        target.works = target.problem is None
    # A program tries all addresses of a name; those that only this side knows do not help it.
    usable = [target for target in trace.targets if trace.there is None or "there" in target.seen]
    stops = _names(trace) if not usable else None
    if stops is None and usable and not any(target.works for target in usable):
        stops = usable[0].problem
    if reason is not None and (stops is None or trace.there is not None or not trace.here.addresses):
        stops = said(reason)
    trace.problem = stops
    trace.works = stops is None


def said(error: BridgeError) -> Problem:
    """An error as three texts."""
    return {"what": error.what, "why": error.why, "todo": error.todo}


def _problem(what: str, why: str, todo: str) -> Problem:
    return {"what": what, "why": why, "todo": todo}


def _names(trace: Trace) -> Problem:
    """The host has no address where it is needed."""
    there, here, host = trace.there, trace.here, trace.host
    if there is None or not here.addresses:
        return _problem(
            f"{host} does not resolve{'' if there is None else ', neither over there nor here'}.", _why(there, here),
            "Check the spelling, or give the full name. If a VPN's nameserver knows it: is the VPN up?",
        )
    mode = (trace.bridge or {}).get("dns")
    if mode is False:
        return _problem(
            f"{host} resolves here and not over there.", "This bridge does not answer names for the target.",
            "Start it without --dns off; where that was not asked for, `netbridge status --json` says why it does not.",
        )
    return _problem(
        f"{host} resolves here ({', '.join(here.addresses[:3])}) and not over there.", _why(there, None),
        "A short name wants its full form, or the suffix in --dns-domain; else compare the answers above.",
    )


def _why(there: Names | None, here: Names | None) -> str:
    parts = []
    for side, names in (("Over there", there), ("Here", here)):
        if names is None:
            continue
        words = list(dict.fromkeys(answer.rcode or answer.error for answer in names.answers if not answer.addresses))
        parts.append(f"{side}: {names.error or ', '.join(words) or 'nobody answered'}.")
    return " ".join(parts)


def _of_target(target: Target, trace: Trace) -> Problem | None:
    captured = target.captured
    if captured.state in {"captured", "wanted"}:
        return _denied(target, trace) or _connect(target, target.connect_here, trace.port, "")
    if trace.there is None:
        return _uncaptured(target, captured, trace) if captured.state != "not wanted" else None
    if target.connect_there is not None:
        failed = _connect(target, target.connect_there, trace.port, " over there")
        if failed and captured.state == "not wanted":
            failed["todo"] = f"It does not come through the bridge; say --route {target.address} if it should."
            if target.way_here is not None and target.way_here.error:
                failed["todo"] = "It does not come through the bridge, nor has this machine a way to it: is the VPN up?"
        return failed and (_uncaptured(target, captured, trace) or failed)
    if target.way_there is not None and target.way_there.error:
        failed = _problem(
            f"{target.address} is not reached over there.", f"Its route: {target.way_there.error}.",
            "Capture it with --route if this machine reaches it.",
        )
        return _uncaptured(target, captured, trace) or failed
    return _uncaptured(target, captured, trace) if captured.state in {"excluded", "overlap", "never"} else None


def _denied(target: Target, trace: Trace) -> Problem | None:
    if target.allowed:
        return None
    port = f" port {trace.port}" if trace.port else ""
    rule = "--allow " + (f"[{target.final}]" if ":" in target.final and trace.port else target.final)
    opening = f"Say {rule}{f':{trace.port}' if trace.port else ''} if it is meant to be open."
    if target.rule.startswith("denied by the rule"):
        opening = "Take that rule back (--deny) if it is meant to be open."
    elif "never" in target.rule:
        opening = "There is nothing to open."
    why = target.rule if target.rule.endswith("never forwarded") else f"it is {target.rule}"
    return _problem(f"The policy denies {target.address}{port}.", f"{why[0].upper()}{why[1:]}.", opening)


def _uncaptured(target: Target, captured: Captured, trace: Trace) -> Problem | None:
    """It does not come through the bridge although somebody may want that; None when nobody does."""
    what = f"{target.address} does not come through the bridge."
    host = ipaddress.ip_network(target.address)
    if captured.state == "never":
        if host.is_loopback:
            return _problem(
                f"{target.address} is the codespace's own loopback over there.",
                "What listens on this machine's loopback is not reached by it.",
                f"Say --host-alias --allow 127.0.0.1:{trace.port or 'PORT'}, and use the name {NAME}.",
            )
        return _problem(what, f"{captured.network} is {captured.reason}, which means another thing on every machine.",
                        "Reach the service by another address.")  # fmt: skip
    if captured.state == "excluded":
        return _problem(what, f"{captured.network} is excluded: {captured.reason}.",
                        "Start the bridge without that --exclude." if "--exclude" in captured.reason
                        else f"Say --route {host} if this machine's is meant.")  # fmt: skip
    if captured.state == "overlap":
        return _problem(
            what, f"{captured.network} is captured only where the target has no network of its own: {captured.reason}.",
            f"Reach it by a name that this machine's resolver knows, or say --route {host}, if the one here is meant.",
        )
    if captured.state == "left out":
        return _problem(what, f"The target keeps it to itself: {captured.reason}.", "Use another address of the host.")
    if captured.state == "not wanted":
        if target.way_here is not None and not target.way_here.error and target.connect_here is not None and (
            not target.connect_here.code
        ):
            return _problem(what, "No captured network holds it, and the target does not reach it by itself.",
                            f"Say --route {host}, since this machine reaches it.")  # fmt: skip
    return None


def _connect(target: Target, tried: Connect | None, port: int, where: str) -> Problem | None:
    if tried is None:
        way = target.way_here
        if not where and way is not None and way.error:
            todo = "See whether the VPN is up."
            return _problem(f"This machine has no way to {target.final}.", f"{way.error}.", todo)
        return None
    if not tried.code:
        return None
    place = target.final if not where else target.address
    what, why, todo = CONNECTS.get(tried.code, ("is not reached", f"The system says: {tried.error}.", "Try again."))
    return _problem(f"{place} {what.format(port=port)}{where}.", why, todo)
