"""A host's own addresses, the networks it reaches by its link, and the address it sends from (RFC 1122, section 3.3.1).

One link leads everywhere, so a route is a prefix and nothing more. Texts become packed addresses here.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface, ip_network
from os import strerror

Network = IPv4Network | IPv6Network
Prefix = tuple[int, int, int]
"""Bytes of an address, network and mask as numbers."""


class Addressing:
    """What a stack is called, and whom it can call."""

    def __init__(self, addresses: Sequence[str], routes: Sequence[str] | None) -> None:
        """`addresses` as "10.0.0.1/24"; `routes` as "10.0.0.0/8", None: everything is reached by the link."""
        self.interfaces: list[IPv4Interface | IPv6Interface] = [ip_interface(address) for address in addresses]
        if not self.interfaces:
            raise ValueError("a stack needs at least one address")
        self.local = {interface.ip.packed for interface in self.interfaces}
        self._first: dict[int, bytes] = {one.version: one.ip.packed for one in reversed(self.interfaces)}
        self.networks: tuple[Network, ...] = tuple(interface.network for interface in self.interfaces)
        """Those that the own addresses lie in."""
        self.routes: tuple[Network, ...] | None = None if routes is None else tuple(map(ip_network, routes))
        self._on_link = [(prefix(one.network), one.ip.packed) for one in self.interfaces]
        self._reached = [prefix(network) for network in (*self.networks, *(self.routes or ()))]

    def gateway(self, version: int) -> bytes | None:
        """The first address of that IP version, packed."""
        return self._first.get(version)

    def reaches(self, remote: bytes) -> bool:
        """Whether the link leads to a packed address."""
        return self.routes is None or any(contains(known, remote) for known in self._reached)

    def source_for(self, remote: bytes, local_host: str | None = None) -> bytes:
        """The own address to send from to a packed one. OSError (ENETUNREACH) where no route leads there."""
        if local_host is not None:
            source = self.own(local_host)
            if len(source) != len(remote):
                raise ValueError("local and remote address are of different IP versions")
        else:
            on_link = (own for network, own in self._on_link if contains(network, remote))
            found = next(on_link, None) or self.gateway(4 if len(remote) == 4 else 6)
            if found is None:
                raise OSError(errno.ENETUNREACH, "the stack has no address of that IP version")
            source = found
        if not self.reaches(remote):
            raise OSError(errno.ENETUNREACH, strerror(errno.ENETUNREACH))
        return source

    def own(self, host: str) -> bytes:
        """One of the own addresses, packed; OSError (EADDRNOTAVAIL) when it is none."""
        address = packed(host)
        if address not in self.local:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} is not an address of this stack")
        return address

    def own_or_any(self, host: str) -> bytes:
        """As `own`; "0.0.0.0" and "::" stand for every own address of that version."""
        address = packed(host)
        return self.own(host) if any(address) else address


def prefix(network: Network) -> Prefix:
    """A network as numbers."""
    return network.max_prefixlen // 8, int(network.network_address), int(network.netmask)


def contains(known: Prefix, address: bytes) -> bool:
    """Whether a packed address lies in a network."""
    size, network, mask = known
    return size == len(address) and int.from_bytes(address, "big") & mask == network


def packed(host: str) -> bytes:
    """A numeric address as bytes; raises ValueError for anything else."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        raise ValueError(f"not a numeric address: {host!r}") from None


def valid_port(number: int, *, least: int = 1) -> int:
    """The number, if it can be a port."""
    if not least <= number < 65536:
        raise ValueError(f"a port is {least} to 65535, not {number}")
    return number
