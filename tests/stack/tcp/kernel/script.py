"""What is said to a host under test, line by line; who runs it compares what two hosts make of it.

    < FLAGS seq [ack] [len=N] [win=N] [mss=N] [wscale=N] [sackok] [sack=1-5,9-12] [ts=N] [fill=C] [ce]
        a segment arrives at the host; letters F S R P A U E C, numbers relative to the ISNs. A SYN says mss=1000
        unless told otherwise; `ce`: a router has marked it (RFC 3168).
    listen, connect         how the host's application begins; one of them is the first line
    write N                 it writes so many bytes
    shutdown, close, abort  its half-close, close, and close by reset
    pause, read             it reads no more; it reads again

`#` begins a comment.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .wire import Reply, numbers


@dataclass(frozen=True, slots=True)
class Says:
    """A segment."""

    flags: int
    seq: int
    ack: int
    length: int = 0
    window: int = 65535
    mss: int | None = None
    wscale: int | None = None
    sack_permitted: bool = False
    sacks: tuple[tuple[int, int], ...] = ()
    stamp: int | None = None
    fill: str = ""
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Calls:
    """A call of the application."""

    what: str
    count: int = 0


Step = Says | Calls
CALLS = frozenset({"listen", "connect", "write", "shutdown", "close", "abort", "pause", "read"})


@dataclass(frozen=True, slots=True)
class Seen:
    """What a step made a host do, and how it stands after it."""

    replies: tuple[Reply, ...]
    state: str
    """CLOSED as well when nothing is there."""
    received: bytes = field(repr=False)
    """All that its application has read so far."""
    eof: bool
    error: str
    """What its application was told: the name of an errno, or empty."""

    @property
    def flags(self) -> list[str]:
        """Those of each reply."""
        return [reply.flags for reply in self.replies]

    def __str__(self) -> str:
        said = "; ".join(map(str, self.replies)) or "silence"
        eof = ", end of stream" if self.eof else ""
        return f"{said}  [{self.state}, read {len(self.received)}{eof}{', ' + self.error if self.error else ''}]"


def parse(text: str) -> list[tuple[str, Step]]:
    """The lines of a script, each with what it means."""
    steps: list[tuple[str, Step]] = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        shown = " ".join(words)
        if words[0] == "<":
            steps.append((shown, _says(words[1:])))
        else:
            assert words[0] in CALLS, line
            steps.append((shown, Calls(words[0], int(words[1]) if len(words) > 1 else 0)))
    return steps


def _says(words: list[str]) -> Says:
    flags = numbers(words[0])
    plain = [int(word) for word in words[1:] if "=" not in word and word not in {"sackok", "ce"}]
    named = dict(word.split("=") for word in words[1:] if "=" in word)
    syn = bool(flags & 2)
    return Says(
        flags, plain[0], plain[1] if len(plain) > 1 else 0, int(named.get("len", 0)), int(named.get("win", 65535)),
        int(named.get("mss", 1000)) if syn else None,
        int(named["wscale"]) if "wscale" in named else None,
        "sackok" in words,
        tuple((int(left), int(right)) for left, _, right in (
            block.partition("-") for block in named.get("sack", "").split(",") if block
        )),
        int(named["ts"]) if "ts" in named else None,
        named.get("fill", ""),
        "ce" in words,
    )  # fmt: skip
