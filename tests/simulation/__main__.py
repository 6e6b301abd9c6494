"""`python -m tests.simulation [--seeds N] [--scenario NAME] [--seed N]`: every scenario with many seeds.

Prints a line for each scenario. Exit status 1 when something did not hold, with the seed and how to see it again.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.simulation.run import run
from tests.simulation.scenarios import SCENARIOS, trial

PROGRESS = 5.0
"""Seconds between looks at how far it is."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="trials of each scenario (1000)")
    parser.add_argument("--scenario", choices=list(SCENARIOS), help="only this one")
    parser.add_argument("--seed", type=int, help="only this trial of --scenario, packet by packet")
    args = parser.parse_args()
    if args.seed is not None:
        if not args.scenario:
            parser.error("--seed needs --scenario")
        made = trial(args.scenario, args.seed)
        print(made)
        print(run(made, args.seed, trace=print))
        return 0
    chosen = [args.scenario] if args.scenario else list(SCENARIOS)
    return max([_try(name, args.seeds) for name in chosen])


def _try(name: str, seeds: int) -> int:
    began = told = time.monotonic()
    useful = sent = packets = 0
    longest = 0.0
    for seed in range(seeds):
        try:
            outcome = run(trial(name, seed), seed)
        except Exception:
            traceback.print_exc()
            print(f"{name}: seed {seed} failed; packet by packet:\n  {_again(name, seed)}", flush=True)
            return 1
        useful, sent, packets = useful + outcome.useful, sent + outcome.sent, packets + outcome.packets
        longest = max(longest, outcome.seconds)
        if time.monotonic() - told > PROGRESS:
            told = time.monotonic()
            print(f"{name:15} {seed + 1:6} of {seeds}", flush=True)
    print(
        f"{name:15} {seeds:6} seeds in {time.monotonic() - began:5.1f} s: {packets:9,} packets, "
        f"{sent / max(useful, 1):.3f} bytes sent for each carried, the longest trial {longest:,.0f} s",
        flush=True,
    )
    return 0


def _again(name: str, seed: int) -> str:
    return f"python -m tests.simulation --scenario {name} --seed {seed}"


if __name__ == "__main__":
    sys.exit(main())
