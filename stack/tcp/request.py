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
    from .endpoint import Tcp
    from .flow import Flow
    from .user import ConnectionUser


class TcpRequest:
    """A SYN that waits. The first of `accept`, `refuse`, `unreachable` and `drop` ends it, or the peer does."""

    __slots__ = (
        "_tcp", "asked_at", "destination", "destination_port", "ecn", "key", "on_cancel", "quoted", "raw_options",
        "repeated", "seq", "source", "source_port", "ttl", "window",
    )  # fmt: skip

    def __init__(
        self, tcp: Tcp, key: bytes, source: bytes, source_port: int, destination: bytes, destination_port: int,
        seq: int, window: int, raw_options: bytes, ttl: int, quoted: bytes,
    ) -> None:  # fmt: skip
        self._tcp = tcp
        self.key = key
        """Both addresses and ports as they stand in the packet; names the flow in its stack."""
        self.source = source
        """Packed address of the peer that asks."""
        self.source_port = source_port
        self.destination = destination
        """Packed address it wants to reach."""
        self.destination_port = destination_port
        self.seq = seq
        self.window = window
        self.ecn = False
        """Whether the SYN asks for ECN."""
        self.raw_options = raw_options
        """As they stand in the SYN: of a flood most are never read."""
        self.asked_at = monotonic()
        """When its last SYN came, in monotonic seconds."""
        self.repeated = 0
        """SYNs that came after the first."""
        self.ttl = ttl
        """Hops left after this one."""
        self.quoted = quoted
        """The packet's first bytes, for an ICMP error."""
        self.on_cancel: Callable[[], None] | None = None
        """Called when the peer takes the request back (RST) or the stack closes; nothing may be answered then."""

    def __repr__(self) -> str:
        return f"<TcpRequest {text(self.source)}:{self.source_port} > {text(self.destination)}:{self.destination_port}>"

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
