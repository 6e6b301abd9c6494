"""What resolv.conf says (resolv.conf(5)): whom the local machine asks, and which suffixes it tries.

It is the one description of a resolver that Linux, the BSDs and macOS share. systemd-resolved's stub (127.0.0.53)
stands in it like any nameserver, and is asked like one.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

MAX_NAMESERVERS = 3
"""The C library's MAXNS: those behind the third are asked by nobody on this machine."""
MAX_SEARCH = 32
"""Search domains that are passed on; glibc takes any number since 2.26, older ones take 6."""


@dataclass(frozen=True, slots=True)
class ResolverConfig:
    """The local machine's resolver, as its configuration has it."""

    nameservers: tuple[str, ...] = ()
    """Addresses as text, in the order in which they are asked; an IPv6 one may carry a %scope."""
    search: tuple[str, ...] = ()
    """Suffixes tried for short names, lower case, without dots at their ends."""


def parse_resolv_conf(text: str) -> ResolverConfig:
    """Read resolv.conf; lines it does not know are skipped, as the C library does."""
    nameservers: list[str] = []
    search: tuple[str, ...] = ()
    for line in text.split("\n"):  # no other character ends a line for the C library
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            address = plain_address(words[1])
            if address and address not in nameservers:
                nameservers.append(address)
        elif words[0] in ("search", "domain"):  # the last of either wins
            names = (word.strip(".").lower() for word in words[1:])
            search = tuple(dict.fromkeys(name for name in names if name and name.isprintable()))[:MAX_SEARCH]
    return ResolverConfig(tuple(nameservers[:MAX_NAMESERVERS]), search)


def plain_address(text: str) -> str | None:
    """An address in its shortest form, v4-mapped ones as IPv4; None for what is no address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if not text.isprintable():  # Python takes anything for a %scope, a zero byte as well
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def socket_address(nameserver: str, port: int) -> tuple[int, tuple[str, int] | tuple[str, int, int, int]]:
    """Family and address to give to connect(); OSError when a %scope names no interface."""
    if ":" not in nameserver:
        return socket.AF_INET, (nameserver, port)
    host, _, scope = nameserver.partition("%")
    index = 0
    if scope:
        index = int(scope) if re.fullmatch("[0-9]{1,9}", scope) else socket.if_nametoindex(scope)
    return socket.AF_INET6, (host, port, 0, index)
