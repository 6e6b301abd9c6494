"""`python -m fuzz`: feed all targets, or one, by atheris or our own mutator; replay an input; count lines reached."""

from __future__ import annotations

import argparse
import sys
import traceback
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from . import guided, reached
from .engine import Result, broken, fuzz
from .target import FOUND, Target, load, names
from .together import run_all


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together (60)")
    parser.add_argument("--runs", type=int, help="mutations a target, by our own mutator, instead of a time")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other inputs (0)")
    parser.add_argument("--target", choices=names(), metavar="NAME", help="only this one")
    parser.add_argument("--engine", choices=("atheris", "own"), help="atheris where it is installed")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run --target on the hexadecimal input in FILE")
    parser.add_argument("--coverage", action="store_true", help="only: which lines of the parsers the corpus reaches")
    parser.add_argument("--list", action="store_true", help="the targets and what must hold for each")
    args = parser.parse_args()
    chosen = [args.target] if args.target else names()
    if args.replay and not args.target:
        parser.error("--replay needs --target")
    if not args.seconds > 0:
        parser.error("--seconds: more than 0")
    if args.list:
        for name in chosen:
            print(f"{name:15} {load(name).invariant}")
        return 0
    if args.replay:
        try:
            data = bytes.fromhex(args.replay.read_text())
        except (OSError, ValueError) as error:
            parser.error(f"--replay: {error}")
        return _replay(load(args.target), data)
    if args.coverage:
        return reached.report(chosen, found=False)
    if args.runs is not None:
        return max(_own(load(name), args) for name in chosen)
    if (args.engine or ("atheris" if guided.has_atheris() else "own")) == "atheris":
        print(f"by atheris, going on from what lies in {FOUND}", flush=True)
        targets, run = guided.load_all(chosen), partial(_guided, args.seed)
    else:
        print(f"by our own mutator, going on from what lies in {FOUND}; atheris is not used here", flush=True)
        targets, run = [load(name) for name in chosen], partial(_timed, args.seed)
    broke = run_all(targets, run, seconds=args.seconds)
    few = 0 if args.target else reached.report(chosen)
    # Once more at the end, as the lines of the parsers are many.
    print("\nbroken, see above: " + ", ".join(broke) if broke else f"\nnothing broke in {len(chosen)} targets")
    return int(bool(broke or few))


def _replay(target: Target, data: bytes) -> int:
    """Run one input; the exit status."""
    try:
        label = target.run(data)
    except Exception:
        traceback.print_exc()
        print(f"broken: {target.invariant}")
        return 1
    print(f"holds: {target.invariant}\noutcome: {label}")
    return 0


def _guided(seed: int, target: Target, seconds: float) -> int:
    guided.run(target, seconds=seconds, seed=seed, found=FOUND / target.name)
    return 1


def _timed(seed: int, target: Target, seconds: float) -> int:
    """Goes on from where the last one ended."""
    return _told(target, fuzz(target, seed=seed, seconds=seconds, found=FOUND / target.name))


def _own(target: Target, args: argparse.Namespace) -> int:
    """A number of runs is the same each time."""
    return _told(target, fuzz(target, seed=args.seed, runs=args.runs))


def _told(target: Target, result: Result) -> int:
    verdict = "BROKEN" if result.error else "ok"
    print(
        f"{target.name:14} {result.runs:8} runs {len(result.labels):5} outcomes {result.new:5} new  {verdict}",
        flush=True,
    )
    if result.failure is None:
        return 0
    broken(target, result.failure, result.error)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nstopped; what was found until now is kept", file=sys.stderr)
        sys.exit(130)
