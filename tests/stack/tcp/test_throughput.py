"""How fast one connection is on a clock of its own: `throughput.txt`, to the last digit."""

from __future__ import annotations

from pathlib import Path

import pytest

from netbridge.stack.tcp.congestion import CongestionControl, Unlimited
from tests.simulation.throughput import heading, table
from tests.simulation.trials import CONTROLS

SNAPSHOT = Path(__file__).with_name("throughput.txt").read_text().splitlines()


@pytest.mark.parametrize("control", [*CONTROLS, Unlimited], ids=lambda control: control.__name__)
def test_it_is_as_fast_as_it_was(control: type[CongestionControl]) -> None:
    """Better or worse, a change is to be looked at, and the table made anew (its first lines say how)."""
    assert table(control) == [line for line in SNAPSHOT if line.startswith(control.__name__)]


def test_the_table_is_about_what_was_measured() -> None:
    assert SNAPSHOT[: len(heading())] == heading()
