"""What is captured unless the user says otherwise: whatever this machine reaches by other than its default route.

- Connected subnets: the LAN, virtual networks, bridges of docker, podman and libvirt. The last are often nobody's
  concern, but they are reachable here and nowhere else, which is what a bridge is for; where one has the numbers of a
  network that the codespace has itself, the agent leaves it out.
- Routed prefixes of every table that ordinary traffic meets: split-tunnel VPNs, static routes.
- With a full-tunnel VPN (the default route leads into a tunnel) nothing tells the company's networks from the
  internet, so the private ranges are captured as a whole: RFC 1918 for IPv4, unique local (RFC 4193) for IPv6.

Left out: what means something else over there (loopback, link-local, multicast, this machine's own addresses) and
single public addresses routed to the default gateway: VPN clients pin their server's address so, and the codespace
reaches it anyway.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .local import Network, Route, Snapshot


@dataclass(frozen=True, slots=True)
class Captured:
    """A network the codespace sends through the bridge."""

    network: Network
    reason: str
    """Why, in half a sentence: "connected to eth0", "routed by 10.8.0.1 on tun0", "asked for by --route"."""

    def __str__(self) -> str:
        return f"{self.network} ({self.reason})"


NEVER: dict[str, tuple[Network, ...]] = {
    kind: tuple(ipaddress.ip_network(network) for network in networks)
    for kind, networks in {
        "this host": ("0.0.0.0/8", "::/128"),
        "loopback": ("127.0.0.0/8", "::1/128", "::ffff:0.0.0.0/96"),
        "link-local": ("169.254.0.0/16", "fe80::/10"),
        "multicast": ("224.0.0.0/4", "ff00::/8"),
        "reserved or broadcast": ("240.0.0.0/4",),
    }.items()
}
"""What means another thing on every machine and is never captured, by kind (RFC 6890)."""

PRIVATE: dict[int, tuple[Network, ...]] = {
    4: tuple(ipaddress.ip_network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
    6: (ipaddress.ip_network("fc00::/7"),),
}


def reachable(snapshot: Snapshot) -> list[Captured]:
    """The networks to capture by default, in the order in which they were found, each once."""
    found: dict[Network, Captured] = {}
    for captured in (*_routed(snapshot), *_behind_full_tunnel(snapshot)):
        found.setdefault(captured.network, captured)
    return list(found.values())


def _routed(snapshot: Snapshot) -> Iterator[Captured]:
    own = {address for interface in snapshot.interfaces for address in interface.addresses}
    for route in snapshot.routes:
        if route.default or never(route.network) or snapshot.interface(route.interface).loopback:
            continue
        if route.network.num_addresses == 1 and (route.network[0] in own or _pinned(route, snapshot)):
            continue
        yield Captured(route.network, _reason(route))


def _reason(route: Route) -> str:
    how = "connected to" if route.gateway is None else f"routed by {route.gateway} on"
    return f"{how} {route.interface}" + ("" if route.table == "main" else f", table {route.table}")


def _pinned(route: Route, snapshot: Snapshot) -> bool:
    """A single public address that goes where the internet goes."""
    if route.gateway is None or not route.network.is_global:
        return False
    way = route.interface, route.gateway
    return any(each.default and (each.interface, each.gateway) == way for each in snapshot.routes)


def _behind_full_tunnel(snapshot: Snapshot) -> Iterator[Captured]:
    """The private ranges, for each IP version whose default route is a tunnel (the other cannot enter it)."""
    for version, networks in PRIVATE.items():
        tunnel = snapshot.full_tunnel(version)
        if tunnel is not None:
            for network in networks:
                yield Captured(network, f"all traffic goes through the tunnel {tunnel.name}")


def never(network: Network) -> str | None:
    """Of which kind of never captured networks `network` is a part; None when it is of none."""
    for kind, networks in NEVER.items():
        if any(covers(each, network) for each in networks):
            return kind
    return None


def covers(outer: Network, inner: Network) -> bool:
    """Whether all of `inner` lies in `outer`."""
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def collapse(captured: Iterable[Captured]) -> list[Captured]:
    """Joined where networks touch or contain each other, IPv4 first; a joined one has the reasons of its parts.

    Where one of them is the whole, its reason says it all.
    """
    parts = list(captured)
    joined: list[Captured] = []
    for version in (4, 6):
        networks = [part.network for part in parts if part.network.version == version]
        for network in ipaddress.collapse_addresses(networks):  # type: ignore[type-var]  # all of one version
            whole = [part.reason for part in parts if part.network == network]
            reasons = whole or [part.reason for part in parts if covers(network, part.network)]
            joined.append(Captured(network, _together(list(dict.fromkeys(reasons)))))
    return joined


def _together(reasons: list[str]) -> str:
    """Some reasons in one line."""
    shown = 3
    more = f"; and {len(reasons) - shown} more" if len(reasons) > shown else ""
    return "; ".join(reasons[:shown]) + more
