"""A hostile agent as a program: the command of `netbridge up exec:…`, or, with --all, a run of all of them.

    netbridge up "exec:python -m tests.hostile.agent --kind control-infinite"
    python -m tests.hostile.agent --all            # each against a real `netbridge up`, and a table of figures
    python -m tests.hostile.agent --list

A kind does its worst once and is honest afterwards, so that a session which survived it can go on and be stopped. It
says on standard error when the session did not answer any more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from . import bad_control, bad_floods, bad_frames, bad_lives, bad_packets, bad_texts, mutations  # noqa: F401
from .kinds import DONE, KINDS
from .wire import Over, Silent, Wire, complain

NOT_ALIVE = 9
"""Exit status when the session does not answer."""


def play(name: str, seed: int, seconds: float, folder: Path, canary: int = 9) -> int:
    """Be this kind of agent on standard input and output; the exit status."""
    wire = Wire(seed, seconds, folder, canary=canary)
    try:
        KINDS[name].act(wire)
        (folder / DONE).touch()
        wire.serve()
    except Over:
        return 0
    except Silent as error:
        complain(f"hostile agent {name}: {error}")
        return NOT_ALIVE
    return 0


def main() -> int:
    """Be one kind, list them, or try all."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.agent", description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=sorted(KINDS), metavar="NAME", help="be this one, on stdin and stdout")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long floods and drips last")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="for what a next agent knows")
    parser.add_argument("--canary", type=int, default=9, help="a port on the loopback here that must not be reached")
    parser.add_argument("--list", action="store_true", help="the kinds")
    parser.add_argument("--all", action="store_true", help="each kind against a real netbridge up; a table of figures")
    parser.add_argument("--only", default="", help="with --all: those whose names hold this")
    parser.add_argument("--slow", action="store_true", help="with --all: also those for whom half a minute is waited")
    words = parser.parse_args()
    if words.list:
        for kind in KINDS.values():
            print(f"{kind.name:28} {kind.what}")
        return 0
    if words.all:
        from .trial import table

        return table(words.seed, words.seconds, only=words.only, slow=words.slow)
    if not words.kind:
        parser.error("say --kind NAME, --list or --all" + " with --only" * bool(words.only))
    return play(words.kind, words.seed, words.seconds, words.folder, words.canary)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
