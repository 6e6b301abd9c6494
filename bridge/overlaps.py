"""Networks that this machine reaches and that the target has as its own as well: 10.0.0.0/16 at the office, and the
cloud's 10.0.0.0/16 where the codespace runs.

Such a network is the target's own as a whole, or the target would lose its neighbours, its gateway first of all. The
longest prefix decides, whichever of the two is the narrower. Hosts in it that names of this machine lead to get a
route each (:mod:`.hostroutes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from .routes import Capture, Captured
from .routes.local import Address, Network
from .routes.reachable import covers

MOST_OWN = 256
"""Networks of the target's own that are believed; a host with thousands of them is no honest one."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """What one captured network and one of the target's own have in common."""

    own: Network
    wanted: Captured

    @property
    def network(self) -> Network:
        """The narrower of the two: what both mean."""
        return max(self.own, self.wanted.network, key=lambda it: it.prefixlen)

    @property
    def reason(self) -> str:
        """How they lie to each other, and why it was to be captured."""
        if self.own == self.wanted.network:
            return f"it is the target's own, too; here {self.wanted.reason}"
        if covers(self.own, self.wanted.network):
            return f"it lies in {self.own}, which is the target's own; here {self.wanted.reason}"
        return f"it is the target's own, inside of {self.wanted.network}; here {self.wanted.reason}"


class Overlaps:
    """All of them at one moment."""

    def __init__(self, choice: Capture | None = None, own: Iterable[str] = (), installed: Iterable[str] = ()) -> None:
        """`own` are the target's own networks and `installed` what it captures, as its agent says. Untrusted."""
        there = list(parsed(own))[:MOST_OWN]
        self._excluded = _Prefixes(each.network for each in choice.excluded) if choice else _Prefixes()
        self._installed, self._own = _Prefixes(parsed(installed)), _Prefixes(there)
        self._wanted = choice.captured if choice else ()
        self.all = tuple(
            Overlap(network, each) for network in there for each in self._wanted
            if covers(network, each.network) or covers(each.network, network)
        )

    def holding(self, address: bytes) -> Overlap | None:
        """The overlap that `address` (packed) lies in; None where it lies in none, is captured or never to be."""
        host: Address | None = None
        for each in self.all:
            host = host or ip_address(address)
            if host in each.network:
                return None if self._excluded.longest(host) >= 0 or self.captures(host) else each
        return None

    def captures(self, host: Address) -> bool:
        """Whether what goes to `host` is captured: the longest prefix decides."""
        return self._installed.longest(host) > self._own.longest(host)

    def same_routes(self, other: Overlaps) -> bool:
        """Whether the other captures the same."""
        return self._installed == other._installed and self._own == other._own

    def wanted(self, host: Address) -> Network | None:
        """The network to be captured that `host` lies in."""
        return next((each.network for each in self._wanted if host in each.network), None)


class _Prefixes:
    """Networks by version and length: with everything captured there are thousands, and as many flows to look at."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._known: dict[tuple[int, int], set[int]] = {}
        for each in networks:
            number = int(each.network_address) >> (each.max_prefixlen - each.prefixlen)
            self._known.setdefault((each.version, each.prefixlen), set()).add(number)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Prefixes) and self._known == other._known

    __hash__ = None  # type: ignore[assignment]

    def longest(self, host: Address) -> int:
        """The length of the longest prefix that `host` lies in; -1 for none."""
        number = int(host)
        return max(
            (
                length for (version, length), known in self._known.items()
                if version == host.version and number >> (host.max_prefixlen - length) in known
            ),
            default=-1,
        )


def parsed(texts: Iterable[str]) -> Iterator[Network]:
    """Those that are networks."""
    for text in texts:
        try:
            yield ip_network(text)
        except ValueError:
            continue
