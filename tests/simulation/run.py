"""One trial: connections between two stacks over a path, until nothing is left to happen; and what must hold then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from random import Random
from typing import Any

from netbridge.stack.link.fault import NO_FAULTS, Faults
from netbridge.stack.tcp.budget import FLOOR
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.flow import Flow
from tests import balance

from .clock import VirtualLoop
from .ends import End, Habit
from .network import PORT, Network, seeded

LIMIT = 6 * 3600.0
"""Seconds, usually: a lost packet may cost minutes of back-off."""


@dataclass(frozen=True)
class Trial:
    """What is tried."""

    habits: tuple[tuple[Habit, Habit], ...]
    """Of each connection: who opens it, who accepts it."""
    left: TcpConfig = field(default_factory=TcpConfig)
    right: TcpConfig = field(default_factory=TcpConfig)
    up: Faults = NO_FAULTS
    down: Faults = NO_FAULTS
    version: int = 4
    mtu: int = 1500
    offload: bool = False
    crossing: bool = False
    """Both ends open the one connection at once."""
    one_port: bool = False
    """The connections come one after another, from the same port."""
    narrows: tuple[float, int] | None = None
    """From when on the path takes packets of so many bytes only."""
    outage: tuple[float, float] | None = None
    """Nothing passes from when to when; for ever, where that is infinite."""
    freeze: tuple[float, float] | None = None
    """From when on everything takes how much longer, for a moment; nothing overtakes it."""
    limit: float = LIMIT
    """Seconds of the stacks' time in which everything must be over."""
    segment: int | None = None
    """Bytes of a usual segment, where that is less than a packet takes."""
    waste: float = 0.0
    """Bytes that may be sent again for each that is sent."""
    slack: int = 0
    """Packets that may be sent again besides, for each connection."""


@dataclass(frozen=True)
class Outcome:
    """What it took."""

    useful: int
    """Bytes that were to be carried."""
    sent: int
    """Bytes of payload that were, copies included."""
    packets: int
    """Packets sent by both stacks."""
    seconds: float
    """When the last of it happened, in the stacks' time."""


def run(trial: Trial, seed: int, trace: Callable[[str], object] | None = None) -> Outcome:
    """Run it; raises AssertionError or StuckError where something does not hold."""
    loop = VirtualLoop(trial.limit)
    with seeded(seed), asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(_run(loop, trial, seed, trace))


async def _run(loop: VirtualLoop, trial: Trial, seed: int, trace: Callable[[str], object] | None) -> Outcome:
    random = Random(seed)
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    network = Network(
        loop, seed, left=trial.left, right=trial.right, up=trial.up, down=trial.down, mtu=trial.mtu,
        offload=trial.offload, narrows=trial.narrows, wrapping=not trial.one_port, trace=trace,
    )  # fmt: skip
    def look() -> None:
        for stack in (network.left, network.right):
            budget = stack.tcp.budget
            assert budget.used <= budget.most + FLOOR * len(trial.habits), f"{budget.used} bytes held"

    pairs = [(End(one, random, look), End(other, random, look)) for one, other in trial.habits]
    ports: dict[int, End] = {}
    dies = trial.outage is not None and trial.outage[1] == inf

    def opened(flow: Flow) -> End:
        end = ports[flow.remote[1]]
        end.flow = flow
        return end

    with network:
        network.right.tcp.listen(None, PORT, opened)
        for one, other in pairs:
            if trial.one_port:
                ports[50001] = other
                one.flow = network.connect_from(50001, one, trial.version)
                await one.ended
            elif trial.crossing:
                one.flow, other.flow = network.cross((one, other), trial.version)
            else:
                one.flow = network.connect(one, trial.version)
                ports[one.flow.local[1]] = other
        if trial.outage is not None:
            dead = Faults(loss=1.0)
            loop.call_at(trial.outage[0], lambda: network.path.set_faults(sent=dead, received=dead))
            if not dies:
                loop.call_at(trial.outage[1], lambda: network.path.set_faults(sent=trial.up, received=trial.down))
        if trial.freeze is not None:
            at, longer = trial.freeze
            slow = [replace(one, delay=one.delay + longer) for one in (trial.up, trial.down)]
            loop.call_at(at, lambda: network.path.set_faults(sent=slow[0], received=slow[1]))
            loop.call_at(at + 0.05, lambda: network.path.set_faults(sent=trial.up, received=trial.down))
        await loop.idle()
        assert not complaints, complaints
        for one, other in pairs:
            _check_pair(one, other, dies=dies)
        return _check_stacks(network, trial, loop.time())


def _check_pair(one: End, other: End, *, dies: bool) -> None:
    """Every byte once and in order, and both ends told of the end; where one aborted or the path died, a part of it."""
    aborted = any("aborted" in end.calls for end in (one, other))
    for end, peer in ((one, other), (other, one)):
        if not hasattr(end, "flow"):
            assert aborted, "never opened"
            continue
        who = f"{end.flow!r} {end.calls} {len(end.received)} of {len(peer.sends)} bytes"
        assert end.over, who
        assert peer.sends.startswith(end.received), f"wrong bytes: {who}"
        if dies:
            assert end.error is None or isinstance(end.error, TimeoutError), f"{who}: {end.error!r}"
        elif aborted:
            assert end.error is None or isinstance(end.error, ConnectionResetError), f"{who}: {end.error!r}"
        else:
            assert end.error is None, f"{who}: {end.error!r}"
            assert len(end.received) == len(peer.sends), who
            assert end.calls == ["connected", "eof", "closed"], who


def _check_stacks(network: Network, trial: Trial, seconds: float) -> Outcome:
    """Nothing is left of the connections, and no more was sent than they needed."""
    for stack in (network.left, network.right):
        tcp = stack.tcp
        assert not tcp.flows
        assert not tcp.requests
        assert not tcp.waiting
        assert not any(listener.half_open for listener in tcp.listeners.values())
        assert (tcp.budget.used, tcp.budget.widened, tcp.sending) == (0, 0, 0)
        assert len(stack.timers) == 0
        assert not (unbalanced := balance.whole_stack(stack)), unbalanced
    useful = sum(one.size + other.size for one, other in trial.habits)
    counters = [stack.tcp.counters for stack in (network.left, network.right)]
    sent = sum(one.bytes_out for one in counters)
    packets = sum(one.segments_out for one in counters)
    mss = (trial.narrows[1] if trial.narrows else trial.mtu) - 60
    extra = trial.slack * len(trial.habits)
    # Each segment has an acknowledgement at most; opening and closing take eight packets.
    assert sent <= useful * (1 + trial.waste) + extra * mss, f"storm: {sent} bytes sent for {useful}"
    segments = useful / min(trial.segment or mss, mss) + len(trial.habits)
    most = 8 * len(trial.habits) + 2 * segments * (1 + trial.waste) + 4 * extra
    assert packets <= most, f"storm: {packets} packets for {useful} bytes, expected {most:.0f} at most"
    return Outcome(useful, sent, packets, seconds)
