"""A session whose connection breaks, on a fake target: how it ends after all, and what it does not take for an end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge import events
from netbridge.bridge.agent.frames import control_frame
from netbridge.bridge.errors import (
    BridgeError,
    BridgeGoneError,
    TakenOverError,
    TargetUnreachableError,
)
from tests.bridge.fake_target import FakeTarget
from tests.bridge.life import Life
from tests.bridge.ups import REFUSED, Ups, quiet


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet(tmp_path, monkeypatch)


async def end_while_cut_off(life: Ups, then: Callable[[], Awaitable[None]] | None = None) -> int:
    """Break the connection of a target that is not to be reached any more, do `then`, and wait for the bridge's end."""
    before = asyncio.all_tasks()
    running = asyncio.get_running_loop().create_task(life.session.run())
    try:
        await life.comes(events.Ready)
        life.target.fails_to_connect = REFUSED
        life.break_()
        if then is not None:
            await then()
        return await running
    finally:
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before


async def test_a_stop_while_cut_off_is_quick_and_not_called_clean() -> None:
    life = Ups(FakeTarget())
    began = asyncio.get_running_loop().time()

    async def stop() -> None:
        await life.comes(events.Reconnecting)
        life.session.stop("enough")

    assert await end_while_cut_off(life, stop) == 0
    assert asyncio.get_running_loop().time() - began < 3
    assert not life.the(events.Stopped).clean
    hints = [event.text for event in life.told if isinstance(event, events.Hint)]
    assert any("undoes everything by itself within 600 s" in text for text in hints)
    assert "stop" not in [message["type"] for message in life.target.messages]


@pytest.mark.parametrize("hangs", ["connecting", "mute"])
async def test_a_stop_while_a_try_hangs_is_quick(hangs: str) -> None:
    life = Ups(FakeTarget())

    async def stop() -> None:
        life.target.fails_to_connect = None
        life.target.hangs_while_connecting = hangs == "connecting"
        life.target.mute = hangs == "mute"
        await asyncio.sleep(0.1)
        life.session.stop("enough")

    began = asyncio.get_running_loop().time()
    assert await end_while_cut_off(life, stop) == 0
    assert asyncio.get_running_loop().time() - began < 3


async def test_after_the_grace_it_ends_with_its_sentences() -> None:
    life = Ups(FakeTarget(), grace=0.3)
    with pytest.raises(BridgeGoneError) as caught:
        await end_while_cut_off(life)
    error = caught.value
    assert error.exit_code == 3
    assert error.what == "The connection could not be made anew within 0 s."
    assert "Connection refused" in error.why
    assert error.todo.startswith("Start the bridge again")
    assert "Lost" in life.kinds()
    assert life.kinds()[-1] == "Stopped"
    assert not life.the(events.Stopped).clean
    hints = [event.text for event in life.told if isinstance(event, events.Hint)]
    assert not any("undoes everything by itself" in text for text in hints)  # it has already


@pytest.mark.parametrize("code", ["no_bridge", "not_resumed"])
async def test_a_target_that_holds_nothing_any_more_ends_it_at_once(code: str) -> None:
    life = Ups(FakeTarget())
    life.target.refuses_resume = {"type": "error", "code": code, "detail": "the secret is wrong"}
    life.when[events.Ready] = life.break_
    with pytest.raises(BridgeGoneError, match="no longer holds this bridge") as caught:
        await life.run()
    assert caught.value.exit_code == 3
    assert caught.value.why.endswith(".")
    assert life.target.connects == 2


async def test_an_agent_that_finds_the_old_one_busy_is_no_end() -> None:
    life = Ups(FakeTarget())
    life.target.refuses_resume = {"type": "error", "code": "no_answer", "detail": "it does not answer"}

    async def act(_: Life) -> None:
        life.break_()
        assert "no_answer" in (await life.comes(events.Reconnecting)).why
        life.target.refuses_resume = None
        await life.comes(events.Resumed)

    assert await life.during(act) == 0


@pytest.mark.parametrize("taken", [-1, 1 << 70, 10**9, "12", None, 1.5, [1], {"a": 1}])
async def test_an_agent_that_lies_about_what_it_took_ends_the_bridge(taken: object) -> None:
    life = Ups(FakeTarget())
    life.target.lies_about_taken = {"x": None} if taken is None else taken
    life.when[events.Ready] = life.break_
    with pytest.raises(BridgeError, match="sent what no agent sends") as caught:
        await life.run()
    assert caught.value.exit_code == 1
    assert life.kinds().count("Lost") == 1
    assert "Reconnecting" not in life.kinds()
    assert "Resumed" not in life.kinds()


async def test_another_machine_that_takes_over_has_its_own_error() -> None:
    life = Ups(FakeTarget())

    def take_over() -> None:
        assert life.target.channel
        life.target.channel.deliver(control_frame({"type": "error", "code": "taken_over", "detail": "lap\x1btop"}))
        life.target.channel.lose(None)

    life.when[events.Ready] = take_over
    with pytest.raises(TakenOverError, match="Another bridge took this target over") as caught:
        await life.run()
    assert caught.value.why == "It was started on lap\\x1btop."
    assert "--take-over" in caught.value.todo
    assert "Interrupted" not in life.kinds()


@pytest.mark.parametrize(("code", "error"), [
    ("taken_over", TakenOverError), ("tun_lost", TargetUnreachableError),
])  # fmt: skip
async def test_a_loss_that_is_told_while_a_question_is_open_is_not_its_answer(
    code: str,
    error: type[BridgeError],
) -> None:
    class Target(FakeTarget):
        def told(self, message: dict[str, Any], channel: Any) -> None:
            super().told(message, channel)
            if message["type"] == "host_routes":
                channel.deliver(control_frame({"type": "error", "code": code, "detail": "gone"}))

    life = Ups(Target())
    asked: list[asyncio.Task[Any]] = []

    def ask() -> None:
        assert life.session.agent
        asked.append(asyncio.ensure_future(life.session.agent.make_host_routes([("10.0.3.7", 60.0)])))

    life.when[events.Ready] = ask
    with pytest.raises(error):
        async with asyncio.timeout(10):
            await life.run()
    with pytest.raises((BridgeError, OSError)):
        await asked[0]


async def test_what_nobody_asked_for_and_what_comes_too_late_is_not_the_answer() -> None:
    class Target(FakeTarget):
        def told(self, message: dict[str, Any], channel: Any) -> None:
            if message["type"] == "routes":
                for more in ({}, {"number": message["number"] - 1}, {"number": [1]}, {"number": None}):
                    news = {"type": "routes_changed", "routes": ["10.66.0.0/16"], "skipped": [], **more}
                    channel.deliver(control_frame(news))
            super().told(message, channel)

    life = Ups(Target())

    async def act(_: Life) -> None:
        agent = life.session.agent
        assert agent
        for network in ("10.9.0.0/16", "10.8.0.0/16"):
            assert (await agent.change_routes([network], []))["routes"] == [network]

    assert await life.during(act) == 0


async def test_without_grace_a_broken_connection_is_the_end() -> None:
    life = Ups(FakeTarget(), grace=0.0)
    life.when[events.Ready] = life.break_
    with pytest.raises(TargetUnreachableError, match="is lost"):
        await life.run()
    assert life.target.connects == 1
    assert "Interrupted" not in life.kinds()


async def test_a_defect_in_a_try_ends_the_bridge_instead_of_leaving_it_hanging() -> None:
    life = Ups(FakeTarget())
    connect = life.target.connect

    async def broken() -> None:
        if life.target.connects:
            raise RuntimeError("a bug")
        await connect()

    life.target.connect = broken  # type: ignore[method-assign]
    life.when[events.Ready] = life.break_
    with pytest.raises(TargetUnreachableError, match="a bug"):
        await life.run()


async def test_setup_says_what_the_target_has_to_keep() -> None:
    life = Ups(FakeTarget(), keep_awake=False, grace=42.0)
    life.when[events.Ready] = lambda: life.session.stop("enough")
    await life.run()
    said = life.target.setup["session"]
    assert (said["grace"], said["quiet"], said["name"]) == (42.0, True, life.session.name)
    assert len(said["secret"]) == 64
    assert set(said["machine"]) == {"id", "name", "user"}


async def test_who_is_in_the_way_is_told_before_anything_is_set_up() -> None:
    life = Ups(FakeTarget())
    theirs = {"session": "abc", "machine": {"id": "x", "name": "laptop", "user": "eve"}, "attached": True}
    life.target.hello = {**life.target.hello, "facts": {**life.target.hello["facts"], "bridges": [theirs]}}
    with pytest.raises(BridgeError, match="bridged by eve at laptop already"):
        await life.run()
    assert life.target.messages == [{"type": "stop"}]
    over = Ups(FakeTarget(), take_over=True)
    over.target.hello = life.target.hello
    over.when[events.Ready] = lambda: over.session.stop("enough")
    assert await over.run() == 0
    assert over.target.setup["replace"] == ["abc"]
