"""Where the C library looks for host names (nsswitch.conf(5)): whether anybody but nameservers may know one.

A line such as ``hosts: files mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] dns`` names sources in order.
What `files` and `dns` know is asked for without the C library; `myhostname` knows this machine and loopback,
which mean something else over there; the minimal mDNS sources know `.local` alone. Every other source (resolved, a
directory, a VPN's own) may know any name.
"""

from __future__ import annotations

import re

PATH = "/etc/nsswitch.conf"

_COVERED = frozenset(("files", "dns", "myhostname"))
_ACTION = re.compile(r"\[[^\]]*\]")


def knows_more(text: str) -> bool:
    """Whether the `hosts` line of an nsswitch.conf names a source that may know names which nameservers deny."""
    for line in text.splitlines():
        database, colon, sources = line.split("#", 1)[0].partition(":")
        if colon and database.strip() == "hosts":
            names = _ACTION.sub(" ", sources).split()
            return any(name not in _COVERED and not name.endswith("_minimal") for name in names)
    return False
