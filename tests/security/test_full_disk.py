"""A disk that is full (/dev/full plays it) ends a capture, not the traffic."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from netbridge.bridge import events
from netbridge.bridge.options import Options
from netbridge.bridge.session import Session
from tests.bridge.fake_target import FakeTarget


async def test_a_capture_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    target = FakeTarget()
    told: list[events.Event] = []
    ready = asyncio.Event()

    def tell(event: events.Event) -> None:
        told.append(event)
        if isinstance(event, events.Ready):
            ready.set()

    session = Session(Options(target="exec:fake", pcap=Path("/dev/full")), tell, transport=target)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(session.run())
        await ready.wait()
        assert session.addresses
        async with target.kernel() as kernel:
            for _ in range(100):  # more than the file's buffer holds
                await kernel.ping(session.addresses.gateways[0], timeout=5, size=1000)
        session.stop("the test is over")
    assert running.result() == 0
    hints = [event.text for event in told if isinstance(event, events.Hint)]
    assert sum("/dev/full ends here: No space left" in hint for hint in hints) == 1
    assert isinstance(told[-1], events.Stopped)
    assert told[-1].clean
