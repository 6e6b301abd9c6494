"""This machine's routes: what would be captured, and what of it codespaces and docker commonly have themselves."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence

from ..errors import UsageError
from ..options import Options
from ..routes import Capture, LocalNetworksError, Snapshot, choose, local_networks
from ..routes.local import Network
from .report import Check, fault, note, ok, warning

SHOWN = 8
COMMON = {
    "172.17.0.0/16": "docker's first network, in nearly every codespace",
    "10.0.0.0/16": "the network of GitHub's own codespaces",
}


async def look() -> tuple[Snapshot | None, str]:
    """This machine's networks, or why they cannot be told."""
    try:
        return await local_networks().snapshot(), ""
    except LocalNetworksError as error:
        return None, str(error)


def checks(snapshot: Snapshot | None, why: str, options: Options) -> Iterator[Check]:
    """`why` there is no snapshot."""
    if snapshot is None:
        yield warning("routes", "this machine's routes cannot be told", f"{why}.", "Name networks by --route.")
    try:
        choice = wanted(snapshot, options)
    except ValueError as error:
        yield fault("routes", UsageError("A network cannot be captured.", f"{error}.", "Correct --route or --exclude."))
        return
    yield captured(choice, snapshot)
    if snapshot is not None:
        for version in (4, 6):
            tunnel = snapshot.full_tunnel(version)
            if tunnel is not None:
                said = f"all IPv{version} goes through {tunnel.name}, so private networks are captured as a whole"
                yield note("full tunnel", said, version=version, interface=tunnel.name)
        yield ipv6(snapshot)
    yield from common(choice)


def wanted(snapshot: Snapshot | None, options: Options, peers: Iterable[str] = ()) -> Capture:
    """What a bridge with these options would capture. ValueError for a wish that cannot be fulfilled."""
    return choose(snapshot, routes=options.route, exclude=options.exclude, everything=options.capture_all, peers=peers)


def captured(choice: Capture, snapshot: Snapshot | None) -> Check:
    """What a bridge would capture."""
    networks = [{"network": str(it.network), "reason": it.reason} for it in choice.captured]
    if not networks:
        return warning(
            "captured", "nothing", "This machine reaches nothing but by its default route." if snapshot else "",
            "Bring the VPN up, or name networks by --route.", networks=networks,
        )
    shown = [str(it) for it in choice.captured[:SHOWN]]
    more = f" and {len(networks) - SHOWN} more" if len(networks) > SHOWN else ""
    return ok("captured", f"{', '.join(shown)}{more}", networks=networks)


def ipv6(snapshot: Snapshot) -> Check:
    """Whether this machine has it."""
    if snapshot.default_route(6) is not None:
        return ok("IPv6", "there is a default route")
    own = [address for interface in snapshot.interfaces for address in interface.addresses
           if address.version == 6 and not address.is_link_local and not address.is_loopback]  # fmt: skip
    return note("IPv6", "no default route; networks that are connected are reached" if own else "none here")


def common(choice: Capture) -> Iterator[Check]:
    """What would be captured, and what most codespaces have themselves."""
    for network, what in COMMON.items():
        hit = overlaps([str(it.network) for it in choice.captured], [network])
        if hit:
            yield note(
                "overlap", f"{hit[0][0]} overlaps {network}, {what}; there the codespace's own is reached"
                " (--route names single hosts of this machine's)", network=hit[0][0], common=network,
            )


def overlaps(wanted: Sequence[str], others: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs that have addresses in common; what is no network is left out."""
    pairs = []
    mine = [network for text in wanted if (network := _network(text)) is not None and network.prefixlen > 0]
    for text in others:
        other = _network(text)
        if other is not None:
            pairs += [(str(network), str(other)) for network in mine
                      if network.version == other.version and network.overlaps(other)]  # fmt: skip
    return pairs


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(str(text), strict=False)
    except ValueError:
        return None
