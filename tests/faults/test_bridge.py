"""A bridge whose calls into the system fail, one after the other (see `seam.py`): what is left works, and says why.

A sample by seed; `make faults` tries everything.
"""

from __future__ import annotations

import os
import time

import pytest

from .seam import Fault
from .trying import END, WHILE, Bench, Case, chosen

SEED = int(os.environ.get("NETBRIDGE_FAULTS_SEED", "9"))
WHILE_IT_RUNS, STARTING = 30, 3
KNOWN = [  # what was found by the first whole run
    "bridge.dns.watched:refresh:open EMFILE", "bridge.control:start:socket EMFILE",
    "bridge.control:start:epoll.register ENOSPC", "bridge.metrics.server:start:socket ENOBUFS",
    "bridge.runtime:_guard:fstat ENOMEM", "bridge.runtime:_lock:fstat ENOMEM", "bridge.runtime:give:chmod EROFS",
    "bridge.runtime:_numbers:listdir EMFILE", "bridge.runtime:_numbers:listdir EACCES",
    "bridge.routes.notice:notice:epoll.register ENOMEM",
    "bridge.session:_living:thread EAGAIN", "bridge.forward.poller:__init__:epoll EMFILE",
]  # fmt: skip
AT_THE_END = ["bridge.runtime:remove:unlink EROFS"]


def test_while_it_runs(bench: Bench) -> None:
    cases = [it for it in bench.baseline.cases(errands=True) if it.fault.last == it.fault.first]
    cases = chosen(cases, WHILE_IT_RUNS, SEED)
    print(f"seed {SEED}: {len(cases)} faults on one bridge")
    wrong = bench.together(cases)
    assert not wrong, "\n".join(wrong)
    assert sum(1 for case in cases if bench.hit[case]) > len(cases) * 0.8, "the seam missed what it was to hit"


def test_starting_and_ending(bench: Bench) -> None:
    cases = [Case(Fault(site, error, 1, 1), WHILE) for site, error in map(str.split, KNOWN)]
    cases += [Case(Fault(site, error), END) for site, error in map(str.split, AT_THE_END)]
    cases += chosen(bench.baseline.cases(errands=False), STARTING, SEED)
    print(f"seed {SEED}: {len(cases)} bridges")
    wrong = [each for case in cases for each in bench.alone(case)]
    assert not wrong, "\n".join(wrong)
    missed = [str(case) for case in cases[:-STARTING] if not bench.hit[case]]
    assert not missed, f"the seam missed what it was to hit: {missed}"


def test_clocks_that_jump(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall's forth and back; and the monotonic one, which is what SIGSTOP looks like."""
    ahead = {"wall": 0.0, "monotonic": 0.0}
    now, now_ns, monotonic = time.time, time.time_ns, time.monotonic
    monkeypatch.setattr(time, "time", lambda: now() + ahead["wall"])
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + int(ahead["wall"] * 1e9))
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + ahead["monotonic"])

    def jump(clock: str, seconds: float) -> None:
        ahead[clock] += seconds

    wrong = bench.jumping(jump, [("wall", 86400), ("wall", -40 * 86400), ("monotonic", 30), ("monotonic", 550)])
    assert not wrong, "\n".join(wrong)
