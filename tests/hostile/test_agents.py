"""Every kind of hostile agent against a session: it goes on unharmed or ends clearly, at a bounded cost."""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from netbridge.bridge import bootstrap, capturing, heart, lifeline, reconnect
from netbridge.bridge.bootstrap import AgentOptions
from netbridge.bridge.plain import clean
from netbridge.bridge.state import memory
from netbridge.cli import render
from tests.bridge.life import QuietNetworks

from .inside import Life
from .kinds import KINDS

MEMORY = 64 << 20
"""Bytes that an attack may cost at most: four of the largest messages parsed, the window, and what the allocator keeps.
"""
STALL = 0.8
"""Seconds of CPU that the event loop may take before it looks at something else."""
STARTS = 20
"""Agents that one bridge may start in eight seconds: it was 83 where each resumed and hung up."""
SLOW = {"drips"}
"""Waits by design for longer than a unit test may."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quiet machine, and less patience than a person has."""
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(capturing, "local_networks", QuietNetworks)
    monkeypatch.setattr(reconnect, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(heart, "LEAST_PATIENCE", 0.3)
    monkeypatch.setattr(heart, "TICK", 0.05)
    impatient = functools.partial(AgentOptions, timeout=1.0)
    monkeypatch.setattr(bootstrap, "AgentOptions", impatient)
    monkeypatch.setattr(lifeline, "AgentOptions", impatient)


@functools.cache
def _first_time() -> list[bool]:
    return [True]


@pytest.fixture
async def _loaded(_surroundings: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A session loads modules as it goes, which takes longer than a turn may: one before, and they are there."""
    if _first_time():
        _first_time().clear()
        await Life("honest", tmp_path_factory.mktemp("honest")).run()


@pytest.mark.usefixtures("_loaded")
@pytest.mark.parametrize("name", [name for name in KINDS if name not in SLOW])
async def test_a_session_survives_or_ends_clearly(name: str, tmp_path: Path) -> None:
    before = memory()["resident"]
    life = await Life(name, tmp_path).run()
    assert not life.faults(), "\n".join(map(str, [*life.faults(), *life.told, *life.target.said[-5:]]))
    assert memory()["resident"] - before < MEMORY
    assert life.stall < STALL
    assert len(life.target.children) < STARTS
    assert os.listdir(tmp_path / "run") == []
    for event in life.told:
        _is_harmless(render.record(event))
    _is_harmless(json.dumps(life.state, default=str))


def _is_harmless(record: str) -> None:
    """No text in it that a terminal acts upon, whoever decodes it."""
    for text in _texts(json.loads(record)):
        assert text == clean(text)
        assert text.isprintable()
        assert len(text) < 20_000


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for it in pair for text in _texts(it)]
    if isinstance(value, list):
        return [text for it in value for text in _texts(it)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", ["mutated", "mutated-hello", "reordered", "hello-lies", "ready-lies", "unasked"])
async def test_by_seed(name: str, tmp_path: Path) -> None:
    """Three seeds of each; NETBRIDGE_TEST_LONG=1 tries five hundred."""
    for seed in range(500 if os.environ.get("NETBRIDGE_TEST_LONG") else 3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        life = await Life(name, folder, seed=seed).run()
        assert not life.faults(), "\n".join(map(str, [f"seed {seed}", *life.faults(), *life.told]))
