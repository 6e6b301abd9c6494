"""`netbridge doctor`: everything a bridge needs, a line each, with the mend for what is wrong."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from . import rights
from .choose import named
from .text import clean

if TYPE_CHECKING:
    from netbridge.bridge.doctor import Check, Report

INTERRUPTED = 128 + signal.SIGINT
"""Exit status after ctrl-c, as a shell has it: nobody knows whether a bridge would work."""
MARKS = {"ok": "ok", "note": "-", "warning": "warning", "fault": "FAULT"}


@rights.by_itself
def doctor(
    target: str | None = None, /, *,
    codespace: Annotated[str | None, Parameter(
        name=["--codespace", "-c"], metavar="NAME", help="The codespace to examine; the same as TARGET.")] = None,
    ssh: Annotated[str | None, Parameter(
        name="--ssh", metavar="WHICH", help="As of `up`: asyncssh, openssh, or auto.")] = None,
    capture: Annotated[str | None, Parameter(
        name="--capture", metavar="HOW", help="As of `up`: tun, packet, or auto.")] = None,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Check everything a bridge needs, with the exact mend for each fault.

    Exit status 0 only when a bridge would work, else the one that `up` would end with. Settings of `up` are taken from
    its file and its variables. A codespace that is stopped is started, as by `up`; nothing is changed over there.

    Parameters
    ----------
    target
        TARGET as for `up`; without it, and none in the settings, this machine alone is examined.
    json_
        Everything that was found out, as JSON on standard output.
    """
    from netbridge.bridge.doctor import examine
    from netbridge.bridge.options import Options, default_config
    from netbridge.bridge.transport.terminal import has_terminal
    from netbridge.bridge.user import helper_user, step_down

    from .up import run_loop

    user = helper_user()
    flags = {"target": target, "ssh": ssh, "capture": capture}
    if codespace is not None:
        flags["target"] = named(codespace, target)
    options = Options.gather(flags, user.environment, default_config=default_config(user))
    if options.target != "sandbox":
        step_down()
    screen = _Screen(quiet=json_)
    report = run_loop(_unless_interrupted(examine(
        options, user, screen.tell, progress=screen.progress, log=screen.log, interactive=has_terminal() and not json_,
    )))
    if report is None:
        return INTERRUPTED
    if json_:
        print(json.dumps(report.as_json()))
    else:
        screen.sum_up(report)
    return report.exit_code


async def _unless_interrupted(examination: Coroutine[None, None, Report]) -> Report | None:
    """None after ctrl-c or SIGTERM: what was begun over there is undone first."""
    task = asyncio.ensure_future(examination)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return None


class _Screen:
    """Lines on standard error, each cleaned: part of them was written by the target."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._place = ""

    def tell(self, check: Check) -> None:
        """One check."""
        if self._quiet:
            return
        if check.place != self._place:
            title = {"here": "this machine", "there": "the target"}[check.place]
            self._print(("" if not self._place else "\n") + title)
            self._place = check.place
        for line in lines(check):
            self._print(line)

    def progress(self, stage: str) -> None:
        """What is being done."""
        if not self._quiet:
            self._print(f"{clean(stage)} …")

    def log(self, line: str) -> None:
        """What a helper says; an error repeats what matters of it."""

    def sum_up(self, report: Report) -> None:
        """The last line."""
        faults, warnings = report.count("fault"), report.count("warning")
        counted = ", ".join(
            f"{count} {word}{'' if count == 1 else 's'}"
            for count, word in ((faults, "fault"), (warnings, "warning")) if count
        )
        what = f"A bridge to {report.target}" if report.target else "A bridge"
        alone = "" if report.target or faults else " as far as this machine tells; name a TARGET to examine that too"
        self._print("\n" + clean(
            f"{what} would {'not ' if faults else ''}work{alone}{f' ({counted})' if counted else ''}."
        ))

    @staticmethod
    def _print(text: str) -> None:
        print(text, file=sys.stderr)


def lines(check: Check) -> list[str]:
    """A check as lines: what, and below it why and the mend."""
    found = [f"  {MARKS[check.state]:8} {check.name:16} {check.said}"]
    found += [f"{'':28}{text}" for text in (check.why, check.todo) if text]  # in one piece: mends are copied
    return [clean(line) for line in found]
