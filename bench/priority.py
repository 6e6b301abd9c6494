"""Measuring on a machine that does something else as well."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def first_served() -> Iterator[None]:
    """Come before every ordinary program of this machine, with all that is started meanwhile.

    A line does not wait for a processor, and a cost is that of the code alone.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError as error:
        print(f"bench: other programs will be in the figures: no real-time priority: {error.strerror}", file=sys.stderr)
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
