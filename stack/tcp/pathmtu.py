"""What ICMP says about the MTU of a path, and how far it is believed (RFC 1191, RFC 8201; RFC 5927, section 7).

Anybody can forge such an error, and one that is believed makes every segment small. So it has to quote a segment that
is in flight (checked by :mod:`.endpoint`), and to claim less than that segment's size. Where segments of that size were
acknowledged already, the path is known to take them: then the claim waits, and counts only if the segment is not
acknowledged before the retransmission timer expires.
"""

from __future__ import annotations

LEAST = {4: 552, 6: 1280}
"""Smaller claims are raised to it (IPv4; Linux's min_pmtu: no link of today takes less) or ignored (RFC 8201, 4)."""
PLATEAUS = (65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 552)
"""RFC 1191, section 7.1: what to try when a router does not say what it would take."""
REMEMBERED = 600.0
"""Seconds after which a path may be tried with larger packets again (RFC 1191, section 6.3)."""
MOST = 4096
"""Destinations remembered, the oldest forgotten first."""


def claimed_mtu(version: int, mtu: int, quoted_size: int) -> int:
    """The MTU to use after an error that claims `mtu` for a packet of `quoted_size` bytes; 0: not to be believed."""
    if version == 4:
        if mtu == 0:
            mtu = next((size for size in PLATEAUS if size < quoted_size), 0)
        mtu = max(mtu, LEAST[4])
    elif mtu < LEAST[6]:
        return 0
    return mtu if mtu < quoted_size else 0


class PathMtus:
    """The MTUs learned, by packed destination; new connections begin with them."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, destination: bytes, mtu: int, now: float) -> None:
        """The path to `destination` takes no more than `mtu`."""
        known = self._known
        known.pop(destination, None)
        if len(known) >= MOST:
            del known[next(iter(known))]
        known[destination] = (mtu, now + REMEMBERED)

    def get(self, destination: bytes, otherwise: int, now: float) -> int:
        """What the path to `destination` takes: what was learned of late, at most `otherwise`, the link's own."""
        found = self._known.get(destination)
        if found is None:
            return otherwise
        mtu, until = found
        if now >= until:
            del self._known[destination]
            return otherwise
        return min(mtu, otherwise)
