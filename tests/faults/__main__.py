"""`python -m tests.faults`: every call with every error it may return, and a table of what came of it.

    python -m tests.faults [bridge] [agent] [--site TEXT] [--most N]

`bridge` is a bridge in this process, `agent` a real agent in namespaces (root). Both unless one is named.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from .agents import Over, with_the_seam
from .bridging import prepared
from .seam import ERRNOS, Fault
from .servers import Servers
from .trying import WHILE, Bench, Case, chosen

TOGETHER = 40
"""Faults that one bridge meets."""


class Table:
    """What was tried, and what came of it."""

    def __init__(self) -> None:
        self.words: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.pairs: set[tuple[str, str]] = set()
        self.wrong: list[str] = []

    def note(self, fault: Fault, word: str) -> None:
        self.pairs.add((fault.site, fault.errno))
        self.words[fault.site][word] += 1

    def tell(self, what: str, began: float) -> None:
        print(f"\n{what}: {len(self.words)} sites, {len(self.pairs)} pairs of site and error, "
              f"{sum(map(Counter.total, self.words.values()))} runs, {time.monotonic() - began:.0f} s, "
              f"{len(self.wrong)} wrong")
        for site, words in sorted(self.words.items()):
            print(f"  {site}: {', '.join(f'{count} {word}' for word, count in sorted(words.items()))}")
        for sentence in self.wrong:
            print(f"WRONG {sentence}")


def bridge(folder: Path, servers: Servers, site: str, most: int) -> Table:
    """The bridge of this process."""
    table, bench = Table(), Bench(servers, folder)
    baseline = bench.look()
    running = wanted(baseline.cases(errands=True), site, most)
    for some in parts(running, TOGETHER):
        table.wrong += bench.together(some)
        for case in some:
            table.note(case.fault, "met by a running bridge" if bench.hit[case] else "not called")
        print(".", end="", flush=True)
    for case in wanted(baseline.cases(errands=False), site, most):
        table.wrong += bench.alone(case)
        table.note(case.fault, f"met {case.when}" if bench.hit[case] else "not called")
    return table


def agent(folder: Path, servers: Servers, site: str, most: int) -> Table:
    """A real agent: the first call of each site, and with `--site` also all of them."""
    table = Table()

    def run(over: Over, fault: Fault | None) -> object:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            return runner.run(over.run(fault))

    with with_the_seam():
        over = Over(folder, servers)
        calm = asyncio.run(over.run(None))
        assert not calm.wrong, calm.wrong
        cases = [
            Case(Fault(each, error, at, at), WHILE)
            for each, count in sorted(calm.calls.items()) for error in ERRNOS[each.rpartition(":")[2]]
            for at in sorted({1, count // 2 + 1})
        ]  # fmt: skip
        for case in wanted(cases, site, most):
            outcome = asyncio.run(over.run(case.fault))
            word = outcome.word if outcome.hits else "not called"
            table.note(case.fault, word)
            table.wrong += [f"{case}: {each}" for each in outcome.wrong]
            print(f"{case}: {word} {outcome.failed or ''} {outcome.ended or ''}", flush=True)
    return table


def wanted(cases: Iterable[Case], site: str, most: int) -> list[Case]:
    """Those of a site, at most so many."""
    found = [case for case in cases if site in case.fault.site]
    return chosen(found, most, 1) if most else found


def parts(cases: list[Case], size: int) -> Iterator[list[Case]]:
    for begin in range(0, len(cases), size):
        yield cases[begin : begin + size]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rooms", nargs="*", metavar="bridge|agent", help="both unless one is named")
    parser.add_argument("--site", default="", help="only calls whose name contains this")
    parser.add_argument("--most", type=int, default=0, help="only so many of them")
    given = parser.parse_args()
    if unknown := set(given.rooms) - {"bridge", "agent"}:
        parser.error(f"bridge or agent, not {', '.join(sorted(unknown))}")
    if "agent" in given.rooms and os.geteuid():
        parser.error("agent builds namespaces: run as root")
    tables = []
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        servers = Servers(folder)
        prepared(patch, servers, folder)
        for room in given.rooms or ["bridge", "agent"]:
            if room == "agent" and os.geteuid():
                print("agent: skipped, it builds namespaces: run as root")
                continue
            began = time.monotonic()
            table = {"bridge": bridge, "agent": agent}[room](folder, servers, given.site, given.most)
            table.tell(room, began)
            tables.append(table)
        servers.close()
    return int(any(table.wrong for table in tables))


if __name__ == "__main__":
    sys.exit(main())
