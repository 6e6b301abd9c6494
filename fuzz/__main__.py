"""`python -m fuzz`: fuzz all targets, or one; replay an input; hand a target to atheris where that is installed."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from .engine import fuzz, name_of
from .target import Target, load, names


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together (60)")
    parser.add_argument("--runs", type=int, help="mutations a target, instead of a time")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other inputs (0)")
    parser.add_argument("--target", choices=names(), help="only this one")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run --target on the hexadecimal input in FILE")
    parser.add_argument("--atheris", action="store_true", help="fuzz --target by coverage, with atheris")
    parser.add_argument("--list", action="store_true", help="the targets and what must hold for each")
    args = parser.parse_args()
    if (args.replay or args.atheris) and not args.target:
        parser.error("--replay and --atheris need --target")
    chosen = [load(name) for name in ([args.target] if args.target else names())]
    if args.list:
        for target in chosen:
            print(f"{target.name:11} {target.invariant}")
        return 0
    if args.replay:
        print(chosen[0].run(bytes.fromhex(args.replay.read_text())))
        return 0
    if args.atheris:
        return _atheris(chosen[0], args.seconds)
    return max(_fuzz(target, args, len(chosen)) for target in chosen)


def _fuzz(target: Target, args: argparse.Namespace, share: int) -> int:
    seconds = args.seconds / share if args.runs is None else None
    result = fuzz(target, seed=args.seed, seconds=seconds, runs=args.runs)
    verdict = "BROKEN" if result.error else "ok"
    print(f"{target.name:11} {result.runs:8} runs {len(result.labels):5} outcomes  {verdict}", flush=True)
    if result.error is None or result.failure is None:
        return 0
    path = Path(tempfile.gettempdir()) / f"fuzz-{target.name}-{name_of(result.failure)}.hex"
    path.write_text(result.failure.hex() + "\n")
    traceback.print_exception(result.error)
    print(f"broken: {target.invariant}\nagain:  python -m fuzz --target {target.name} --replay {path}")
    return 1


def _atheris(target: Target, seconds: float) -> int:
    try:
        import atheris
    except ModuleNotFoundError:
        print("atheris is not installed here: pip install atheris (Linux, CPython 3.11 to 3.13)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as corpus:
        for name, data in target.corpus().items():
            Path(corpus, name).write_bytes(data)
        for name in list(sys.modules):
            if name.startswith("netbridge.") or name == f"fuzz.targets.{target.name}":
                del sys.modules[name]  # loaded again, this time with its branches counted
        with atheris.instrument_imports():
            instrumented = load(target.name)

        def once(data: bytes) -> None:
            instrumented.run(data)

        atheris.Setup([sys.argv[0], f"-max_total_time={seconds:.0f}", corpus], once)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
