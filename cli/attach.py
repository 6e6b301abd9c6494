"""`netbridge attach`: the terminal UI of a bridge that runs already, here or as a service."""

from __future__ import annotations

import sys

from netbridge.bridge.errors import UsageError


def attach(target: str | None = None, /) -> int:
    """Show the terminal UI of a running bridge: d or the end of the bridge closes it, q stops the bridge.

    Parameters
    ----------
    target
        TARGET of the bridge, as it was given to `up`, or its number. Not needed when only one runs.
    """
    from netbridge.bridge import runtime
    from netbridge.bridge.back.door import find

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "The terminal UI needs a terminal.", "Standard input or standard error is none.",
            "Use `netbridge status` here, with --json for programs.",
        )
    folders = runtime.folders()
    try:
        folder, number = find(folders, target)
        from .ui.app import Left, run

        if run(folder, number) is Left.GONE:
            print("The bridge ended.", file=sys.stderr)
    finally:
        for folder in folders:
            folder.close()
    return 0
