"""A bridge's state as metrics.

Every counter that `netbridge status --json` shows is one, named `netbridge_ROOM_FIELD_total`, with the sentence that
stands beneath its field. A unit goes to the end of a name, as Prometheus wants it: `bytes_in` of the link is
`netbridge_link_in_bytes_total`. What a process tells of itself has Prometheus' own names (`process_…`).

Nothing here says where a flow goes: whoever may read the numbers need not know the hosts.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import netbridge

from ..sentences import sentences
from ..state import memory
from .exposition import Family, counter, gauge

if TYPE_CHECKING:
    from ..session import Session

STATES = ("starting", "running", "reconnecting", "stopping", "stopped")
_GAUGES = {("link", "window"), ("link", "in_flight")}
"""What a room shows beside its counters: a state of now."""
_NOW = ("held", "flows")
"""Rooms that show nothing else."""
_IN_BYTES = {("link", "window"), ("link", "in_flight")}


def families(session: Session) -> Iterator[Family]:
    """All of it; what is not there yet is left out."""
    yield from _bridge(session)
    yield from _connection(session)
    yield from _process()
    if session.engine is not None:
        yield from _flows(session)
        for room, counters in session.engine.rooms().items():
            yield from _room(room, counters)
    yield from _room("back", session.back.counters)


def kinds(session: Session) -> set[type]:
    """The dataclasses whose sentences will be wanted."""
    rooms = session.engine.rooms().values() if session.engine is not None else ()
    return {type(counters) for counters in (*rooms, session.back.counters)}


def _bridge(session: Session) -> Iterator[Family]:
    target = session.options.target
    scheme, colon, _ = target.partition(":")
    # The words of a command may be secret, and others on this machine can read what loopback serves.
    about = {"target": "exec:" if colon and scheme == "exec" else target, "version": netbridge.__version__}
    if session.reservation:
        about["number"] = str(session.reservation.number)
    yield Family("netbridge_bridge", "info", "The bridge whose numbers these are.", [(about, 1)])
    yield Family(
        "netbridge_state", "gauge", "1 for the state that the bridge is in, 0 for the others.",
        [({"state": state}, float(session.state == state)) for state in STATES],
    )
    yield gauge("netbridge_uptime_seconds", "Since the bridge was started.", round(time.monotonic() - session.began, 3))


def _connection(session: Session) -> Iterator[Family]:
    agent = session.agent
    yield gauge("netbridge_connected", "1 while packets travel.", float(agent is not None and agent.framed.carrying))
    if agent is not None and agent.framed.rtt is not None:
        yield gauge(
            "netbridge_round_trip_seconds", "What the last answered question to the target took.", agent.framed.rtt)
    if session.capturing is not None:
        yield gauge("netbridge_captured_networks", "Networks that come through the bridge.",
                    float(len(session.capturing.captured)))


def _flows(session: Session) -> Iterator[Family]:
    assert session.engine is not None
    table = session.engine.table
    totals = table.totals if table is not None else {}
    yield Family(
        "netbridge_flows", "gauge", "Open flows.",
        [({"protocol": name}, float(totals.get(name, 0))) for name in ("tcp", "udp", "icmp")],
    )
    limits = session.engine.limits()
    limits["back-connections"] |= {"limit": session.engine.back_share, "used": session.back.used}
    yield Family(
        "netbridge_limit", "gauge", "What the bridge may use, by the name of the limit and in its unit.",
        [({"limit": name, "unit": it["unit"]}, float(it["limit"])) for name, it in limits.items()],
    )
    yield Family(
        "netbridge_limit_used", "gauge", "How much of a limit is in use, where that can be counted.",
        [({"limit": name, "unit": it["unit"]}, float(it["used"])) for name, it in limits.items() if "used" in it],
    )


def _room(room: str, counters: Any) -> Iterator[Family]:
    assert is_dataclass(counters)
    texts = sentences(type(counters))
    for item in fields(counters):
        value, name = getattr(counters, item.name), item.name
        if not isinstance(value, (int, float)):
            continue
        if name.startswith("bytes_"):
            name = f"{name.removeprefix('bytes_')}_bytes"
        elif (room, name) in _IN_BYTES:
            name = f"{name}_bytes"
        make = gauge if room in _NOW or (room, item.name) in _GAUGES else counter
        yield make(f"netbridge_{room}_{name}", texts.get(item.name, ""), float(value))


def _process() -> Iterator[Family]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield counter("process_cpu_seconds", "User and system CPU time.", round(usage.ru_utime + usage.ru_stime, 3))
    if resident := memory()["resident"]:
        yield gauge("process_resident_memory_bytes", "Resident memory.", float(resident))
    try:
        yield gauge("process_open_fds", "Open file descriptors.", float(len(os.listdir("/proc/self/fd"))))
    except OSError:
        pass
    yield gauge("process_max_fds", "File descriptors that may be open.",
                float(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
