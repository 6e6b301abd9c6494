"""Every counter that `netbridge status --json` shows says in a sentence what it counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from netbridge.bridge import capturing
from netbridge.bridge.engine import Engine
from netbridge.bridge.sentences import sentences
from tests.bridge.fake_target import FakeTarget
from tests.bridge.life import Life, QuietNetworks


async def test_each_counter_has_its_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(capturing, "local_networks", QuietNetworks)
    life = Life(FakeTarget())
    seen: list[str] = []

    async def look(_: Life) -> None:
        engine = life.session.engine
        assert isinstance(engine, Engine)
        shown, rooms = life.session.status()["counters"], engine.rooms()
        assert shown.keys() == rooms.keys()
        for room, counters in rooms.items():
            texts = sentences(type(counters))
            assert shown[room].keys() <= texts.keys(), room
            for name in shown[room]:
                text = texts[name]
                assert text[:1].isupper() or text[:1].isdigit(), f"{room}.{name}: {text!r}"
                assert text.rstrip().endswith((".", ").")), f"{room}.{name}: {text!r}"
                assert len(text) > 10, f"{room}.{name}"
                seen.append(f"{room}.{name}")

    await life.during(look)
    rooms = {name.partition(".")[0] for name in seen}
    assert rooms == {
        "link", "resolver", "ip", "fragments", "output", "icmp", "udp", "tcp", "held", "policy", "dns",
        "forward_tcp", "forward_udp", "forward_icmp", "flows",
    }
    assert len(seen) > 100
