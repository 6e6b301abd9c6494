"""What a trace finds out. Every field stands in the JSON; texts from over there are untrusted until they are shown."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Answer:
    """What one of those who can be asked says of a name."""

    who: str
    """own: a nameserver of the target; bridge: this machine by way of the bridge; here: this machine's resolver."""
    server: str
    """The nameserver's address, "hosts", or "system" (getaddrinfo)."""
    name: str
    """The full name that was asked for: a short one stands for several."""
    rcode: str
    """NOERROR, NXDOMAIN …; empty when nothing came."""
    addresses: list[str]
    seconds: float
    error: str = ""


@dataclass(slots=True)
class Names:
    """How one side resolves the host."""

    addresses: list[str] = field(default_factory=list)
    """What a program there gets, in the order in which it would try them."""
    who: str = ""
    """Whose answer that is: literal, hosts, own, bridge, here, system; empty: nobody's."""
    server: str = ""
    """Its nameserver, where it is one's."""
    name: str = ""
    """The full name that answered."""
    seconds: float = 0.0
    error: str = ""
    answers: list[Answer] = field(default_factory=list)
    """Everyone's who was asked."""
    search: list[str] = field(default_factory=list)
    nameservers: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Way:
    """The route to an address, on one side."""

    interface: str = ""
    route: str = ""
    """Its prefix; empty where the system does not tell."""
    gateway: str = ""
    source: str = ""
    kind: str = ""
    """unicast, local, unreachable …"""
    error: str = ""
    """Why there is none."""


@dataclass(slots=True)
class Connect:
    """A TCP connect that was tried."""

    code: str = ""
    """The error's name (ECONNREFUSED); empty: it worked."""
    error: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class Captured:
    """Whether packets to an address come through the bridge."""

    state: str
    """captured, excluded, never, overlap, left out, not wanted, unknown."""
    network: str = ""
    """The network that decides it."""
    reason: str = ""


@dataclass(slots=True)
class Target:
    """One address, all the way."""

    address: str
    seen: list[str]
    """On which sides the host resolves to it: there, here."""
    captured: Captured
    way_there: Way | None
    connect_there: Connect | None
    """Where it does not come through the bridge, and a port was named."""
    final: str
    """What a socket here connects to: another address where this one is an alias."""
    allowed: bool
    rule: str
    """Why the policy denies it."""
    way_here: Way | None
    connect_here: Connect | None
    works: bool = False
    problem: dict[str, str] | None = None
    """what, why, todo."""


@dataclass(slots=True)
class Trace:
    """All of it."""

    host: str
    port: int
    bridge: dict[str, Any] | None
    """number, target, state of the bridge; None when none runs."""
    there: Names | None
    here: Names
    targets: list[Target] = field(default_factory=list)
    works: bool = False
    problem: dict[str, str] | None = None
    """The first thing that stops it: what, why, todo."""

    def as_json(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)
