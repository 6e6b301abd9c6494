"""Which networks the codespace is told to send through the bridge, and which never: what was found, and what the user
wants.

The two lists go to the agent as they are; it takes the excluded out of the captured by splitting prefixes, together
with what only it knows (its own subnets, its resolvers, the peer of its SSH connection).

The local machine's nameservers are not excluded: a codespace may well ask one directly, as the local machine can.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from .local import Network, Snapshot
from .reachable import NEVER, Captured, collapse, covers, never, reachable

CLOUD = ipaddress.ip_network("168.63.129.16/32")
"""Azure's own resolver and DHCP: a codespace needs its own, even if the local machine is in the same cloud."""


@dataclass(frozen=True, slots=True)
class Capture:
    """What to capture and what not, and why."""

    captured: tuple[Captured, ...]
    """Joined where possible; what is wholly excluded is left out."""
    excluded: tuple[Captured, ...]
    """Stronger than `captured`; `reason` says why not."""

    @property
    def routes(self) -> list[str]:
        """The captured networks as CIDRs."""
        return [str(each.network) for each in self.captured]

    @property
    def exclude(self) -> list[str]:
        """The excluded networks as CIDRs."""
        return [str(each.network) for each in self.excluded]

    def why(self, address: str) -> str:
        """Why a packet to `address` takes the bridge or does not. ValueError for what is no address."""
        host = ipaddress.ip_network(ipaddress.ip_address(address))
        for title, networks in (("not captured: ", self.excluded), ("captured: ", self.captured)):
            for each in networks:
                if covers(each.network, host):
                    return f"{title}{each}"
        return "not captured: no captured network holds it"


def choose(
    snapshot: Snapshot | None, *, routes: Iterable[str] = (), exclude: Iterable[str] = (), everything: bool = False,
    peers: Iterable[str] = (), own: Iterable[str] = (), alias: Iterable[str] = (),
) -> Capture:
    """What to capture.

    `routes` and `exclude` are the user's CIDRs or addresses, `peers` the addresses the tunnel itself talks to
    (names and None-like blanks are skipped), `own` the bridge's own networks, `alias` what stands for this machine's
    loopback. Without `snapshot` nothing is captured
    by default. ValueError, with a text for the user, for what is no network or can never be captured.
    """
    captured = [Captured(_capturable(each), "asked for by --route") for each in routes]
    if everything:
        captured += [Captured(ipaddress.ip_network(each), "asked for by --all") for each in ("0.0.0.0/0", "::/0")]
    captured += [Captured(ipaddress.ip_network(each), "asked for by --host-alias") for each in alias]
    captured += reachable(snapshot) if snapshot is not None else []
    excluded = [Captured(parse_network(each), "asked for by --exclude") for each in exclude]
    excluded += [Captured(network, "carries the tunnel") for network in map(_peer, peers) if network is not None]
    excluded += [Captured(ipaddress.ip_network(each, strict=False), "the bridge's own network") for each in own]
    excluded.append(Captured(CLOUD, "the cloud's own address"))
    excluded += [Captured(network, kind) for kind, networks in NEVER.items() for network in networks]
    kept = [each for each in collapse(captured) if not any(covers(other.network, each.network) for other in excluded)]
    return Capture(tuple(kept), tuple(excluded))


def parse_network(text: str) -> Network:
    """A CIDR, or an address as the network of it alone; ValueError says what is wrong and what was meant."""
    text = text.strip()
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network; networks look like 10.1.0.0/16 or fd00:1::/32") from None
    if ipaddress.ip_address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f"{text} has bits set behind its prefix; the network is {network}")
    return network


def _capturable(text: str) -> Network:
    network = parse_network(text)
    kind = never(network)
    if kind is not None:
        raise ValueError(f"{network} cannot be captured: it is {kind}, which means another thing on every machine")
    return network


def _peer(text: str) -> Network | None:
    """The network of one address of the tunnel's own path; None for what is no address."""
    try:
        return ipaddress.ip_network(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None
