"""A limit that was reached is told, once a minute, with what to do."""

from __future__ import annotations

from typing import Any, cast

from netbridge.bridge import events
from netbridge.bridge.limitwatch import LimitWatch
from tests.bridge.forward.fakes import FakeClock


def test_a_limit_is_told_once_a_minute_and_each_by_itself() -> None:
    clock, told, drops = FakeClock(), list[str](), {"tcp-flows": 5, "descriptors": 0}

    def tell(event: events.Event) -> None:
        assert isinstance(event, events.Hint)
        told.append(event.text)

    watch = LimitWatch(tell, cast("Any", clock), {name: lambda name=name: drops[name] for name in drops})  # type: ignore[misc]
    clock.advance(20)
    assert told == [], "what was before is no news"
    drops["tcp-flows"] += 3
    clock.advance(6)
    assert len(told) == 1
    assert "the limit tcp-flows is used up: 3 new flows" in told[0]
    assert "--limit tcp-flows=NUMBER" in told[0]
    drops["tcp-flows"] += 4
    drops["descriptors"] += 1
    clock.advance(10)
    assert len(told) == 2
    assert "`ulimit -n`" in told[1]
    clock.advance(60)
    assert "4 new flows" in told[2]
    watch.close()
    drops["tcp-flows"] += 1
    clock.advance(200)
    assert len(told) == 3
    assert not clock.timers
