"""All targets, as many at a time as there are processors, each in a process of its own; and a table of how it went.

The targets are loaded once and the processes forked: to make branches countable takes longer than many a target runs.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .engine import broken
from .target import FOUND, Target

LATE = 60.0
"""Seconds that a target may take beyond its time: to run what was found before, for a last slow input."""
BROKEN = ("crash-", "timeout-", "oom-", "leak-", "slow-unit-")
"""What libFuzzer's files are called that hold an input which broke something."""
TICK = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went for one target."""

    name: str
    runs: int
    new: int
    """Inputs kept, as they led to something new."""
    error: str
    """What the target's process said; empty if nothing broke."""


def run_all(targets: list[Target], run: Callable[[Target, float], int], *, seconds: float) -> list[str]:
    """Let `run` fuzz each target, in a process of its own, for so many seconds together; the names of what broke."""
    workers = min(os.cpu_count() or 1, len(targets))
    share = seconds * workers / len(targets)
    print(f"{len(targets)} targets for {seconds:g} s, {workers} at a time, {share:.1f} s each", flush=True)
    begun = time.monotonic()
    outcomes: list[Outcome] = []
    waiting, running = list(targets), dict[int, tuple[Target, Path, float]]()
    with tempfile.TemporaryDirectory() as folder:
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    target = waiting.pop(0)
                    log = Path(folder, target.name)
                    running[_forked(lambda: run(target, share), log)] = target, log, time.monotonic()  # noqa: B023
                time.sleep(TICK)
                for pid, (target, log, since) in list(running.items()):
                    if time.monotonic() > since + share + LATE:
                        os.kill(pid, signal.SIGKILL)
                    done, status = os.waitpid(pid, os.WNOHANG)
                    if done:
                        del running[pid]
                        outcomes.append(_outcome(target, log.read_text(errors="replace"), status))
                        passed, verdict = time.monotonic() - begun, "BROKEN" if outcomes[-1].error else "ok"
                        place = f"{len(outcomes):3} of {len(targets)}"
                        print(f"{passed:6.0f} s  {place}  {target.name:16} {verdict}", flush=True)
        finally:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    print(f"\n{'target':16} {'runs':>9} {'new inputs':>10}  outcome")
    for one in sorted(outcomes, key=lambda one: one.name):
        print(f"{one.name:16} {one.runs:9} {one.new:10}  {'BROKEN' if one.error else 'ok'}")
    print(f"{'all':16} {sum(one.runs for one in outcomes):9} {sum(one.new for one in outcomes):10}\n", flush=True)
    for one in outcomes:
        if one.error:
            print(f"--- {one.name}\n{one.error}")
    return sorted(one.name for one in outcomes if one.error)


def _forked(run: Callable[[], int], log: Path) -> int:
    """The pid of a process that does this and writes to that file."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        tempfile.tempdir = str(log.parent)  # libFuzzer ends its process without tidying up
        status = run()
    finally:
        os._exit(status)


def _outcome(target: Target, said: str, status: int) -> Outcome:
    runs = _number(r"stat::number_of_executed_units: +(\d+)|(\d+) runs", said)
    new = _number(r"stat::new_units_added: +(\d+)|(\d+) new", said)
    code = os.waitstatus_to_exitcode(status)
    if code:
        # Of what libFuzzer stopped for (an endless loop, too much memory) the input is kept as ours are.
        for path in [one for kind in BROKEN for one in FOUND.glob(f"{target.name}-{kind}*")]:
            said += "\n" + broken(target, path.read_bytes(), None)
            path.unlink()
    return Outcome(target.name, runs, new, f"{said[-6000:]}\nexit status {code}" if code else "")


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(next(filter(None, found.groups()))) if found else 0
