"""A picture of the local machine's network: its interfaces, and the routes that ordinary traffic of it follows.

Each system has its own way to take it (netlink on Linux, programs on macOS); what is made of it (:mod:`.reachable`) is
the same everywhere. A system gives routes in the order in which the kernel would try them, those nobody's traffic meets
(other routing tables, other users' rules) left out. Where several tables are in play (policy routing, VPNs) `table`
names them.
"""

from __future__ import annotations

import abc
import ipaddress
import sys
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class LocalNetworksError(OSError):
    """This machine's routes cannot be read."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface."""

    name: str
    kind: str = ""
    """What the system calls its kind, where it does: wireguard, tun, bridge, veth ..."""
    up: bool = True
    loopback: bool = False
    tunnel: bool = False
    """A point-to-point or tunnel device: whoever is behind it, it is not the neighbours on a wire."""
    addresses: tuple[Address, ...] = ()
    """This machine's own addresses on it."""


@dataclass(frozen=True, slots=True)
class Route:
    """One way out of this machine."""

    network: Network
    interface: str
    gateway: Address | None = None
    """Whom packets are handed to; None: the destination itself, on the link."""
    table: str = "main"
    """The routing table, where a system has several."""

    @property
    def default(self) -> bool:
        """It leads to the internet at large.

        VPNs often write a default route as two halves (0.0.0.0/1 and 128.0.0.0/1), and IPv6 ones as 2000::/3, to be
        more specific than the one that is there.
        """
        return self.network.prefixlen <= (1 if self.network.version == 4 else 3)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it at one moment."""

    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    """In the order in which the kernel tries their tables; a more specific one of the same table wins as ever."""
    local: tuple[Network, ...] = ()
    """What arrives at this machine itself besides the addresses of its interfaces: networks routed to it as a whole,
    anycast addresses."""

    @property
    def own(self) -> tuple[Network, ...]:
        """Everything that arrives at this machine itself, but for its loopback."""
        addresses = (ipaddress.ip_network(address) for interface in self.interfaces for address in interface.addresses)
        return tuple(dict.fromkeys(network for network in (*addresses, *self.local) if not network.is_loopback))

    def interface(self, name: str) -> Interface:
        """The interface of that name; an empty one if it is gone already."""
        return next((each for each in self.interfaces if each.name == name), Interface(name))

    def default_route(self, version: int) -> Route | None:
        """The route to the internet for 4 or 6: of the first table that has one, the most specific."""
        candidates = [route for route in self.routes if route.default and route.network.version == version]
        first = [route for route in candidates if route.table == candidates[0].table]
        return max(first, key=lambda route: route.network.prefixlen, default=None)

    def full_tunnel(self, version: int) -> Interface | None:
        """The tunnel through which everything goes, if it does."""
        route = self.default_route(version)
        interface = self.interface(route.interface) if route else None
        return interface if interface and interface.tunnel else None


class LocalNetworks(abc.ABC):
    """Where the picture comes from."""

    @abc.abstractmethod
    async def snapshot(self) -> Snapshot:
        """Take the picture. Raises LocalNetworksError."""


def local_networks() -> LocalNetworks:
    """What this system offers; LocalNetworksError where nothing is known about it (``--route`` is the way there)."""
    if sys.platform.startswith("linux"):
        from .linux import LinuxNetworks  # pyroute2 exists and is installed on Linux only

        return LinuxNetworks()
    if sys.platform == "darwin":
        from .macos import MacNetworks

        return MacNetworks()
    raise LocalNetworksError(f"routes of {sys.platform} cannot be read yet; name the networks by --route")
