"""Whether packets to an address come through the bridge, and why not: what was decided here, held against the route
that the target's kernel really takes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..routes.reachable import NEVER
from .found import Captured, Way


@dataclass(frozen=True, slots=True)
class Pair:
    """A network and the reason given for it."""

    network: str
    reason: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What a bridge captures."""

    captured: Sequence[Pair] = ()
    excluded: Sequence[Pair] = ()
    skipped: Sequence[Pair] = ()
    """Wanted, and refused by the agent."""
    installed: Sequence[str] = ()
    """The routes over there."""
    tun: str = ""
    """The interface over there that leads here; empty: packets are captured without one, or there is no bridge."""
    own: dict[str, str] = field(default_factory=dict)
    """Single addresses that the target keeps to itself, and what they are: its nameservers, the SSH peer."""

    def of(self, address: str, way: Way | None) -> Captured:
        """Judge one address; `way`: its route over there, where that is known."""
        comes = self._comes(address, way)
        if comes:
            wanted = _covering(self.captured, address)
            return Captured("captured", wanted.network, wanted.reason) if wanted else Captured(
                "captured", way.route if way else "", "a route for an answer of the resolver here",
            )
        for kind, networks in NEVER.items():
            for network in networks:
                if _holds(str(network), address):
                    return Captured("never", str(network), kind)
        if (own := self.own.get(address)):
            return Captured("left out", address, own)
        if refused := _covering(self.excluded, address):
            return Captured("excluded", refused.network, refused.reason)
        if refused := _covering(self.skipped, address):
            return Captured("overlap", refused.network, refused.reason)
        if wanted := _covering(self.captured, address):
            if comes is None:
                return Captured("wanted", wanted.network, wanted.reason)
            inside = way.route if way and way.route else ""
            return Captured(
                "overlap", wanted.network, f"over there {inside or 'a route of its own'} on"
                f" {way.interface if way and way.interface else 'another interface'} is more specific",
            )
        return Captured("not wanted", "", "no captured network holds it")

    def _comes(self, address: str, way: Way | None) -> bool | None:
        """Whether it takes the bridge; None where there is none."""
        if self.tun and way is not None:
            return way.interface == self.tun
        if self.installed:
            return any(_holds(network, address) for network in self.installed)
        return None


def pairs(networks: Iterable[object]) -> list[Pair]:
    """From whatever has a `network` and a `reason`."""
    return [Pair(str(each.network), str(each.reason)) for each in networks]  # type: ignore[attr-defined]


def _covering(networks: Iterable[Pair], address: str) -> Pair | None:
    """The most specific network that holds the address."""
    fitting = [each for each in networks if _holds(each.network, address)]
    return max(fitting, key=lambda each: ipaddress.ip_network(each.network, strict=False).prefixlen, default=None)


def _holds(network: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
