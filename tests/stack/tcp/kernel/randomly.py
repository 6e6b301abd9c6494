"""Scripts by chance: mostly what a peer says next, sometimes what none would, by the numbers in force.

The generator keeps count by what it says itself, not by the answers, so the seed alone gives the script.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from .calls import Calls
from .script import Step, parse

OPENED = "listen\n< S 0 {offers}\n< A 1 1 {stamp}"
OPENINGS = ("listen\n< S 0 {offers}", OPENED, OPENED, OPENED, "connect", "connect\n< SA 0 1 {offers}")
FLAGS = ("A", "PA", "FA", "R", "RA", "S", "SA", "F", "P", "SFA", "SR", "FRA", "UA")
FLAG_WEIGHTS = (46, 16, 9, 4, 2, 4, 3, 1, 2, 1, 1, 1, 2)
CALLS = ("write 10", "write 1000", "write 2500", "shutdown", "close", "abort", "pause", "read")
CALL_WEIGHTS = (8, 6, 4, 5, 4, 1, 3, 4)


class Chance:
    """An endless script, cut after some steps; the same for the same seed."""

    def __init__(self, seed: int, steps: int) -> None:
        self._random = random.Random(seed)
        self._steps = steps
        self._next = 1
        """What comes next of the peer's."""
        self._calls = Calls(self._random, CALLS, CALL_WEIGHTS)
        self._offers = self._random.choice(("", "", "sackok", "ts=1000", "ts=1000 sackok wscale=3"))
        self._stamp = 1000

    def __iter__(self) -> Iterator[tuple[str, Step]]:
        stamp = "ts=1000" if "ts" in self._offers else ""
        opening = parse(self._random.choice(OPENINGS).format(offers=self._offers, stamp=stamp))
        yield from opening
        for _ in range(self._steps - len(opening)):
            yield from parse(self._calls.one() if self._random.random() < 0.25 else self._segment())

    def _segment(self) -> str:
        draw, sent = self._random, self._calls.host_next
        (flags,) = draw.choices(FLAGS, FLAG_WEIGHTS)
        length = draw.choice((0, 0, 0, 1, 10, 100, 1000)) if not {"S", "R"} & set(flags) else 0
        seq = self._next + draw.choices(
            (0, draw.randint(1, 200), -draw.randint(1, 200), -1, 200_000, draw.randint(-(2**31), 2**31 - 1)),
            (70, 9, 9, 6, 3, 3),
        )[0]
        ack = sent + draw.choices(
            (0, -draw.randint(0, sent - 1), draw.randint(1, 5000), draw.randint(-(2**31), 2**31 - 1)),
            (80, 10, 5, 5),
        )[0]
        if seq == self._next and "R" not in flags and "S" not in flags:
            self._next += length + ("F" in flags)
        more = ""
        if "ts" in self._offers:
            self._stamp += draw.choice((0, 1, 1, 5))
            more = f" ts={self._stamp - draw.choices((0, draw.randint(1, 500)), (12, 1))[0]}"
        return f"< {flags} {seq} {ack} len={length}{more}"
