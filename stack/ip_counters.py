"""What the IP layer counts on the way in.

Every packet is counted twice: when it came, and once more by what became of it. So the sums must agree, whatever
happened; `tests/balance.py` has the equations, for this room and all others, and every test ends with them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class IpCounters:
    """What came in, and why some of it went no further."""

    packets: int = 0
    """Packets received."""
    malformed: int = 0
    """Dropped: headers that contradict themselves or their checksum."""
    fragments: int = 0
    """Fragments received, each given to reassembly."""
    martian: int = 0
    """Dropped: source or destination that no unicast packet may have, or source equal to destination (LAND)."""
    spoofed: int = 0
    """Dropped: source outside the networks the link may speak for (BCP 38)."""
    group: int = 0
    """Dropped: multicast and broadcast."""
    expired: int = 0
    """Answered with time exceeded: no hops left."""
    unknown_protocol: int = 0
    """Answered with protocol unreachable."""
