"""Which routes go to the TUN: what the session wants captured, minus what must never be.

An excluded network inside a captured one is cut out by splitting the captured one into the prefixes around it, so that
everything installed lies on the TUN and vanishes with it; no route is ever added to another interface.

Networks that are on-link here are left to the longest prefix: a captured 10.0.0.0/8 does not touch an on-link
10.0.0.0/16, whose route is longer. A wanted route equal to or inside an on-link network is refused, with the reason,
since it would cut off neighbours (the default gateway among them); and so is a piece that a hole would leave there.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from .netlink import Address, Interface, Netlink, Network

NEVER = (
    ("0.0.0.0/8", "it is this host itself (RFC 1122 section 3.2.1.3)"),
    ("127.0.0.0/8", "it is loopback"),
    ("169.254.0.0/16", "it is link-local (metadata services)"),
    ("168.63.129.16/32", "it is Azure's platform address"),
    ("224.0.0.0/4", "it is multicast"),
    ("240.0.0.0/4", "it is reserved and broadcast"),
    ("::/128", "it is the unspecified address"),
    ("::1/128", "it is loopback"),
    ("fe80::/10", "it is link-local"),
    ("ff00::/8", "it is multicast"),
)


class Protected(NamedTuple):
    """A network that is never captured."""

    network: Network
    reason: str


class Plan(NamedTuple):
    """What to install, and what is not done, with reasons for people."""

    install: List[Network]
    skipped: List[Dict[str, str]]


def never_captured() -> List[Protected]:
    """The networks that are not captured on any host."""
    return [Protected(ipaddress.ip_network(text), reason) for text, reason in NEVER]


def hosts(addresses: Iterable[str], reason: str) -> List[Protected]:
    """Single addresses as protected networks; a zone (`%eth0`) is dropped, what is no address is ignored."""
    found = []
    for text in addresses:
        try:
            address = ipaddress.ip_address(text.split("%", 1)[0])
        except ValueError:
            continue
        mapped = getattr(address, "ipv4_mapped", None)
        found.append(Protected(ipaddress.ip_network(mapped or address), reason))
    return found


def subtract(networks: Iterable[Network], excluded: Iterable[Network]) -> List[Network]:
    """The prefixes that cover `networks` but nothing of `excluded`.

    By ranges of numbers: with everything captured and hundreds of holes, cutting prefix by prefix takes seconds.
    """
    holes: Dict[int, List[Tuple[int, int]]] = {4: [], 6: []}
    for hole in sorted(excluded, key=_first):
        holes[hole.version].append((_first(hole), int(hole.broadcast_address)))
    left: List[Network] = []
    for network in networks:
        at, end = _first(network), int(network.broadcast_address)
        whole = True
        for first, last in holes[network.version]:
            if last < at:
                continue
            if first > end:
                break
            whole = False
            if first > at:
                left += _prefixes(network.version, at, first - 1)
            at = last + 1
        if whole:
            left.append(network)
        elif at <= end:
            left += _prefixes(network.version, at, end)
    return left


def _first(network: Network) -> int:
    return int(network.network_address)


def _prefixes(version: int, first: int, last: int) -> Iterator[Network]:
    """The prefixes that cover just these addresses."""
    make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    return ipaddress.summarize_address_range(make(first), make(last))


def _network(text: str) -> Optional[Network]:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def inside(network: Network, outer: Network) -> bool:
    """Whether all of `network` lies in `outer`."""
    return network.version == outer.version and network.subnet_of(outer)  # type: ignore[arg-type]


def longest(network: Network, others: Iterable[Network]) -> int:
    """The length of the longest prefix among `others` that holds `network`; -1 for none."""
    return max((other.prefixlen for other in others if inside(network, other)), default=-1)


def plan(
    wanted: Sequence[str], exclude: Sequence[str], on_link: Sequence[Network], protected: Sequence[Protected],
    explicit: Sequence[str] = (),
) -> Plan:
    """Decide. `wanted` and `exclude` are CIDR texts from the session; what cannot be read is skipped with a reason.

    `explicit` are those that a person named. Such a network is captured even inside one of the target's own, as long
    as it is narrower: who names a single host of 172.17.0.0/16 means the one behind the bridge, not a container's.
    """
    named = {_network(text) for text in explicit} - {None}
    skipped: List[Dict[str, str]] = []
    by_version: Dict[int, List[Network]] = {4: [], 6: []}
    holes = [item.network for item in protected]
    for text in exclude:
        try:
            holes.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            skipped.append({"route": text, "reason": "the exclusion is not a network"})
    for text in [*wanted, *explicit]:
        network = _network(text)
        if network is None:
            skipped.append({"route": text, "reason": "it is not a network"})
            continue
        if network in by_version[network.version]:
            continue
        reason = ""
        for outer in on_link:
            if inside(network, outer) and (network == outer or network not in named):
                reason = "it is inside %s, a network of the target's own" % outer
                if network == outer:
                    reason = "it is the target's own, too"
        for item in protected:
            if inside(network, item.network):
                reason = item.reason
        if reason:
            skipped.append({"route": text, "reason": reason})
        elif not subtract([network], holes):
            skipped.append({"route": text, "reason": "it is excluded"})
        else:
            by_version[network.version].append(network)
    install: List[Network] = []
    for networks in by_version.values():
        # mypy cannot know that all members of one list are of one version
        pieces = subtract(ipaddress.collapse_addresses(networks), holes)  # type: ignore[type-var]
        left = [piece for piece in pieces if not any(inside(piece, outer) for outer in on_link)]
        left += subtract([network for network in networks if network in named], holes)
        install += sorted(ipaddress.collapse_addresses(left))  # type: ignore[type-var]
    return Plan(install, skipped)


class Routes:
    """The routes on the TUN, and the difference to what is wanted next."""

    def __init__(self, netlink: Netlink, index: int, sources: Sequence[Interface], rto_min_ms: Optional[int]) -> None:
        self._netlink = netlink
        self._index = index
        self._source: Dict[int, Address] = {}
        for interface in sources:
            self._source.setdefault(interface.version, interface.ip)
        self._rto_min_ms = rto_min_ms
        self._installed: Set[Network] = set()

    def apply(self, wanted: Plan) -> Tuple[List[str], List[Dict[str, str]]]:
        """Install what is new, then remove what is no longer wanted; (installed, skipped)."""
        skipped = list(wanted.skipped)
        target = set(wanted.install)
        # Somebody may have taken some away: a network manager that likes order, or a TUN that was down for a moment.
        self._installed &= {route.network for route in self._netlink.routes() if route.interface == self._index}
        for network in wanted.install:
            if network in self._installed:
                continue
            source = self._source.get(network.version)
            if source is None:
                skipped.append({"route": str(network), "reason": "the target has no IPv%d here" % network.version})
                continue
            try:
                self._netlink.add_route(self._index, network, source=source, rto_min_ms=self._rto_min_ms)
            except OSError as error:
                skipped.append({"route": str(network), **self._why(network, error)})
            else:
                self._installed.add(network)
        for network in self._installed - target:
            self._netlink.delete_route(self._index, network)
        self._installed &= target
        return [str(network) for network in wanted.install if network in self._installed], skipped

    def _why(self, network: Network, error: OSError) -> Dict[str, str]:
        """Why a route could not be installed, and by which bridge's TUN it is held, if by one."""
        if error.errno != errno.EEXIST:
            return {"reason": os.strerror(error.errno or 0)}
        names = {link.interface: link.name for link in self._netlink.links()}
        for route in self._netlink.routes():
            name = names.get(route.interface, "")
            if route.network == network and re.match(r"nb\d+$", name):
                return {"reason": "another bridge holds it, by %s" % name, "holder": name}
        return {"reason": "the target has a route to it"}
