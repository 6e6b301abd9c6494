"""No connection is begun while the bridge's own is broken on purpose.

A bridge whose connection broke takes a connect of no process that it sees for that of a relay outside the codespace,
which is to reach out past the bridge. Workers are threads of a process that stands outside the codespace.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Lets many through at a time, or nobody."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._passing = 0
        self._shut = False

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Wait until it is open; it does not shut before the end of this."""
        with self._changed:
            self._changed.wait_for(lambda: not self._shut)
            self._passing += 1
        try:
            yield
        finally:
            with self._changed:
                self._passing -= 1
                self._changed.notify_all()

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Wait until nobody is on the way through, and let nobody in."""
        with self._changed:
            self._shut = True
            self._changed.wait_for(lambda: not self._passing)
        try:
            yield
        finally:
            with self._changed:
                self._shut = False
                self._changed.notify_all()


CONNECTS = Gate()
"""Of the workers' connects."""
