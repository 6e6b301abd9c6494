"""Programs of all that a script can say, by seed: options in any combination, windows that close and open, marks,
blocks of SACK, copies of data that contradict each other; beside what :mod:`.randomly` says.
"""

from __future__ import annotations

import random

from .calls import Calls

CALLS = ("write 10", "write 1000", "shutdown", "close", "abort", "pause", "read", "write 2500")
CALL_WEIGHTS = (9, 6, 4, 3, 1, 4, 6, 3)
FLAGS = ("A", "PA", "FA", "R", "RA", "S", "SA", "F", "P", "SFA", "SR", "FRA", "UA", "EA", "CA", "ECA", "SEC", "U", "PF")
FLAG_WEIGHTS = (44, 14, 8, 4, 2, 4, 3, 1, 2, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1)
WINDOWS = (65535, 0, 1, 400, 1500, 3000)
WINDOW_WEIGHTS = (86, 5, 1, 3, 3, 2)


class Wild:
    """A program of `steps` lines; the same for the same seed."""

    def __init__(self, seed: int, steps: int) -> None:
        self._draw = random.Random(f"wild {seed}")
        self._next = 1
        """What comes next of the peer's."""
        self._far = 1
        """One past the farthest that the peer has said."""
        self._stamp = 1000
        offers = [
            word for word in ("mss=536", "sackok", "ts=1000", f"wscale={self._draw.choice((0, 3, 14))}")
            if self._draw.random() < 0.4
        ]
        calls = [call for call in CALLS if call != "write 2500" or "mss=536" not in offers]
        self._calls = Calls(self._draw, calls, CALL_WEIGHTS)
        self._stamped, self._sack = "ts=1000" in offers, "sackok" in offers
        self.lines = self._opening(" ".join(offers))
        while len(self.lines) < steps:
            self.lines.append(self._calls.one() if self._draw.random() < 0.25 else self._segment())

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def _opening(self, offers: str) -> list[str]:
        syn = self._draw.choices(("S", "SEC", "SE"), (8, 2, 1))[0]
        kind = self._draw.choices(("asked", "half", "opened", "connect", "connected", "crossed"), (2, 2, 8, 1, 3, 1))[0]
        stamp = " ts=1000" if self._stamped else ""
        if kind == "asked":
            return ["listen"]
        if kind == "half":
            return ["listen", f"< {syn} 0 {offers}"]
        if kind == "opened":
            return ["listen", f"< {syn} 0 {offers}", f"< A 1 1{stamp}"]
        if kind == "connect":
            return ["connect"]
        return ["connect", f"< {'SA' if kind == 'connected' else 'S'} 0 1 {offers}"]

    def _segment(self) -> str:
        draw, sent = self._draw, self._calls.host_next
        (flags,) = draw.choices(FLAGS, FLAG_WEIGHTS)
        length = draw.choice((0, 0, 0, 1, 10, 100, 1000)) if not {"S", "R"} & set(flags) else 0
        seq = draw.choices(
            (self._next, self._next + draw.randint(1, 300), self._next - draw.randint(1, 300), self._next - 1,
             self._far, self._next + 200_000, self._next + draw.randint(-(2**31), 2**31 - 1)),
            (64, 10, 9, 6, 6, 2, 2),
        )[0]  # fmt: skip
        ack = draw.choices(
            (sent, draw.randint(1, sent), sent + draw.randint(1, 5000),
             draw.randint(-(2**31), 2**31 - 1), 0),
            (78, 12, 4, 4, 1),
        )[0]  # fmt: skip
        if seq == self._next and "R" not in flags and "S" not in flags:
            self._next += length + ("F" in flags)
        if length and seq < self._next + 100_000:
            self._far = max(self._far, seq + length)
        words = [f"< {flags} {seq} {ack} len={length}"]
        (window,) = draw.choices(WINDOWS, WINDOW_WEIGHTS)
        words += [f"win={window}"] if window != WINDOWS[0] else []
        words += ["ce"] if draw.random() < 0.03 else []
        words += ["fill=z"] if length and draw.random() < 0.02 else []
        if self._sack and sent > 200 and draw.random() < 0.06:
            left = draw.randint(1, sent - 1)
            words.append(f"sack={left}-{draw.randint(left + 1, sent + 100)}")
        if self._stamped and draw.random() < 0.97:
            self._stamp += draw.choice((0, 1, 1, 5))
            words.append(f"ts={self._stamp - draw.choices((0, draw.randint(1, 500)), (12, 1))[0]}")
        return " ".join(words)
