"""Who may come in: sessions at once, handshakes at once, and how many of either one source may have.

Whoever is not let in yet costs a descriptor, a task and a TLS handshake, for ten seconds at most. So those have a
small number of places of their own, counted before the first byte is read, and one source gets only some of them.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable

HANDSHAKES = 64
"""Connections at once that have not proved yet: some seconds' worth of real ones at any size of a cluster."""
PER_SOURCE = 8
"""Of these from one address: a codespace that reconnects has one, some behind one NAT a few."""
TOLD = 5
"""Refusals told one by one in `WINDOW` seconds; the rest as a number, so that no flood fills a log."""
WINDOW = 10.0


class Ticket:
    """One connection's place. Give it back by `leave`."""

    def __init__(self, admission: Admission, source: str) -> None:
        self._admission = admission
        self.source = source
        self.admitted = False
        self._left = False

    def admit(self) -> bool:
        """It has proved: a session's place, or False where there is none."""
        admission = self._admission
        if len(admission.sessions) >= admission.most or (
            admission.sources[self.source] >= admission.per_source
        ):
            return False
        admission.drop(admission.handshakes, self.source)
        admission.sessions.add(self)
        admission.sources[self.source] += 1
        self.admitted = True
        return True

    def leave(self) -> None:
        """It is gone. Idempotent."""
        if self._left:
            return
        self._left = True
        admission = self._admission
        admission.sessions.discard(self)
        admission.drop(admission.sources if self.admitted else admission.handshakes, self.source)


class Admission:
    """The places of one listener."""

    def __init__(self, most: int, per_source: int) -> None:
        self.most = most
        self.per_source = per_source
        self.sessions: set[Ticket] = set()
        self.sources: Counter[str] = Counter()
        self.handshakes: Counter[str] = Counter()

    def enter(self, source: str) -> Ticket | None:
        """A place for a handshake, or None: hang up."""
        source = counted(source)
        if self.handshakes.total() >= HANDSHAKES or self.handshakes[source] >= PER_SOURCE:
            return None
        self.handshakes[source] += 1
        return Ticket(self, source)

    @staticmethod
    def drop(counts: Counter[str], source: str) -> None:
        """One less; a source that has none is forgotten."""
        counts[source] -= 1
        if counts[source] <= 0:
            del counts[source]


def counted(source: str) -> str:
    """What of an address is one source: of IPv6 the /64, which one host may have alone (RFC 6177)."""
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return source
    if address.version == 6:
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.ip_network((address, 64), strict=False))
    return source


class Calm:
    """Tells of refusals at a bounded rate."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._window: asyncio.TimerHandle | None = None
        self._count = 0

    def __call__(self, text: str) -> None:
        if self._window is None:
            self._window = asyncio.get_running_loop().call_later(WINDOW, self._sum_up)
        self._count += 1
        if self._count <= TOLD:
            self._tell(text)

    def _sum_up(self) -> None:
        self._window = None
        more, self._count = self._count - TOLD, 0
        if more > 0:
            self._tell(f"{more} more were refused in the last {WINDOW:g} s")

    def close(self) -> None:
        """Tell no more."""
        if self._window is not None:
            self._window.cancel()
