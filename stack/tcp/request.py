"""A connection request held back: its SYN is answered only when whoever re-originates the flow knows how (RFC 9293
leaves the time to the listener). An application over there then sees exactly what a direct connection would show.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from ..packet import text
from .segment import Options, parse_options

if TYPE_CHECKING:
    from ..icmp.wire import Problem
    from .flow import Flow
    from .strays import Stray, Strays
    from .user import ConnectionUser


class TcpRequest:
    """A SYN that waits. The first of `accept`, `refuse`, `unreachable` and `drop` ends it, or the peer does."""

    __slots__ = (
        "_tcp", "asked_at", "destination", "destination_port", "ecn", "key", "next", "on_cancel", "quoted",
        "raw_options", "repeated", "seq", "source", "source_port", "ttl", "window",
    )  # fmt: skip

    def __init__(self, tcp: Strays, syn: Stray) -> None:
        self._tcp = tcp
        self.key = syn.key
        """Both addresses and ports as they stand in the packet; names the flow in its stack."""
        self.source, self.source_port = syn.source
        """Packed address and port of the peer that asks."""
        self.destination, self.destination_port = syn.destination
        """What it wants to reach."""
        self.ttl = syn.hops - 1
        """Hops left after this one."""
        self.quoted = syn.quoted
        """The packet's first bytes, for an ICMP error."""
        self.repeated = 0
        """SYNs that came after the first."""
        self._take(syn)
        self.on_cancel: Callable[[], None] | None = None
        """Called when the peer takes the request back (RST) or the stack closes; nothing may be answered then."""

    def __repr__(self) -> str:
        return f"<TcpRequest {text(self.source)}:{self.source_port} > {text(self.destination)}:{self.destination_port}>"

    def again(self, syn: Stray) -> None:
        """Repeated, or, where the peer gave up and the port was used again, another: answer what it sent last."""
        self._take(syn)
        self.repeated += 1

    def _take(self, syn: Stray) -> None:
        self.seq = syn.seq
        self.next = syn.next
        """The sequence number after the SYN and what came with it."""
        self.window = syn.window
        self.ecn = syn.asks_for_ecn
        self.raw_options = syn.options
        """As they stand in the SYN: of a flood most are never read."""
        self.asked_at = monotonic()
        """When its last SYN came, in monotonic seconds."""

    @property
    def options(self) -> Options:
        """What the SYN offers."""
        return parse_options(self.raw_options)

    @property
    def pending(self) -> bool:
        """Whether it still waits: nobody decided it, and the peer did not take it back."""
        return self._tcp.requests.get(self.key) is self

    def accept(self, user: ConnectionUser) -> Flow:
        """Answer with SYN-ACK; `user` hears of the connection from now on. RuntimeError when the request is over."""
        return self._tcp.accept(self, user)

    def refuse(self) -> None:
        """Answer with RST: connection refused."""
        self._tcp.refuse(self)

    def unreachable(self, problem: Problem, source: bytes | None = None, ttl: int = 64) -> None:
        """Answer with an ICMP error from `source`, a packed address; None: from the gateway address."""
        self._tcp.unreachable(self, problem, source, ttl)

    def drop(self) -> None:
        """Answer nothing; the peer's own timer tells it."""
        self._tcp.drop(self)
