"""The target, reached as `up` reaches it: each stage timed, then its agent asked; nothing is set up there."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator

from netbridge.stack.link.base import LinkError

from .. import control, runtime
from ..agent.probing import MOST_FILL
from ..bootstrap import AgentHandle, AgentOptions, agent_command, start_agent
from ..errors import BridgeError
from ..machine import identity
from ..options import Options
from ..rivals import to_replace
from ..routes import Snapshot
from ..transport.base import Transport
from ..transport.target import CodespaceTarget, parse_target
from ..user import User
from . import place
from .networks import wanted
from .report import Check, fault, note, ok, there

PINGS = 5
MEASURE_SECONDS = 1.0
"""At most so long, and so few bytes, that a line paid by volume does not mind."""
MOST_BYTES = 2 << 20
FIRST_FILL = 1 << 14


async def checks(options: Options, transport: Transport, user: User, snapshot: Snapshot | None) -> AsyncIterator[Check]:
    """All of them, as far as the target is reached. The transport is closed afterwards."""
    agent: AgentHandle | None = None
    try:
        stage, begun = "reached", time.monotonic()
        try:
            await transport.connect()
            reached = time.monotonic()
            stage = "login"
            choice = AgentOptions(mend=transport.mend)
            channel = await transport.open(agent_command(choice))
            opened = time.monotonic()
            stage = "agent"
            agent = await start_agent(channel, options=choice)
        except BridgeError as error:
            yield there(fault(stage, error))
            return
        times = {"reached": reached - begun, "login": opened - reached, "agent": time.monotonic() - opened}
        yield there(ok(
            "reached", f"in {times['reached']:.1f} s, logged in after {times['login']:.1f} s more, agent after"
            f" {times['agent']:.1f} s", seconds={name: round(took, 3) for name, took in times.items()},
        ))
        async for check in _ask(agent, options, transport, user, snapshot):
            yield there(check)
    finally:
        if agent is not None:
            await agent.stop()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(5):
                await transport.close()


async def _ask(
    agent: AgentHandle, options: Options, transport: Transport, user: User, snapshot: Snapshot | None,
) -> AsyncIterator[Check]:
    try:
        probed = await agent.probe()
    except BridgeError as error:
        yield fault("agent", error)
        return
    capture = wanted(snapshot, options, [transport.peer_address or ""])
    kind = "tun" if transport.passes_descriptors else options.capture
    for check in place.checks(agent.hello, probed, kind, transport.mend, capture):
        yield check
    yield await _rivals(agent, options, user)
    try:
        yield await _line(agent)
    except (BridgeError, OSError, TimeoutError, LinkError) as error:
        yield fault("line", error if isinstance(error, BridgeError) else BridgeError(
            "The line broke while it was measured.", f"{str(error) or 'Nothing came back'}.", "Try again."))
        return
    codespace = isinstance(parse_target(options.target), CodespaceTarget)
    yield place.awake(options.ping_interval, options.keep_awake, codespace)


async def _rivals(agent: AgentHandle, options: Options, user: User) -> Check:
    """Whether somebody has the target already, as `up` would find it."""
    bridges = place.part(agent.hello, "facts").get("bridges")
    living = await asyncio.to_thread(_living)
    machine = identity(user)["id"]
    try:
        left = to_replace(
            bridges, machine=machine, living=living, take_over=options.take_over, target=options.target,
        )
    except BridgeError as error:
        ours = any(isinstance(it, dict) and it.get("session") in living for it in place.items(bridges))
        return place.held(error, ours=ours)
    if left:
        return note("other bridges", "what a killed netbridge left there gives way to the next `up`")
    return ok("other bridges", "none")


def _living() -> set[str]:
    found = set()
    for folder in runtime.folders():
        with folder:
            found |= {str(bridge.get("session")) for bridge in control.statuses(folder)}
    return found


async def _line(agent: AgentHandle) -> Check:
    """Round trips, then a second's worth of bytes from there."""
    trips = [await agent.ping(5.0) for _ in range(PINGS)]
    trip = statistics.median(trips)
    begun, size, total, rate = time.monotonic(), FIRST_FILL, 0, 0.0
    while time.monotonic() - begun < MEASURE_SECONDS and total < MOST_BYTES:
        asked = time.monotonic()
        message = await agent.probe(fill=size)
        pieces = message.get("data")
        got = sum(len(str(piece)) for piece in pieces) if isinstance(pieces, list) else 0
        total += got
        took = time.monotonic() - asked
        rate = max(rate, got / max(took - min(trips), took / 2))  # a busy moment's round trip is not what it took
        if took < MEASURE_SECONDS / 4:
            size = min(4 * size, MOST_FILL)
    return place.line(trip, rate if total > 4 * FIRST_FILL else 0.0, total)

