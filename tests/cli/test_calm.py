"""What of the denials reaches the screen."""

from __future__ import annotations

from netbridge.bridge import events
from netbridge.cli.calm import DESTINATIONS, Calm


def denied(port: int, times: int = 1) -> events.FlowDenied:
    return events.FlowDenied("tcp", "10.0.0.1", port, "why", times=times)


def test_a_destination_is_shown_once_and_at_each_power_of_ten() -> None:
    calm = Calm()
    assert [times for times in range(1, 20_001) if calm.shows(denied(80, times))] == [1, 10, 100, 1000, 10_000]


def test_a_scan_shows_some_destinations_and_then_totals() -> None:
    calm = Calm()
    assert sum(calm.shows(denied(port)) for port in range(1000)) == DESTINATIONS
    shown = [total for total in range(15, 20_000, 15) if calm.shows(events.FlowsDenied(10, 5.0, total))]
    assert shown == [15, 105, 1005, 10_005]


def test_everything_else_is_shown() -> None:
    assert Calm().shows(events.Hint("mend it"))
