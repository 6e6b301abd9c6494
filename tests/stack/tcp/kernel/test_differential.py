"""Linux and our stack, told the same, answer the same; where not, :mod:`.accepted` says why."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Iterator

import pytest

from tests.stack.tcp.kernel.accepted import RULES
from tests.stack.tcp.kernel.both import Told, tell
from tests.stack.tcp.kernel.linux_host import Kernel
from tests.stack.tcp.kernel.randomly import Chance
from tests.stack.tcp.kernel.script import parse
from tests.stack.tcp.kernel.scripts import SCRIPTS

SEEDS = range(int(os.environ.get("NETBRIDGE_KERNEL_SEEDS", "250")))
"""`make kernel` takes some thousands."""
STEPS = 14

OLDEST = (6, 7)
"""Before, Linux took ACKs from before its ISN. Compared with 6.18."""
KERNEL = tuple(int(number) for number in platform.release().split("-")[0].split(".")[:2])
pytestmark = [
    pytest.mark.skipif(KERNEL < OLDEST, reason=f"Linux {platform.release()} answers otherwise than 6.7 and later"),
    pytest.mark.net, pytest.mark.timeout(60 + len(SEEDS) // 5),
]  # fmt: skip


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel() as made:
        yield made


def told(kernel: Kernel, version: int, text: str) -> Told:
    async def inside() -> Told:
        return tell(kernel, version, lambda: parse(text))

    return asyncio.run(inside())


@pytest.mark.parametrize("name", SCRIPTS)
def test_same_answers(kernel: Kernel, name: str) -> None:
    for version in (4, 6):
        came = told(kernel, version, SCRIPTS[name])
        assert not came.unexplained, came


def test_every_rule_is_needed(kernel: Kernel) -> None:
    used = {rule.name for text in SCRIPTS.values() for rule in told(kernel, 4, text).rules}
    assert {rule.name for rule in RULES} == used


def test_a_difference_is_seen(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself: with the rules gone, what they explain fails."""
    monkeypatch.setattr("tests.stack.tcp.kernel.accepted.RULES", ())
    came = told(kernel, 4, SCRIPTS["data after close"])
    assert came.unexplained
    assert "accepted" not in str(came)


@pytest.mark.parametrize("version", [4, 6])
def test_same_answers_to_random_segments(kernel: Kernel, version: int) -> None:
    """Both are told the same nonsense, mixed with sense, drawn by the numbers in force."""

    async def inside() -> int:
        compared = 0
        for seed in SEEDS:
            came = tell(kernel, version, lambda: Chance(seed, STEPS))  # noqa: B023
            assert not came.unexplained, f"seed {seed}{came}"
            compared += came.compared
        return compared

    assert asyncio.run(inside()) > len(SEEDS) * STEPS // 2, "differences ended most of them early"
