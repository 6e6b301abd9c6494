"""What the session makes of an agent that captures without a TUN (`bridge/agent/packet.py`), and tells about it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from .startfaults import printable
from .transport.mend import Mend

MOST_SOURCES = 64
"""Networks of an interface; more are no honest answer."""


def by_packets(ready: Mapping[str, Any]) -> bool:
    """Whether the agent that said `ready` captures packets as they leave, instead of by a TUN."""
    return ready.get("capture") == "packet"


def sources(ready: Mapping[str, Any]) -> tuple[str, ...]:
    """The networks packets may come from besides the bridge's own: there, those of the interface. Untrusted."""
    told = ready.get("sources")
    found: list[str] = []
    for text in told[:MOST_SOURCES] if by_packets(ready) and isinstance(told, list) else ():
        try:
            found.append(str(ipaddress.ip_network(str(text))))
        except ValueError:
            continue
    return tuple(found)


def costs(ready: Mapping[str, Any], *, asked: bool, mend: Mend) -> str:
    """What a person should know about that way, on one line. `asked`: it was asked for by --capture packet.
    `mend`: how the target gets a TUN.
    """
    interface = printable(ready.get("tun"))
    parts = [f"packets are captured as they leave by {interface}, so each also goes to the gateway, in the clear"]
    parts.append("names asked here, too; whoever answers out there may answer first")
    if ready.get("sums"):
        parts.append("downloads are slower, because net.ipv4.conf.all.rp_filter is 1 over there")
    if not asked:
        why = printable(ready.get("no_tun")) or "none is to be had"
        tun = mend.tun.removesuffix(".")
        parts.append(f"the better way is a TUN ({why}): {tun[0].lower()}{tun[1:]}")
    return "; ".join(parts)
