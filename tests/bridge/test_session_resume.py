"""A session whose connection breaks, on a fake target: what goes on, and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge import events, heart, lifeline, reconnect
from netbridge.bridge.errors import (
    TargetUnreachableError,
)
from netbridge.bridge.session import KILLED
from tests.bridge.fake_target import FakeTarget
from tests.bridge.life import Life
from tests.bridge.ups import GONE, REFUSED, Ups, quiet, ways


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet(tmp_path, monkeypatch)


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
