"""`python -m tests.agreement`: so many packets, in several processes; what differs without a reason, and figures."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from .run import EXPLAINED, SEGMENT_ROUTING, Tally, agree

CHUNK = 5_000
EACH_ONCE = 500_000
"""Of so many packets each reason is needed, or it is none any more."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.agreement", description=__doc__)
    parser.add_argument("--packets", type=int, default=1_000_000, help="how many (1000000)")
    parser.add_argument("--first", type=int, default=0, help="go on from this one (0)")
    parser.add_argument("--seed", type=int, default=0, help="other packets (0)")
    parser.add_argument("--processes", type=int, default=2, help="at a time (2)")
    args = parser.parse_args()
    began, whole = time.monotonic(), Tally()
    with ProcessPoolExecutor(args.processes) as pool:
        work = [
            pool.submit(agree, args.seed, args.first + at, min(CHUNK, args.packets - at))
            for at in range(0, args.packets, CHUNK)
        ]
        for done in as_completed(work):
            whole.add(found := done.result())
            for fault in found.differing:
                print("FAULT", fault, flush=True)
            if whole.packets % (5 * CHUNK) < CHUNK:
                print(f"{whole.packets} packets, {len(whole.differing)} differ without a reason", flush=True)
    print(f"\n{whole.packets} packets of seed {args.seed} in {time.monotonic() - began:.0f} s:", dict(whole.kinds))
    print(f"{sum(whole.refused.values())} changed ones are refused by our parsers, for {len(whole.refused)} reasons:")
    for table in (whole.refused, whole.explained):
        for why, count in table.most_common():
            print(f"{count:8} {why}")
    needed = {why for why in EXPLAINED if whole.explained[why]} | {SEGMENT_ROUTING}
    unneeded = [why for why in EXPLAINED if why not in needed] if whole.packets >= EACH_ONCE else []
    for why in unneeded:
        print("FAULT no packet needs the reason:", why)
    print("they agree" if not whole.differing and not unneeded else "they do not agree")
    return int(bool(whole.differing or unneeded))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ctrl-c ends all at once: an executor would wait
    sys.exit(main())
