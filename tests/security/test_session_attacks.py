"""What somebody with root over there can do to a running bridge, on a fake target."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from netbridge.bridge import events
from netbridge.bridge.agent.frames import control_frame
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
