"""A real agent whose calls fail (see `agents.py`): it goes on, goes without something, or ends with a word.

A sample by seed; `make faults` tries everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from .agents import Outcome, Over, with_the_seam
from .bridging import prepared
from .seam import ERRNOS, Fault
from .servers import Servers
from .test_bridge import SEED
from .trying import WHILE, Case, chosen

pytestmark = pytest.mark.net

SOME = 5
KNOWN = [  # what each was found with
    Fault("bridge.agent.loop:watch:epoll.register", "ENOSPC", 1, 1),
    Fault("bridge.agent.dialling:_ask:send", "ENOBUFS", 1, 1),
    Fault("bridge.agent.tether:leave:open", "EMFILE", 1, 1),
]


@pytest.fixture
def over(tmp_path: Path) -> Iterator[Over]:
    servers = Servers(tmp_path)
    with pytest.MonkeyPatch.context() as patch, with_the_seam():
        prepared(patch, servers, tmp_path)
        yield Over(tmp_path, servers)
    servers.close()


def run(over: Over, fault: Fault | None) -> Outcome:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(over.run(fault))


def test_an_agent_whose_calls_fail(over: Over) -> None:
    calm = run(over, None)
    assert calm.word == "all is well", (calm.wrong, calm.failed, calm.ended)
    assert len(calm.calls) > 60, "the seam is not in it"
    cases = [Case(Fault(site, error, 1, 1), WHILE) for site in sorted(calm.calls) for error in
             ERRNOS[site.rpartition(":")[2]]]
    for fault in [*KNOWN, *(case.fault for case in chosen(cases, SOME, SEED))]:
        outcome = run(over, fault)
        print(f"{fault.site} {fault.errno}: {outcome.word} {outcome.failed or ''} {outcome.ended or ''}")
        assert not outcome.wrong, (fault, outcome.wrong)
        assert outcome.hits, f"{fault} was not met"
