"""The console script. It imports nothing until an interrupt can be caught: loading the program takes a moment, and a
ctrl-c in that moment is no reason for a traceback.
"""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the program as its console script does."""
    try:
        from .program import main as program

        program()
    except KeyboardInterrupt:
        sys.exit(0)
    raise AssertionError("the program exits by itself")
