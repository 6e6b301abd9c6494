"""The names under which addresses of a network are looked up (RFC 1035 3.5, RFC 3596 2.5)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable


def reverse_suffixes(networks: Iterable[str], most: int) -> tuple[str, ...]:
    """The suffixes below which the addresses of `networks` (CIDRs) have their names: 10.16.0.0/12 has 16.

    At most `most`, wide networks first. What finds no room is left out: its addresses are looked up over there first,
    and here after that.
    """
    found: dict[str, None] = {}
    parsed = {ipaddress.ip_network(text, strict=False) for text in networks}
    for network in sorted(parsed, key=lambda each: (each.prefixlen, each.version, each.network_address)):
        names = _names(network)
        if not all(_known(name, found) for name in names) and len(found) + len(names) <= most:
            found.update(dict.fromkeys(name for name in names if not _known(name, found)))
    return tuple(found)


def _known(name: str, found: dict[str, None]) -> bool:
    """Whether `name` is below a suffix that is there already."""
    while name and name not in found:
        name = name.partition(".")[2]
    return bool(name)


def _names(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> list[str]:
    """One name for each network on the next border between labels."""
    step, zone = (8, "in-addr.arpa") if network.version == 4 else (4, "ip6.arpa")
    count = -(-network.prefixlen // step)
    names = []
    for part in network.subnets(new_prefix=count * step):
        if network.version == 4:
            labels = str(part.network_address).split(".")[:count]
        else:
            labels = list(f"{int(part.network_address):032x}")[:count]
        names.append(".".join([*reversed(labels), zone]))
    return names
