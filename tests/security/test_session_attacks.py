"""What somebody with root over there can do to a running bridge, on a fake target."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from netbridge.bridge import events
from netbridge.bridge.agent.frames import control_frame
from netbridge.bridge.bootstrap import MAX_REPORTS
from netbridge.bridge.errors import TargetUnreachableError
from netbridge.bridge.options import Options
from netbridge.bridge.session import Session
from tests.bridge.fake_target import FakeTarget


@pytest.fixture(autouse=True)
def own_runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))


async def test_the_interface_is_deleted_over_there() -> None:
    """`ip link del nb0`: a bridge through which nothing can pass any more ends, and does not look alive."""
    target = FakeTarget()
    told: list[events.Event] = []

    def tell(event: events.Event) -> None:
        told.append(event)
        if isinstance(event, events.Ready):
            assert target.channel
            gone = {"type": "error", "code": "tun_lost", "detail": "the interface was taken away"}
            asyncio.get_running_loop().call_soon(target.channel.deliver, control_frame(gone))

    async with asyncio.timeout(10):
        with pytest.raises(TargetUnreachableError, match="interface"):
            await Session(Options(target="exec:fake"), tell, transport=target).run()
    assert any(isinstance(event, events.Lost) and "interface" in event.why for event in told)


async def test_a_flood_of_reports_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    target = FakeTarget()
    session: Session

    def tell(event: events.Event) -> None:
        if isinstance(event, events.Ready):
            assert target.channel
            report = control_frame({"type": "error", "code": "x", "detail": "y" * 200})
            asyncio.get_running_loop().call_soon(target.channel.deliver, report * 5000)
            asyncio.get_running_loop().call_later(0.1, session.stop, "the test is over")

    session = Session(Options(target="exec:fake"), tell, transport=target)
    async with asyncio.timeout(10):
        assert await session.run() == 0
    reports = [record for record in caplog.records if "the agent reports" in record.message]
    assert len(reports) == MAX_REPORTS + 1
