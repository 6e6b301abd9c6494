"""What the hosts file says (hosts(5)): names that the local machine knows before it asks anybody.

Lines for loopback and the unspecified address are left out. They say "this machine", which would be the codespace
there, or (in files that block advertisements) "nowhere"; such names are asked for like any other.
"""

from __future__ import annotations

import ipaddress

from .synthesis import Address, reachable

PATH = "/etc/hosts"


class Hosts:
    """Names and addresses of a hosts file."""

    def __init__(self, text: str) -> None:
        self.addresses: dict[str, list[Address]] = {}
        """By name in lower case."""
        self.names: dict[Address, list[str]] = {}
        """The canonical name of each line (the first), by address."""
        for line in text.splitlines():
            words = line.split("#", 1)[0].split()
            if len(words) < 2:
                continue
            try:
                address = ipaddress.ip_address(words[0])
            except ValueError:
                continue
            if reachable(address):
                self._add(address, words[1:])

    def _add(self, address: Address, names: list[str]) -> None:
        self.names.setdefault(address, []).append(names[0])
        for name in names:
            known = self.addresses.setdefault(name.lower().rstrip("."), [])
            if address not in known:
                known.append(address)
