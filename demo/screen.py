"""Plain lines on a terminal, coloured where someone looks at them."""

from __future__ import annotations

import os
import sys
import time

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
BEGUN = time.monotonic()


def paint(code: str, text: str) -> str:
    """`text` in an ANSI colour, or as it is."""
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def heading(text: str) -> None:
    """A new chapter, with the seconds since the start."""
    print(f"\n{paint('1', text)}  {paint('2', f'[{time.monotonic() - BEGUN:.1f} s]')}", flush=True)


def line(text: str) -> None:
    """One step."""
    print(f"  {text}", flush=True)


def verdict(*, good: bool, text: str) -> None:
    """One step that went as it should, or did not."""
    line(f"{paint('32', 'ok  ') if good else paint('31', 'FAIL')} {text}")


def aside(who: str, text: str) -> None:
    """What another program said."""
    line(paint("2", f"{who} | {text}"))
