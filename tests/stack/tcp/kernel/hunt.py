"""`python -m tests.stack.tcp.kernel.hunt`: tell Linux and our stack the same programs for a while, and look for a
difference that nothing in :mod:`.accepted` explains; what is found is made as short as it can be (root).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[4] / "src"))

from .both import Busy, Told, tell
from .linux_host import Kernel
from .script import parse
from .wildly import Wild

STEPS = 20
FOUND = Path(__file__).parents[4] / "build" / "fuzz"


def differs(kernel: Kernel, version: int, lines: list[str]) -> Told | None:
    """What came of a program, if the two differ in it without an explanation."""
    told = tell(kernel, version, lambda: parse("\n".join(lines)))
    return told if told.unexplained else None


def shortest(kernel: Kernel, version: int, lines: list[str]) -> list[str]:
    """The program without every line that the difference does not need; and with plainer ones where it needs less."""
    again = True
    while again:
        again = False
        for at in reversed(range(1, len(lines))):
            words = lines[at].split()
            shorter = [lines[:at] + lines[at + 1 :]]
            shorter += [[*lines[:at], " ".join(words[:cut] + words[cut + 1 :]), *lines[at + 1 :]]
                        for cut in range(3, len(words)) if words[0] == "<"]  # fmt: skip
            for one in shorter:
                if differs(kernel, version, one):
                    lines, again = one, True
                    break
    return lines


async def hunt(seconds: float, first: int, most: int) -> int:
    """The exit status: 1 if anything was found."""
    rules = Counter[str]()
    programs = compared = skipped = 0
    found: list[list[str]] = []
    end = time.monotonic() + seconds
    with Kernel() as kernel:
        seed = first
        while time.monotonic() < end and len(found) < most:
            await asyncio.sleep(0)  # ctrl-c is heard here
            lines, version = Wild(seed, STEPS).lines, 6 if seed & 1 else 4
            seed += 1
            try:
                told = tell(kernel, version, lambda: parse("\n".join(lines)))  # noqa: B023
            except (Busy, TimeoutError):
                skipped += 1
                continue
            programs += 1
            compared += told.compared
            rules.update(rule.name for rule in told.rules)
            if told.unexplained:
                short = shortest(kernel, version, lines)
                told = differs(kernel, version, short) or told
                print(f"\nseed {seed - 1}, IPv{version}, {len(short)} lines of {len(lines)}:{told}", flush=True)
                print(f"again: --seed {seed - 1} --most 1; kept in {FOUND}/differential-{seed - 1}.script", flush=True)
                FOUND.mkdir(parents=True, exist_ok=True)
                (FOUND / f"differential-{seed - 1}.script").write_text("\n".join(short) + "\n")
                found.append(short)
    print(
        f"\n{programs} programs from seed {first} on, {compared} steps compared, {len(found)} unexplained differences; "
        f"{skipped} left out, as this machine was too busy"
    )
    print("differences that are explained, by the name of why in accepted.py:")
    for name, count in rules.most_common():
        print(f"{count:8}  {name}")
    return int(bool(found))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stack.tcp.kernel.hunt", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--seed", type=int, default=0, help="the first one (0)")
    parser.add_argument("--most", type=int, default=20, help="differences after which it stops (20)")
    args = parser.parse_args()
    if os.geteuid():
        print("hunt: not run: needs root to make a network namespace", file=sys.stderr)
        return 1
    try:
        return asyncio.run(hunt(args.seconds, args.seed, args.most))
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
