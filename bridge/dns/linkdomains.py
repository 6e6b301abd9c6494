"""The domains systemd-resolved has, for each link and for all (org.freedesktop.resolve1(5), property `Domains`).

A VPN client tells resolved a link's nameservers and domains: `corp.example` is tried for short names and routes names
to the link, `~corp.example` only routes, `~.` makes the link serve every name and so is no suffix. resolv.conf names
but 127.0.0.53 and the search domains; the routing ones are asked for over D-Bus, by busctl(1).
"""

from __future__ import annotations

import json

from .systemnames import SystemNames, clean, merged

RUNS = "/run/systemd/resolve"
"""There when systemd-resolved is, or was, running."""
UPLINKS = f"{RUNS}/resolv.conf"
"""Written anew whenever what resolved knows of its links changes (systemd-resolved.service(8))."""
COMMAND = (
    "busctl", "--system", "--json=short", "get-property",
    "org.freedesktop.resolve1", "/org/freedesktop/resolve1", "org.freedesktop.resolve1.Manager", "Domains",
)  # fmt: skip


def parse(text: str) -> SystemNames:
    """Read busctl's answer, an array of (interface or 0, domain, only for routing); what is none says nothing."""
    search: list[str] = []
    routing: list[str] = []
    try:
        for _, domain, route_only in json.loads(text)["data"]:
            (routing if route_only else search).append(clean(domain))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return SystemNames()
    return SystemNames(merged(filter(None, search)), merged(filter(None, routing)))
