"""The self-test between two stacks: figures that are possible on the line they were measured on."""

from __future__ import annotations

import dataclasses
import json

import pytest

from netbridge.stack.loopback import Conditions, measure


async def test_a_perfect_line() -> None:
    told: list[tuple[str, float]] = []
    report = await measure(Conditions(), seconds=0.2, progress=lambda *word: told.append(word))
    assert report.sent > 1e6
    assert report.received > 1e6
    assert report.round_trips > 10
    assert 0 < report.round_trip <= report.round_trip_99 < 1
    assert report.connections > 10
    assert report.failed == report.lost == 0
    assert [what for what, part in told if part == 1.0] == ["sending", "receiving", "round trips", "connections"]
    assert all(0 <= part <= 1 for _, part in told)
    assert json.loads(json.dumps(report.as_json()))["conditions"]["mtu"] == 1500


async def test_a_line_that_is_slow_and_loses() -> None:
    rate = 250_000
    report = await measure(Conditions(loss=0.02, delay=0.01, reorder=0.01, rate=rate, seed=1, mtu=576), seconds=0.6)
    assert 0 < report.sent < rate * 8  # a header on each packet goes by the same line
    assert 0 < report.received < rate * 8
    assert report.round_trip >= 0.02
    assert report.lost > 0
    assert report.retransmitted > 0


@pytest.mark.parametrize(
    ("field", "value"), [("loss", 1.0), ("loss", -0.1), ("reorder", 1.1), ("delay", -1), ("rate", -1), ("mtu", 5)]
)
async def test_conditions_that_make_no_sense(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=r"chances|MTU"):
        await measure(dataclasses.replace(Conditions(), **{field: value}), seconds=0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no time"):
        await measure(Conditions(), seconds=0)
