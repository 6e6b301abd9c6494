"""The mutator: deterministic, dependency-free, guided by what happened instead of by which lines ran.

An input is picked from the pool (the named corpus at first), changed a few times and run. When the target's label for
what happened is new, the input joins the pool. With the same seed and corpus the same inputs follow each other, so a
failure is found again by the same command; it is also written to a file for `--replay`. Where a folder is given for
what is found, the pool begins with what lies there as well, and new labels' inputs are left there.
"""

from __future__ import annotations

import hashlib
import random
import time
import traceback
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from .target import FOUND, Target, read_found

INTERESTING = (0, 1, 2, 4, 5, 6, 8, 0x0F, 0x10, 0x11, 0x2B, 0x2C, 0x3A, 0x3C, 0x40, 0x45, 0x60, 0x7F, 0x80, 0xFE, 0xFF)
"""Bytes that mean something in a header: versions, protocols, lengths, edges."""
INTERESTING_16 = (0, 1, 7, 8, 19, 20, 40, 48, 0x2000, 0x1FFF, 0x4000, 0x7FFF, 0x8000, 0xFFF8, 0xFFFF)
MAX_LEN = 4096
MAX_POOL = 2000


@dataclass
class Result:
    """How a run over one target went."""

    runs: int = 0
    new: int = 0
    """Inputs made by mutation that led to something new."""
    labels: set[object] = field(default_factory=set)
    failure: bytes | None = None
    error: BaseException | None = None


class Mutator:
    """Makes new inputs from old ones."""

    def __init__(self, seed: str, pool: list[bytes]) -> None:
        self.random = random.Random(seed)
        self.pool = pool or [b""]

    def next(self) -> bytes:
        """One input like those in the pool."""
        return self.changed(self.random.choice(self.pool))

    def changed(self, old: bytes) -> bytes:
        """One input like that."""
        rng = self.random
        data = bytearray(old)
        for _ in range(1 << rng.randrange(4)):
            rng.choice(self._CHANGES)(self, data)
        return bytes(data[:MAX_LEN])

    def _place(self, data: bytearray) -> int:
        # Headers are at the front, so the front is where most changes matter.
        length = len(data) if self.random.random() < 0.3 else min(len(data), 80)
        return self.random.randrange(length)

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._place(data)] ^= 1 << self.random.randrange(8)

    def _set(self, data: bytearray) -> None:
        if data:
            data[self._place(data)] = self.random.choice(INTERESTING)

    def _set_16(self, data: bytearray) -> None:
        if len(data) >= 2:
            at = min(self._place(data), len(data) - 2)
            data[at : at + 2] = self.random.choice(INTERESTING_16).to_bytes(2, self.random.choice(("big", "little")))

    def _step(self, data: bytearray) -> None:
        if data:
            at = self._place(data)
            data[at] = data[at] + self.random.choice((-1, 1)) & 255

    def _cut(self, data: bytearray) -> None:
        del data[self.random.randrange(len(data) + 1) :]

    def _delete(self, data: bytearray) -> None:
        if data:
            at = self._place(data)
            del data[at : at + 1 + self.random.randrange(8)]

    def _insert(self, data: bytearray) -> None:
        at = self._place(data) if data else 0
        data[at:at] = self.random.randbytes(1 + self.random.randrange(8))

    def _repeat(self, data: bytearray) -> None:
        if data:
            at = self._place(data)
            end = at + 1 + self.random.randrange(64)
            data[at:at] = data[at:end]

    def _splice(self, data: bytearray) -> None:
        other = self.random.choice(self.pool)
        at = self.random.randrange(min(len(data), len(other)) + 1)
        data[at:] = other[at:]

    def _append(self, data: bytearray) -> None:
        data += self.random.choice(self.pool)

    _CHANGES = (_flip, _flip, _set, _set, _set_16, _set_16, _step, _cut, _delete, _insert, _repeat, _splice, _append)


def fuzz(
    target: Target, *, seed: int = 0, seconds: float | None = None, runs: int | None = None, found: Path | None = None,
) -> Result:  # fmt: skip
    """Run `target` on its corpus and then on mutations of it, for so long or so often, until something breaks."""
    end = None if seconds is None else time.monotonic() + seconds
    result = Result()
    pool = list(target.corpus().values())
    if found is not None:
        found.mkdir(parents=True, exist_ok=True)
        pool += read_found(found)
    for data in pool:
        if not _try(target, data, result):
            return result
    mutator = Mutator(f"{seed}/{target.name}", pool[:MAX_POOL])
    for number in count():
        if (runs is not None and number >= runs) or (end is not None and time.monotonic() >= end):
            return result
        data = mutator.next()
        if number % 4:
            data = target.repair(data)
        known = len(result.labels)
        if not _try(target, data, result):
            return result
        if len(result.labels) > known:
            result.new += 1
            if found is not None:
                (found / name_of(data)).write_bytes(data)
            if len(mutator.pool) < MAX_POOL:
                mutator.pool.append(data)
    raise AssertionError


def _try(target: Target, data: bytes, result: Result) -> bool:
    result.runs += 1
    try:
        result.labels.add(target.run(data))
    except Exception as error:
        result.failure, result.error = data, error
        return False
    return True


def broken(target: Target, data: bytes, error: BaseException | None) -> str:
    """Keep an input that breaks its target, and say how to see that again."""
    FOUND.mkdir(parents=True, exist_ok=True)
    path = FOUND / f"{target.name}-{name_of(data)}.hex"
    path.write_text(data.hex() + "\n")
    said = "" if error is None else "".join(traceback.format_exception(error))
    said += f"broken: {target.invariant}\nagain:  python -m fuzz --target {target.name} --replay {path}"
    print(said, flush=True)
    return said


def name_of(data: bytes) -> str:
    """A short name for an input nobody named."""
    return hashlib.sha256(data).hexdigest()[:12]
