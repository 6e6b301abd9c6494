"""A session whose connection breaks, on a fake target: what goes on, what is told, and how it ends after all."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge import capturing, events, heart, lifeline, reconnect, session
from netbridge.bridge.agent.frames import control_frame
from netbridge.bridge.errors import (
    BridgeError,
    BridgeGoneError,
    TakenOverError,
    TargetUnreachableError,
)
from netbridge.bridge.options import Options
from netbridge.bridge.session import KILLED
from netbridge.bridge.transport.base import Channel, Transport
from tests.bridge.fake_target import FakeTarget
from tests.bridge.life import Life, QuietNetworks

REFUSED = TargetUnreachableError("The target does not answer.", "Connection refused.", "Start it.")
GONE = ConnectionResetError("reset by peer")


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(capturing, "local_networks", QuietNetworks)
    monkeypatch.setattr(reconnect, "FIRST_WAIT", 0.02)


class Ups(Life):
    """A life whose events can be waited for."""

    def __init__(self, target: FakeTarget, **options: Any) -> None:
        super().__init__(target, **options)
        self._more = asyncio.Event()

    def tell(self, event: events.Event) -> None:
        super().tell(event)
        self._more.set()

    async def comes(self, kind: type[events.Event], count: int = 1) -> Any:
        """The `count`th event of a kind, when it is there."""
        async with asyncio.timeout(10):
            while True:
                found = [event for event in self.told if isinstance(event, kind)]
                if len(found) >= count:
                    return found[count - 1]
                self._more.clear()
                await self._more.wait()

    def break_(self, error: Exception | None = GONE) -> None:
        assert self.target.channel
        self.target.channel.lose(error)


def ways(life: Life, monkeypatch: pytest.MonkeyPatch) -> list[Way]:
    """Each connection over a transport of its own from here on, as it is with a real target; those that were made."""
    made: list[Way] = []

    def another(_options: Options, _tell: events.EventSink) -> Way:
        made.append(Way(life.target))
        return made[-1]

    monkeypatch.setattr(session, "_transport_for", another)
    life.session.line._make = functools.partial(another, life.session.options, life.tell)
    return made


class Way(Transport):
    """One of several ways to the same target."""

    def __init__(self, target: FakeTarget) -> None:
        self.target = target
        self.closed = 0
        self.hangs = False
        self.peer_address = "203.0.113.7"

    async def connect(self) -> None:
        await self.target.connect()

    async def open(self, command: str) -> Channel:
        return await self.target.open(command)

    async def run(self, argv: Sequence[str]) -> int:
        raise AssertionError(argv)

    async def close(self) -> None:
        self.closed += 1
        if self.hangs:
            await asyncio.Event().wait()


async def test_a_broken_connection_is_made_anew_at_once() -> None:
    life = Ups(FakeTarget())

    async def act(_: Life) -> None:
        life.break_()
        assert life.session.state == life.session.status()["state"] == "reconnecting"
        await life.comes(events.Resumed)
        assert life.session.state == life.session.status()["state"] == "running"

    assert await life.during(act) == 0
    interrupted, resumed = life.the(events.Interrupted), life.the(events.Resumed)
    assert (interrupted.why, interrupted.grace) == ("reset by peer", 600)
    assert (resumed.tries, life.target.connects) == (1, 2)
    assert "Reconnecting" not in life.kinds()
    assert "Lost" not in life.kinds()
    assert life.the(events.Stopped).clean
    counters = life.session.agent.framed.counters  # type: ignore[union-attr]
    assert (counters.cut_off, counters.resumed) == (1, 1)


async def test_again_and_again() -> None:
    life = Ups(FakeTarget())

    async def act(_: Life) -> None:
        for number in range(1, 8):
            life.break_(None)
            await life.comes(events.Resumed, number)
        # what is captured is told again each time, perhaps with another peer
        async with asyncio.timeout(5):
            while not any(message["type"] == "routes" for message in life.target.messages):
                await asyncio.sleep(0.01)

    assert await life.during(act) == 0
    assert life.kinds().count("Interrupted") == life.kinds().count("Resumed") == 7
    assert len({message["secret"] for message in life.target.messages if message["type"] == "resume"}) == 1


async def test_flows_are_as_they_were() -> None:
    """Questions and answers over a connection that breaks in between, each byte once."""
    life = Ups(FakeTarget(), dns="off")

    async def act(_: Life) -> None:
        async with life.target.kernel() as kernel:
            stack = life.session.engine.stack  # type: ignore[union-attr]
            assert stack
            taken: list[bytes] = []
            closed = asyncio.Event()

            async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while data := await reader.readline():
                    taken.append(data)
                    writer.write(b"you said " + data)
                writer.close()
                closed.set()

            server = await stack.start_server(echo, life.session.addresses.gateways[0], 7)  # type: ignore[union-attr]
            reader, writer = await kernel.open_connection(life.session.addresses.gateways[0], 7)  # type: ignore[union-attr]
            for number in range(1, 6):
                line = b"line %d\n" % number
                writer.write(line)
                if number % 2:
                    await asyncio.sleep(0)
                life.break_()
                writer.write(b"more " + line)  # into a TUN that nobody reads
                await life.comes(events.Resumed, number)
                assert await reader.readline() == b"you said " + line
                assert await reader.readline() == b"you said more " + line
            assert len(taken) == 10
            (flow,) = stack.tcp.flows.values()
            assert flow.connection.sender.retransmitted == 0
            writer.close()
            await closed.wait()
            server.close()

    await life.during(act)


async def test_failures_are_told_and_tried_again() -> None:
    life = Ups(FakeTarget())

    async def act(_: Life) -> None:
        life.target.fails_to_connect = REFUSED
        life.break_()
        third = await life.comes(events.Reconnecting, 3)
        assert third.tries == 3
        assert third.why == "The target does not answer. Connection refused."
        assert life.session.status()["state"] == "reconnecting"
        life.target.fails_to_connect = None
        resumed = await life.comes(events.Resumed)
        assert resumed.tries >= 4

    assert await life.during(act) == 0
    assert life.kinds().count("Interrupted") == 1


@pytest.mark.parametrize("stage", ["connecting", "starting"])
async def test_a_connection_that_fails_on_its_way_is_tried_again(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    life = Ups(FakeTarget())
    monkeypatch.setattr(reconnect, "ATTEMPT", 0.1)

    async def act(_: Life) -> None:
        life.target.hangs_while_connecting = stage == "connecting"
        life.target.mute = stage == "starting"
        life.break_()
        assert (await life.comes(events.Reconnecting)).why
        life.target.hangs_while_connecting = life.target.mute = False
        await life.comes(events.Resumed)

    assert await life.during(act) == 0


async def test_a_connection_that_breaks_again_at_once_is_made_anew_too() -> None:
    """In the very turn in which it was resumed, before the session could know that it was."""
    life = Ups(FakeTarget())
    target = life.target
    answer, breaks = target._resume, 3

    def resume_and_break(message: dict[str, Any], channel: Any) -> None:
        nonlocal breaks
        answer(message, channel)
        breaks -= 1
        if breaks >= 0:
            channel.lose(GONE)

    target._resume = resume_and_break  # type: ignore[method-assign]

    async def act(_: Life) -> None:
        life.break_()
        resumed = await life.comes(events.Resumed)
        assert resumed.tries == 4
        assert life.session.agent.framed.carrying  # type: ignore[union-attr]
        assert not life.session.engine.stack.clock.stopped  # type: ignore[union-attr]

    assert await life.during(act) == 0
    assert life.the(events.Stopped).clean


async def test_a_silent_connection_is_given_up_and_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TICK": 0.01, "LEAST_PATIENCE": 0.1}.items():
        monkeypatch.setattr(heart, name, value)
    life = Ups(FakeTarget(), ping_interval=0.5)

    async def act(_: Life) -> None:
        life.target.frozen = True
        assert "nothing came back for" in (await life.comes(events.Interrupted)).why
        life.target.frozen = False
        await life.comes(events.Resumed)

    assert await life.during(act) == 0


async def test_time_stands_still_for_flows_meanwhile() -> None:
    life = Ups(FakeTarget())

    async def act(_: Life) -> None:
        stack = life.session.engine.stack  # type: ignore[union-attr]
        assert stack
        life.target.fails_to_connect = REFUSED
        life.break_()
        at = stack.clock.now()
        await life.comes(events.Reconnecting, 2)
        assert stack.clock.now() == at
        life.target.fails_to_connect = None
        await life.comes(events.Resumed)
        assert not stack.clock.stopped
        assert stack.clock.now() - at < asyncio.get_running_loop().time()

    assert await life.during(act) == 0


async def test_a_changed_network_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "FIRST_WAIT", 30.0)
    life = Ups(FakeTarget())

    async def act(_: Life) -> None:
        life.target.fails_to_connect = REFUSED
        life.break_()
        assert (await life.comes(events.Reconnecting)).wait > 20
        life.target.fails_to_connect = None
        life.session.line.network_changed()
        await life.comes(events.Resumed)

    assert await life.during(act) == 0


async def test_a_network_that_changes_while_it_runs_is_asked_about() -> None:
    life = Ups(FakeTarget())

    async def act(_: Life) -> None:
        framed = life.session.agent.framed  # type: ignore[union-attr]
        answered = framed.rtt
        life.session.line.network_changed()
        async with asyncio.timeout(5):
            while framed.rtt is answered:
                await asyncio.sleep(0)

    assert await life.during(act) == 0
    assert "Interrupted" not in life.kinds()


async def test_routes_that_change_meanwhile_are_told_before_or_after_and_not_to_a_stranger() -> None:
    """The agent that brings the new connection knows nothing of routes."""
    life = Ups(FakeTarget())

    async def act(_: Life) -> None:
        agent = life.session.agent
        assert agent
        life.break_()
        asking = []
        while life.session.state == "reconnecting":
            asking.append(asyncio.create_task(agent.change_routes(["10.9.0.0/16"], [])))
            await asyncio.sleep(0)
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert any(isinstance(answer, dict) for answer in answers)
        for answer in answers:
            assert isinstance(answer, dict) or type(answer) is TargetUnreachableError, answer

    assert await life.during(act) == 0


# --- COMMAND ----------------------------------------------------------------------------------------------------------


async def test_a_command_goes_on_meanwhile() -> None:
    target = FakeTarget()
    ends = asyncio.Event()

    async def run(argv: Sequence[str]) -> int:
        await ends.wait()
        return 7

    target.run = run  # type: ignore[method-assign]
    life = Ups(target, command=("make",))

    async def act() -> None:
        await life.comes(events.CommandStarted)
        life.break_()
        await life.comes(events.Resumed)
        ends.set()

    async with asyncio.TaskGroup() as group:
        running = group.create_task(life.session.run())
        group.create_task(act())
    assert running.result() == 7
    assert life.the(events.CommandEnded).status == 7


async def test_a_command_that_ends_while_cut_off_ends_the_bridge_with_its_status() -> None:
    target = FakeTarget()
    ends = asyncio.Event()

    async def run(argv: Sequence[str]) -> int:
        await ends.wait()
        return 7

    target.run = run  # type: ignore[method-assign]
    life = Ups(target, command=("make",))

    async def act() -> None:
        await life.comes(events.CommandStarted)
        target.fails_to_connect = REFUSED
        life.break_()
        await life.comes(events.Reconnecting)
        ends.set()

    async with asyncio.TaskGroup() as group:
        running = group.create_task(life.session.run())
        group.create_task(act())
    assert running.result() == 7
    assert not life.the(events.Stopped).clean


async def test_the_way_that_carries_the_command_stays_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    target = FakeTarget()
    target.command_status = None
    life = Ups(target, command=("sleep", "inf"))
    made = ways(life, monkeypatch)

    async def act(_: Life) -> None:
        await life.comes(events.CommandStarted)
        for number in range(1, 5):
            life.break_()
            await life.comes(events.Resumed, number)
        assert target.closed == 0
        assert [way.closed for way in made] == [1, 1, 1, 0]
        assert not target.command_cancelled

    assert await life.during(act) == KILLED
    assert target.closed == 1
    assert [way.closed for way in made] == [1, 1, 1, 1]


# --- ways that are left behind ----------------------------------------------------------------------------------------


async def test_the_old_way_is_closed_and_the_new_ones_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Ups(FakeTarget())
    made = ways(life, monkeypatch)

    async def act(_: Life) -> None:
        life.break_()
        await life.comes(events.Resumed)
        assert life.session.line.transport is made[0]
        async with asyncio.timeout(5):
            while not {"routes", "names"} <= {message["type"] for message in life.target.messages}:
                await asyncio.sleep(0.01)
        routes = next(message for message in life.target.messages if message["type"] == "routes")
        names = next(message for message in life.target.messages if message["type"] == "names")
        assert "203.0.113.7/32" in routes["exclude"]
        assert "netbridge.internal" in names["suffixes"]
        assert life.target.closed == 1

    assert await life.during(act) == 0
    assert [way.closed for way in made] == [1]


async def test_an_old_way_that_does_not_close_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Ups(FakeTarget())
    life.target.hangs_while_closing = True
    made = ways(life, monkeypatch)
    monkeypatch.setattr(lifeline, "CLOSE_SECONDS", 1.0)

    async def act(_: Life) -> None:
        life.break_()
        assert (await life.comes(events.Resumed)).seconds < 0.9
        assert not life.session.engine.stack.clock.stopped  # type: ignore[union-attr]
        life.break_()  # while the first is still closing
        await life.comes(events.Resumed, 2)

    before = asyncio.all_tasks()
    assert await life.during(act) == 0
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert [way.closed for way in made] == [1, 1]


async def test_ways_that_led_nowhere_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Ups(FakeTarget())
    made = ways(life, monkeypatch)

    async def act(_: Life) -> None:
        life.target.fails_to_connect = REFUSED
        life.break_()
        await life.comes(events.Reconnecting, 3)
        life.target.fails_to_connect = None
        await life.comes(events.Resumed)

    assert await life.during(act) == 0
    assert len(made) >= 4
    assert [way.closed for way in made] == [1] * len(made)


# --- ends -------------------------------------------------------------------------------------------------------------


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
    code: str, error: type[BridgeError],
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
