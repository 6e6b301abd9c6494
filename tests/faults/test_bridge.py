"""A bridge whose calls into the system fail, one after the other (see `seam.py`): what is left works, and says why.

A sample by seed; `make faults` tries everything.
"""

from __future__ import annotations

import os

from .trying import Bench, chosen

SEED = int(os.environ.get("NETBRIDGE_FAULTS_SEED", "9"))
WHILE_IT_RUNS, STARTING = 40, 12


def test_while_it_runs(bench: Bench) -> None:
    cases = [it for it in bench.baseline.cases(errands=True) if it.fault.last == it.fault.first]
    cases = chosen(cases, WHILE_IT_RUNS, SEED)
    print(f"seed {SEED}: {len(cases)} faults on one bridge")
    wrong = bench.together(cases)
    assert not wrong, "\n".join(wrong)
    assert sum(1 for case in cases if bench.hit[case]) > len(cases) * 0.8, "the seam missed what it was to hit"


def test_starting_and_ending(bench: Bench) -> None:
    cases = chosen(bench.baseline.cases(errands=False), STARTING, SEED)
    print(f"seed {SEED}: {len(cases)} bridges")
    wrong = [each for case in cases for each in bench.alone(case)]
    assert not wrong, "\n".join(wrong)
    assert sum(1 for case in cases if bench.hit[case]) > len(cases) * 0.6, "the seam missed what it was to hit"
