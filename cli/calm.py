"""Which denied flows a person sees: each destination once, then when it was denied ten times, a hundred, and so on.

The log file and JSON get them all (as many as the audit tells); a screen on which somebody works must stay calm.
"""

from __future__ import annotations

from netbridge.bridge import events

DESTINATIONS = 50
"""Shown one by one; after these only numbers are shown, of which there is one for each power of ten."""


class Calm:
    """Decides event by event."""

    def __init__(self) -> None:
        self._destinations = 0
        self._next_total = 1

    def shows(self, event: events.Event) -> bool:
        """Whether `event` is for the screen."""
        if isinstance(event, events.FlowDenied):
            if event.times == 1:
                self._destinations += 1
                return self._destinations <= DESTINATIONS
            return str(event.times).strip("0") == "1"
        if isinstance(event, events.FlowsDenied):
            shown = event.total >= self._next_total
            while self._next_total <= event.total:
                self._next_total *= 10
            return shown
        return True
