"""The loads of `make load`, small: nothing is lost, nobody waits for long, and everything goes back to nothing.

Speeds are not judged here (the bounds catch what is stuck, not what is slow); `make load` measures them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from bench import load_flood, load_scenes
from bench.load_stage import Outcome, Stage

from tests.world import Bridge, World

from .conftest import TARGET

pytestmark = pytest.mark.net

NewStage = Callable[..., Stage]


@pytest.fixture
def stage(idle: World, start: Callable[..., Bridge]) -> Iterator[NewStage]:
    """A bridge with a server behind it, for one load."""
    made: list[Stage] = []

    def make(*options: str) -> Stage:
        made.append(Stage(idle, start(TARGET, "--ssh", "openssh", *options).ready()))
        made[-1].congestion = "cubic"  # as codespaces have it; this machine's own choice may be another
        return made[-1]

    yield make
    for each in made:
        each.close()


def whole(outcome: Outcome) -> None:
    """No bytes lost, no flow, no descriptor left: the load itself looked."""
    assert not outcome.faults, f"{outcome.faults}\n{outcome.text}\n{outcome.facts}"
    assert outcome.facts["flows_left"] == 0
    assert outcome.facts["descriptors_left"] <= 0


def test_two_thousand_flows_with_traffic(stage: NewStage) -> None:
    outcome = load_scenes.many_flows(stage(), flows=2000, rate=0.6, seconds=3)
    whole(outcome)
    assert outcome.facts["talked"]["sent"] > 3000
    assert outcome.facts["talked"]["latency"]["p50"] < 2000
    assert outcome.facts["mb_most"] < 150


def test_a_thousand_new_connections_a_second(stage: NewStage) -> None:
    outcome = load_scenes.many_connections(stage(), rate=1000, seconds=5)
    whole(outcome)
    assert outcome.facts["churned"]["done"] > 4500
    assert outcome.facts["churned"]["latency"]["p50"] < 3000
    assert outcome.facts["mb_most"] < 150


def test_two_hundred_sleepers_each_way(stage: NewStage) -> None:
    outcome = load_scenes.sleepers(stage(), flows=200, size=2_000_000, seconds=2)
    whole(outcome)
    assert outcome.facts["beside"]["ping"]["p50"] < 250
    assert outcome.facts["mb_most"] < 200


def test_a_hundred_black_holes(stage: NewStage) -> None:
    """They hang until the bridge's time-out (here 3 s instead of 30), and no live connect waits for one of them."""
    outcome = load_scenes.black_holes(stage("--limit", "tcp_connect_timeout=3"), holes=100, seconds=2)
    whole(outcome)
    assert outcome.facts["flows_at"] >= 100
    assert outcome.facts["beside"]["connect"]["p50"] < 100
    assert outcome.facts["beside"]["connect"]["max"] < 1000


@pytest.mark.parametrize("aim", ["open", "holes"])
def test_flood_of_syns(stage: NewStage, aim: str) -> None:
    """20,000 SYNs a second: an honest user's bytes arrive, and new connections of his as well."""
    if not shutil.which("hping3"):
        pytest.skip("needs the package hping3")
    limits = ("--limit", "tcp_connect_timeout=3")
    outcome = load_flood.flood(stage(*limits), aim, rate=20_000, seconds=3, pace=5e6)
    whole(outcome)
    assert outcome.facts["syns"] > 10_000
    assert outcome.facts["beside"]["visits"] > 30
    assert outcome.facts["beside"]["bytes"] > 50_000
    assert outcome.facts["mb_most"] < 250
