"""Holding packets against each other, and the reasons for which the two may differ, each with what shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from netbridge.stack.errors import WireError

from .packets import CHANGED, packet
from .readings import Reading, by_scapy, by_us

Reason = Callable[[str, Reading, Reading], bool]
"""Of a field, and both readings."""

LENGTHS = {2: 4, 3: 3, 4: 2, 8: 10}
"""Of TCP's options, by kind; SACK has a multiple of eight and two."""
OPTIONS = frozenset({"mss", "wscale", "stamp", "sacks", "sack_permitted"})
ICMP = frozenset({"kind", "code", "echo", "data", "quoted"})


def odd_option(ours: Reading) -> bool:
    """Whether an option of the segment has a length that it cannot have; nothing behind it can be trusted."""
    segment = ours["payload"]
    options = segment[20 : segment[12] >> 4 << 2]
    while options and options[0] != 0:
        if options[0] == 1:
            options = options[1:]
            continue
        length = options[1] if len(options) > 1 else 0
        wrong = options[0] == 5 and (length == 2 or (length - 2) % 8)
        if not 2 <= length <= len(options) or wrong or LENGTHS.get(options[0], length) != length:
            return True
        options = options[length:]
    return False


SEGMENT_ROUTING = "a segment routing header: we step over it by its length, scapy believes its counts"
"""Only chance makes one, out of another kind of routing header, in some of a million; a test has one of its own."""
EXPLAINED: dict[str, Reason] = {
    "an option of TCP with a length that it cannot have: we stop at it or step over it, scapy takes it by its kind": (
        lambda name, ours, theirs: name in OPTIONS and odd_option(ours)
    ),
    "an ICMP type that scapy has no class for, or whose class has more fields than there are bytes, or no code": (
        lambda name, ours, theirs: name in ICMP
        and None in {theirs.get("kind", 0), theirs.get("code", 0)} and theirs["protocol"] == ours["protocol"]
    ),
    "a routing header with half an address: we step over it by its length, scapy over its whole addresses": (
        lambda name, ours, theirs: ours["version"] == 6 and theirs["payload"][8:] == ours["payload"] != b""
    ),
    SEGMENT_ROUTING: (
        lambda name, ours, theirs: theirs.get("segments") is True
    ),
}
"""What scapy reads otherwise, by why ours is right, or as good."""


@dataclass
class Tally:
    """How a run went."""

    packets: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """By our parsers, by reason; only changed packets may be."""
    explained: Counter[str] = field(default_factory=Counter)
    differing: list[str] = field(default_factory=list)
    """Faults of one side or the other: the packet, the field, and what each reads."""

    def add(self, other: Tally) -> None:
        self.packets += other.packets
        self.kinds += other.kinds
        self.refused += other.refused
        self.explained += other.explained
        self.differing += other.differing


def agree(seed: int, first: int, count: int, most: int = 20) -> Tally:
    """Look at `count` packets from number `first` on; stop after `most` differences."""
    tally = Tally()
    for number in range(first, first + count):
        kind, data = packet(seed, number)
        look(tally, number, kind, data)
        if len(tally.differing) >= most:
            break
    return tally


def look(tally: Tally, number: int, kind: str, data: bytes) -> None:
    """Have one packet read by both."""
    tally.packets += 1
    tally.kinds[kind] += 1
    try:
        ours = by_us(data)
    except WireError as error:
        tally.refused[str(error)] += 1
        if kind != CHANGED:
            tally.differing.append(f"{number} ({kind}) is refused: {error}; {data.hex()}")
        return
    theirs = by_scapy(data, ours)
    for name, value in ours.items():
        if theirs[name] == value:
            continue
        why = next((why for why, fits in EXPLAINED.items() if fits(name, ours, theirs)), None)
        if why is None:
            tally.differing.append(
                f"{number} ({kind}) {name}: we read {value!r}, scapy {theirs[name]!r}; {data.hex()}")
        else:
            tally.explained[why] += 1
