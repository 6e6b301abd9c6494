"""The state of one bridge as JSON: what `netbridge status` shows and the terminal UI will read."""

from __future__ import annotations

import dataclasses
import os
import resource
import sys
import time
from typing import TYPE_CHECKING, Any

import netbridge

if TYPE_CHECKING:
    from .session import Session


FLOWS = 1000
"""Shown unless another number is asked for."""


def describe(session: Session, flows: int = FLOWS) -> dict[str, Any]:
    """All there is to know about a bridge at this moment, with at most so many flows."""
    options, engine, agent, capturing = session.options, session.engine, session.agent, session.capturing
    table = engine.flows(flows) if engine else {}
    limits = engine.limits() if engine else {}
    if engine:
        limits["back-connections"] |= {"limit": engine.back_share, "used": session.back.used}
    state: dict[str, Any] = {
        "target": options.target,
        "state": session.state,
        "session": session.name,
        "pid": os.getpid(),
        "version": netbridge.__version__,
        "uptime": round(time.monotonic() - session.began, 3),
        "command": list(options.command),
        "policy": {"allow": list(options.allow), "deny": list(options.deny), "host_alias": options.host_alias},
        "flows": table.get("flows", []),
        "totals": table.get("totals", {}),
        "descriptors": table.get("budget", 0),
        "limits": limits,
        "counters": engine.counters() if engine else {},
        "back": {"open": session.back.open_now, **dataclasses.asdict(session.back.counters)},
        "memory": memory(),
    }
    if session.addresses:
        state["network"] = {"gateways": list(session.addresses.gateways), "tun": list(session.addresses.tun)}
    if agent:
        state["connection"] = {
            "up": agent.framed.carrying, "rtt": agent.framed.rtt, "silent": agent.framed.silent, "grace": options.grace,
        }
        state["agent"] = {**agent.hello, **{key: value for key, value in agent.ready.items() if key != "type"}}
        names = session.naming.names if session.naming else None
        state["dns"] = {
            "mode": options.dns, "on": bool(agent.ready.get("dns")), "listen": agent.ready.get("listen"),
            "suffixes": list(names.suffixes) if names else [], "search": list(names.search) if names else [],
            "private": list(names.private) if names else [],
            "nameservers": session.naming.nameservers if session.naming else [],
        }
    if capturing:
        for name in ("captured", "skipped", "excluded"):
            state[name] = [dataclasses.asdict(network) for network in getattr(capturing, name)]
        state["routes"] = list(capturing.installed)
        state["overlapping"] = [
            {"network": str(it.network), "reason": it.reason} for it in capturing.hosts.overlaps.all
        ]
        state["host_routes"] = capturing.hosts.state()
    return state


def memory() -> dict[str, int]:
    """Bytes of this process's resident memory: now (0 where the system does not tell) and at its highest."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2) counts kilobytes elsewhere
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            now = int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        now = 0
    return {"resident": now, "highest": highest}
