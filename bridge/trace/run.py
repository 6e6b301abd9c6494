"""A whole trace: with a running bridge, from inside of it; without one, what this machine alone can say."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..agent.routelookup import KINDS
from ..dns import Upstream
from ..dns.own import ZONE
from ..errors import BridgeError, TargetUnreachableError, UsageError
from ..forward.policy import Policy
from ..naming import Naming
from ..options import Options
from ..routes import LocalNetworksError, choose, local_networks
from . import here, there
from .capture import Situation, pairs
from .found import Connect, Names, Target, Trace, Way
from .judge import settle
from .place import Place, parse_place

if TYPE_CHECKING:
    from ..session import Session

TCP = 6
AGENT_SECONDS = 20.0
"""The agent answers within some fifteen seconds, whatever its resolver does."""
MOST = 8
"""Addresses that are followed; names have fewer."""
NO_WAY = frozenset(KINDS.values()) - {"unicast", "local", "anycast", "broadcast", "multicast"}


async def trace_bridge(session: Session, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer the control socket's `trace` (host, port): a Trace as JSON, or an `error`."""
    try:
        place = Place(parse_place(str(request.get("host"))).host, int(request.get("port") or 0))
        if not 0 <= place.port <= 65535:
            raise ValueError("the port is none")
    except (UsageError, TypeError, ValueError) as error:
        return {"error": str(error)}
    engine = session.engine
    upstream = engine.dns.upstream if engine and engine.dns else Upstream()
    (message, trouble), found_here = await asyncio.gather(_ask_agent(session, place), _resolve(place, upstream))
    options, agent = session.options, session.agent
    ready = agent.ready if agent else {}
    suffixes = session.naming.names.suffixes if session.naming else ()
    found_there = there.names(message, suffixes, options.dns)
    situation = _situation(session, ready)
    trace = Trace(
        place.host, place.port,
        {"target": options.target, "state": session.state, "dns": bool(ready.get("dns")), "tun": situation.tun},
        found_there, found_here,
    )
    policy = engine.policy if engine else Policy(options.allow, options.deny)
    trace.targets = await _targets(trace, situation, policy, there.ways(message))
    settle(trace, reason=trouble)
    return trace.as_json()


async def trace_alone(place: Place, options: Options, *, reason: BridgeError) -> Trace:
    """What can be said without a bridge. `reason`: why there is none."""
    upstream = Upstream(domains=options.dns_domain)
    await Naming(upstream, list).look()
    found_here = await _resolve(place, upstream)
    snapshot = None
    with contextlib.suppress(LocalNetworksError):
        snapshot = await local_networks().snapshot()
    try:
        choice = choose(
            snapshot, routes=options.route, exclude=options.exclude, everything=options.capture_all,
        )
        policy = Policy(options.allow, options.deny)
    except ValueError as error:
        raise UsageError("A setting cannot be used.", f"{error}.", "Correct it in the configuration file.") from None
    if snapshot is not None:
        policy.own_addresses(snapshot.own)
    trace = Trace(place.host, place.port, None, None, found_here)
    trace.targets = await _targets(trace, Situation(pairs(choice.captured), pairs(choice.excluded)), policy, {})
    settle(trace, reason=reason)
    return trace


async def _resolve(place: Place, upstream: Upstream) -> Names:
    if f".{place.host.lower().rstrip('.')}".endswith(f".{ZONE}"):
        return Names(error="names of the bridge's own are answered by the bridge")
    return await here.resolve(place, upstream)


async def _ask_agent(session: Session, place: Place) -> tuple[dict[str, Any], BridgeError | None]:
    """The agent's message, or an empty one and why there is none."""
    agent = session.agent
    if agent is None or session.state != "running" or not agent.framed.carrying:
        return {}, TargetUnreachableError(
            f"The bridge to {session.options.target} carries nothing at the moment.", f"It is {session.state}.",
            "Wait until it is there again (`netbridge status`), or see its output.",
        )
    service = list(session.addresses.gateways) if agent.ready.get("dns") and session.addresses else []
    tun = str(agent.ready.get("tun") or "") if agent.ready.get("capture") != "packet" else ""
    try:
        request = {"host": place.host, "port": place.port, "service": service, "tun": tun}
        return await agent.trace(request, AGENT_SECONDS), None
    except (OSError, TimeoutError) as error:
        return {}, TargetUnreachableError(
            "The target did not answer.", f"{str(error) or f'Not within {AGENT_SECONDS:g} s'}.",
            "See `netbridge status`: the connection may be down at the moment.",
        )


def _situation(session: Session, ready: Mapping[str, Any]) -> Situation:
    capturing, agent = session.capturing, session.agent
    facts = agent.hello.get("facts") if agent else None
    facts = facts if isinstance(facts, dict) else {}
    own: dict[str, str] = {}
    servers = facts.get("nameservers")
    for address in servers[:there.MOST] if isinstance(servers, list) else ():
        own[str(address)] = "it is the target's own nameserver"
    if facts.get("ssh_peer"):
        own[str(facts["ssh_peer"])] = "it is the other end of the SSH connection"
    return Situation(
        pairs(capturing.captured) if capturing else (), pairs(capturing.excluded) if capturing else (),
        pairs(capturing.skipped) if capturing else (), tuple(capturing.installed) if capturing else (),
        str(ready.get("tun") or "") if ready.get("capture") != "packet" else "", own,
    )


async def _targets(
    trace: Trace, situation: Situation, policy: Policy, ways: Mapping[str, tuple[Way, Connect | None]],
) -> list[Target]:
    sides: dict[str, list[str]] = {}
    for side, names in (("there", trace.there), ("here", trace.here)):
        for address in names.addresses if names else ():
            sides.setdefault(address, []).append(side)
    targets = []
    for address, seen in list(sides.items())[:MOST]:
        way_there, connect_there = ways.get(address, (None, None))
        final = str(ipaddress.ip_address(policy.final(ipaddress.ip_address(address).packed)))
        verdict = policy.check(ipaddress.ip_address(final).packed, trace.port, TCP)
        way = here.way(final)
        if way.kind in NO_WAY:
            way.error = way.error or f"the route says {way.kind}"
        captured = situation.of(address, way_there)
        targets.append(Target(
            address, seen, captured, way_there, connect_there, final, verdict.allowed, verdict.reason, way, None,
        ))
    if trace.port:  # only what a forwarder would try: what is denied, and what never comes here, is not touched
        tried = [target for target in targets if target.allowed and target.captured.state != "never"]
        results = await asyncio.gather(*(here.connect(target.final, trace.port) for target in tried))
        for target, result in zip(tried, results, strict=True):
            target.connect_here = result
    return targets
