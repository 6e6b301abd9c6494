"""The feed of a session on a fake target, watched by its control socket."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge import capturing, events
from netbridge.bridge.feed import ENTRY_MAX, REMEMBERED, REMEMBERED_BYTES, ROWS_MAX, Wish
from netbridge.bridge.forward.flows import Flow
from netbridge.stack.packet import TCP
from tests.bridge.fake_target import FakeTarget
from tests.bridge.life import Life, QuietNetworks


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(capturing, "local_networks", QuietNetworks)


class Watch:
    """One who watches."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def begin(cls, **wish: object) -> Watch:
        path = Path(os.environ["NETBRIDGE_RUNTIME_DIR"], "0.sock")
        watch = cls(*await asyncio.open_unix_connection(str(path), limit=1 << 22))
        watch.say(ask="watch", **wish)
        return watch

    def say(self, **request: object) -> None:
        self.writer.write(json.dumps(request).encode() + b"\n")

    async def frame(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            found: dict[str, Any] = json.loads(await self.reader.readline())
            return found

    async def until(self, what: Any) -> dict[str, Any]:
        """The first frame for which `what` is true."""
        while not what(frame := await self.frame()):
            pass
        return frame

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


def add_flow(life: Life, number: int) -> Flow:
    engine = life.session.engine
    assert engine
    assert engine.table is not None
    key = (bytes((198, 18, 0, 2)), 40000 + number, bytes((10, 20, number >> 8, number & 255)), 80)
    flow = Flow(TCP, key, "open", asyncio.get_running_loop().time())
    engine.table.add(flow)
    return flow


async def test_a_watcher_sees_the_bridge_its_flows_and_what_happened() -> None:
    life = Life(FakeTarget())

    async def act(life: Life) -> None:
        flow = add_flow(life, 1)
        watch = await Watch.begin()
        frame = await watch.frame()
        assert frame["bridge"]["target"] == "exec:fake"
        assert frame["bridge"]["host"] == "fake"
        assert frame["header"]["state"] == "running"
        assert frame["header"]["flows"] == {"tcp": 1}
        assert frame["order"] == [1]
        assert frame["rows"][0]["destination"] == "10.20.0.1:80"
        assert "Ready" in [entry["event"] for entry in frame["log"]]
        again = await watch.frame()
        assert "bridge" not in again
        assert (again["order"], again["rows"], again["log"]) == ([1], [], []), "what is known is not told again"
        flow.bytes_up += 500_000
        flow.last_used = asyncio.get_running_loop().time()
        life.session.feed.event(events.Hint("mind the gap"))
        life.session.feed.log("warning", "netbridge.x", "a record")
        changed = await watch.until(lambda frame: frame["rows"])
        assert changed["rows"][0]["bytes_up"] == 500_000
        assert changed["rows"][0]["rate_up"] > 0
        said = [entry.get("text") or entry["fields"]["text"] for entry in changed["log"]]
        assert said == ["mind the gap", "a record"]
        await watch.close()

    assert await life.during(act) == 0


async def test_a_wish_decides_what_is_sent_and_can_be_changed() -> None:
    life = Life(FakeTarget())

    async def act(life: Life) -> None:
        for number in range(300):
            add_flow(life, number)
        watch = await Watch.begin(rows=5, sort="destination")
        frame = await watch.frame()
        assert len(frame["order"]) == len(frame["rows"]) == 5
        assert frame["matching"] == 300
        assert [row["destination"] for row in frame["rows"]][:2] == ["10.20.0.0:80", "10.20.0.1:80"]
        watch.say(ask="watch", filter="10.20.1.4:80", details=frame["order"][0])
        frame = await watch.until(lambda frame: frame["matching"] == 1)
        assert [row["destination"] for row in frame["rows"]] == ["10.20.1.4:80"]
        assert frame["details"]["destination"] == "10.20.0.0:80"
        watch.say(ask="watch", filter="", rows=10_000_000, sort="nonsense", reverse="?", details=123456789)
        frame = await watch.until(lambda frame: frame["matching"] == 300)
        assert len(frame["order"]) == 300
        assert frame["details"] is None
        await watch.close()

    assert await life.during(act) == 0


async def test_several_watch_and_when_the_last_has_gone_nothing_is_done() -> None:
    life = Life(FakeTarget())

    async def act(life: Life) -> None:
        flow = add_flow(life, 1)
        one, two = await Watch.begin(), await Watch.begin(filter="nothing fits")
        assert (await one.frame())["order"] == [1]
        assert (await two.frame())["order"] == []
        assert life.session.engine is not None
        table = life.session.engine.table
        assert table is not None
        assert table.on_removed is not None
        await one.close()
        assert (await two.frame())["header"]
        await two.close()
        while table.on_removed is not None:
            await asyncio.sleep(0.01)
        table.remove(flow)

    assert await life.during(act) == 0


async def test_who_does_not_read_misses_frames_and_gets_no_queue() -> None:
    life = Life(FakeTarget())

    async def act(life: Life) -> None:
        flows = [add_flow(life, number) for number in range(400)]
        watch = await Watch.begin(rows=400)
        await watch.frame()
        watch.reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(40):
            for flow in flows:
                flow.bytes_up += 1
                flow.last_used = asyncio.get_running_loop().time()
            for watcher in life.session.feed._watchers:
                life.session.feed._sampler.look()  # type: ignore[union-attr]
                watcher.tell(life.session.feed._sampler, {"state": "running"})
        server = next(iter(life.session.feed._watchers))._send.__self__  # type: ignore[attr-defined]
        assert server._transport.get_write_buffer_size() < 400_000
        watch.reader._transport.resume_reading()  # type: ignore[attr-defined]
        last = await watch.until(lambda frame: len(frame["order"]) == 400 and frame["header"].get("uptime"))
        assert last["matching"] == 400
        await watch.close()

    assert await life.during(act) == 0


async def test_a_stop_by_a_watcher_is_told_with_its_reason_and_ends_the_stream() -> None:
    life = Life(FakeTarget())

    async def act(life: Life) -> None:
        watch = await Watch.begin()
        await watch.frame()
        watch.say(ask="stop", why="q was pressed")
        states = set()
        while line := await watch.reader.readline():
            states.add(json.loads(line).get("header", {}).get("state"))
        await watch.close()

    assert await life.during(act) == 0
    assert life.the(events.Stopping).reason == "q was pressed"


async def test_a_start_can_be_watched() -> None:
    """The control socket is there before anything else."""
    life = Life(FakeTarget())
    seen: list[dict[str, Any]] = []

    async def early() -> None:
        watch = await Watch.begin()
        seen.append(await watch.frame())
        await watch.close()

    tasks: list[asyncio.Task[None]] = []
    life.when[events.Starting] = lambda: tasks or tasks.append(asyncio.get_running_loop().create_task(early()))

    async def act(_life: Life) -> None:
        await tasks[0]

    assert await life.during(act) == 0
    assert seen[0]["bridge"]["target"] == "exec:fake"


def test_what_a_target_says_is_remembered_within_bounds() -> None:
    feed = Life(FakeTarget()).session.feed
    for _ in range(100):
        feed.event(events.Skipped(tuple(events.Network("n" * 1000, "why " * 250) for _ in range(1024))))
        feed.log("warning", "netbridge.x", "x" * 40_000)
    sizes = [len(json.dumps(entry)) for entry in feed._log]
    assert max(sizes) < ENTRY_MAX + 100
    assert REMEMBERED_BYTES // 2 < sum(sizes) < REMEMBERED_BYTES + 100 * len(sizes)
    feed.event(events.Hint("the latest"))
    assert feed.news(0, 0, 1)[1][0]["fields"] == {"text": "the latest"}


def test_a_wish_takes_only_what_makes_sense() -> None:
    wish = Wish()
    wish.change({"rows": -5, "questions": 1 << 60, "reverse": 1, "filter": "A b " * 50, "details": "x"})
    assert (wish.rows, wish.questions, wish.sort, wish.reverse) == (0, ROWS_MAX, "rate", False)
    assert wish.words[:2] == ("a", "b")
    assert len(wish.words) == 8
    wish.change({"sort": {"not": "hashable"}, "filter": None, "rows": True})
    assert wish.sort == "rate"
    assert REMEMBERED >= ROWS_MAX
