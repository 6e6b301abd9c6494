"""Seconds of the soak (see tests/soak): every kind of traffic at once while packets are lost and overtaken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.soak.run import Soak, idle_options, stormy
from tests.soak.watch import Watch
from tests.soak.workers import Place
from tests.world import Bridge, World

from .conftest import TARGET

pytestmark = [pytest.mark.net, pytest.mark.slow]

SEED = 3
SECONDS = 8.0
SCALE = 0.05
UDP_IDLE = 2.0
"""Seconds; the bridge's own 300 would be too long to wait for an empty flow table."""
PATIENCE = 25.0
"""Seconds until nothing is left; most often it is 7. A reset that was lost is noticed after a fifth of it."""


def test_mixed_traffic_in_bad_weather_leaves_nothing(idle: World, start: Callable[..., Bridge]) -> None:
    """Right bytes, no error, and then no flow, no task, no descriptor and no timer more than before."""
    vitals = idle.folder / "vitals"
    before = set(idle.codespace.processes(below=True))
    bridge = start(TARGET, "--ssh", "openssh", *idle_options(UDP_IDLE), prefix=stormy(SEED, vitals)).ready()
    watch = Watch(bridge, vitals, idle.codespace, before)
    try:
        soak = Soak(idle, Place(idle.codespace), watch, seed=SEED, seconds=SECONDS, scale=SCALE, patience=PATIENCE)
        wrong = soak.run()
    finally:
        watch.close()
    assert not wrong, "\n".join(wrong) + "\n" + soak.table()
