"""This very program, as words that run it from elsewhere: from a service, an ssh configuration, gh."""

from __future__ import annotations

import os
import sys


def program() -> tuple[str, ...]:
    """The words that start this program, as it was started: its script (also by a link, which outlives an update)."""
    script = os.path.abspath(sys.argv[0])
    if os.path.basename(script) == "netbridge" and os.path.isfile(script) and os.access(script, os.X_OK):
        return (script,)
    return (sys.executable, "-P", "-m", "netbridge")  # -P: a folder netbridge in the home folder is not meant
