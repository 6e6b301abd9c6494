"""macOS: the resolvers for all names and for single domains, as `scutil --dns` prints them (scutil(8), resolver(5)).

    resolver #2
      domain   : corp.example
      nameserver[0] : 10.20.0.53
      port     : 5353
      timeout  : 5
      flags    : Supplemental, Request A records
      reach    : 0x00000002 (Reachable)
      order    : 101200

The first is the one for all names; resolv.conf has its nameservers. Those behind the heading "for scoped queries" are
for programs that bind themselves to an interface, and those with `options : mdns` ask neighbours, not nameservers.
"""

from __future__ import annotations

import re

from .resolvconf import MAX_NAMESERVERS, plain_address
from .systemnames import DomainResolver, SystemNames, clean, merged

COMMAND = ("/usr/sbin/scutil", "--dns")

_LINE = re.compile(r"\s*([a-z_ ]+?)\s*(?:\[\d+\])?\s*: (.*)")


def parse(text: str) -> SystemNames:
    """Read what scutil prints; lines it does not know are skipped."""
    search: list[str] = []
    resolvers = []
    for number, fields in enumerate(_resolvers(text)):
        domain = clean(" ".join(fields.get("domain", [])))
        supplemental = "Supplemental" in " ".join(fields.get("flags", []))
        if "mdns" in " ".join(fields.get("options", [])).split():
            continue
        if number == 0 and not supplemental:
            search = [*map(clean, fields.get("search domain", []))] or [domain]
            continue
        servers = [address for word in fields.get("nameserver", []) if (address := plain_address(word))]
        if domain and servers:
            resolvers.append(DomainResolver(
                domain, tuple(dict.fromkeys(servers))[:MAX_NAMESERVERS], _number(fields, "port", 53),
                _number(fields, "timeout", 0) or None, _number(fields, "order", 0),
            ))
    return SystemNames(merged(filter(None, search)), merged(each.domain for each in resolvers), tuple(resolvers))


def _resolvers(text: str) -> list[dict[str, list[str]]]:
    """The values of each resolver's fields, those of the scoped ones left out."""
    found: list[dict[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("DNS configuration (for scoped"):
            break
        if line.startswith("resolver #"):
            found.append({})
        elif found and (field := _LINE.fullmatch(line)):
            found[-1].setdefault(field[1], []).append(field[2].strip())
    return found


def _number(fields: dict[str, list[str]], name: str, default: int) -> int:
    text = fields.get(name, [""])[0]
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else default
