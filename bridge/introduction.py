"""What a bridge says of itself when its start is done: who was reached, by what, in which time, and what does not work.

What the agent said of the place is untrusted: it becomes text, harmless and of a bounded length.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import events, packetcapture
from .addresses import Addresses
from .forward.policy import Policy
from .hostalias import NAME, HostAlias
from .options import Options
from .plain import clean
from .transport.mend import Mend


class Stages:
    """What a start does, one thing after the other, and how long each takes."""

    def __init__(self) -> None:
        self._begun: list[tuple[str, float]] = []

    def note(self, event: events.Event) -> None:
        """Something was told; a `Starting` begins a stage."""
        if isinstance(event, events.Starting):
            self._begun.append((event.stage, time.monotonic()))

    def times(self, there: object) -> tuple[tuple[str, float], ...]:
        """Names and seconds; `there`: what the agent says of its own part, which is the last stage's."""
        ends = [*[began for _, began in self._begun[1:]], time.monotonic()]
        took = [(stage, round(end - began, 3)) for (stage, began), end in zip(self._begun, ends, strict=True)]
        if isinstance(there, dict):
            took += [
                (name, round(seconds, 3)) for name in ("TUN", "routes", "names")
                if isinstance(seconds := there.get(name), float) and 0 <= seconds <= ends[-1] - self._begun[0][1]
            ]
        return tuple(took)


def dns(options: Options, ready: Mapping[str, Any], private: Iterable[str]) -> events.Dns:
    """Which names are asked here; `private` are the suffixes of this machine."""
    return events.Dns(
        on=bool(ready.get("dns")), mode=options.dns, listen=text(ready, "listen"),
        suffixes=tuple(private) if options.dns == "auto" else (),
    )


def connected(
    options: Options, hello: Mapping[str, Any], ready: Mapping[str, Any], addresses: Addresses, *, mtu: int,
    seconds: float, stages: Stages,
) -> events.Connected:
    """Who was reached, and by what; `seconds` since the start began."""
    return events.Connected(
        target=options.target, host=text(hello, "host"), user=text(hello, "user"), kernel=text(hello, "kernel"),
        python=text(hello, "python"), tun=text(ready, "tun"), mtu=mtu, offload=bool(ready.get("offload")),
        capture=text(ready, "capture") or "tun",
        addresses=packetcapture.sources(ready) if packetcapture.by_packets(ready) else addresses.tun,
        seconds=round(seconds, 3), stages=stages.times(ready.get("took")),
    )


def shortcomings(
    options: Options, ready: Mapping[str, Any], addresses: Addresses, mend: Mend
) -> Iterator[events.Event]:
    """What over there is not as it could be, and why."""
    by_packets = packetcapture.by_packets(ready)
    if by_packets:
        yield events.Hint(packetcapture.costs(ready, asked=options.capture == "packet", mend=mend))
    if options.dns != "off" and not ready.get("dns"):
        why = text(ready, "dns_reason") or "the agent gave no reason"
        yield events.Hint(f"names over there are not asked here: {why}")
    if why := text(ready, "containers_reason"):
        networks = " and ".join(texts(ready.get("containers"))) or "container networks"
        todo = "" if by_packets else f"; what is started with `docker run --dns {addresses.gateways[0]}` resolves them"
        yield events.Hint(f"names in containers on {networks} are not asked here: {why}{todo}")
    if options.forward_agent:
        yield events.SshAgent(text(ready, "ssh_agent"), text(ready, "ssh_agent_reason"))


def loopback(alias: HostAlias, policy: Policy) -> Iterator[events.Event]:
    """What of this machine's loopback is open, and by which name."""
    rules = HostAlias.rules(policy)
    if alias.on:
        yield events.HostAlias(NAME, tuple(map(str, alias.answers(policy))), alias.rules(policy))
    elif rules:
        yield events.Hint(
            f"--allow {', '.join(rules)} opens this machine's loopback, but nothing over there leads to it;"
            " --host-alias does, by a name"
        )


def text(message: Mapping[str, Any], key: str) -> str:
    """A text of a message from the agent; whatever else is there becomes one."""
    value = message.get(key)
    return "" if value is None else clean(str(value))


def texts(value: object, most: int = 256) -> list[str]:
    """So many texts at most of a list in a message from the agent; what is no list is empty."""
    return [clean(str(item)) for item in value[:most]] if isinstance(value, list) else []
