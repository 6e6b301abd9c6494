"""Two stacks over paths that lose, reorder, duplicate, delay and corrupt, on a clock of their own (`tests/simulation`).

A dozen seeds a scenario; `make simulate` tries a thousand of each.
"""

from __future__ import annotations

import pytest

from netbridge.stack.link.fault import Faults
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import Unlimited
from tests.simulation.ends import Habit
from tests.simulation.run import Trial, run
from tests.simulation.scenarios import SCENARIOS, trial

from .conversation import Talk

SEEDS = 12


@pytest.mark.parametrize("name", SCENARIOS)
def test_everything_arrives_once_and_nothing_is_left(name: str) -> None:
    for seed in range(SEEDS):
        try:
            run(trial(name, seed), seed)
        except Exception as error:
            error.add_note(f"packet by packet: python -m tests.simulation --scenario {name} --seed {seed}")
            raise


def test_a_seed_is_a_trial() -> None:
    """The same seed, the same packets at the same times."""
    lines: list[list[str]] = [[], [], []]
    for told, seed in zip(lines, (3, 3, 4), strict=True):
        run(trial("everything", 3), seed, told.append)
    assert lines[0] == lines[1]
    assert len(lines[0]) > 100
    assert lines[0] != lines[2]


def test_a_sender_slows_down_when_a_router_marks() -> None:
    """Nothing is lost, so nothing is sent again; it only takes longer, the more is marked."""
    took = []
    config = TcpConfig(ecn=True, ecn_request=True)
    for mark in (0.0, 0.02, 0.3):
        path = Faults(delay=0.02, mark=mark)
        made = Trial(((Habit(1_000_000), Habit(0)),), left=config, right=config, up=path, down=path)
        outcome = run(made, 1)
        assert outcome.sent == outcome.useful
        took.append(outcome.seconds)
    assert took[0] + 1 < took[1] < took[2] - 1


def test_a_link_that_stands_still_is_not_flooded() -> None:
    """A stall of 30 s with a full window in flight: a few single segments ask, then everything goes on."""
    config = TcpConfig(congestion=Unlimited, min_rto=2.0)
    talk = Talk.established(config, window=1 << 20, wscale=8, max_payload=64_000)
    talk.writes(b"x" * 500_000)
    assert sum(len(segment.payload) for segment in talk.left()) == 500_000
    talk.passes(30)
    assert 0 < sum(len(segment.payload) for segment in talk.left()) <= 5 * talk.connection.sender.mss
