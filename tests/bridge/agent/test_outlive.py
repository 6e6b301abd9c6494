"""A real agent outlives its connection: what stays, who may resume it, and when it is over after all."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge.agent.frames import frame_header
from netbridge.bridge.bootstrap import AgentHandle, AgentOptions, agent_command, launch
from netbridge.bridge.errors import BridgeError, BridgeGoneError, TakenOverError

from .channels import LocalTransport
from .conftest import RESOLV_CONF, SETUP, Place
from .test_agent import Taker, show, until

pytestmark = pytest.mark.net

SOURCES = str(Path(__file__).parents[3] / "src")
SPEAK = """
import array, json, os, socket, sys
sys.path.insert(0, sys.argv[1])
from netbridge.bridge.agent.meeting import LONGEST, PREFIX
for text, *kinds in json.loads(sys.argv[3]):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(10)
        connection.connect("\\0" + PREFIX + sys.argv[2])
        make = {
            "pipe": lambda: os.pipe()[0], "null": lambda: os.open("/dev/null", 2),
            "socket": lambda: socket.socket(socket.AF_UNIX).detach(),
        }
        given = array.array("i", [make[kind]() for kind in kinds])
        connection.sendmsg([text.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)] if given else [])
        try:
            print(connection.recv(LONGEST).decode() or '""')
        except ConnectionResetError:
            print('""')
        for descriptor in given:
            os.close(descriptor)
"""


def session(**more: Any) -> dict[str, Any]:
    machine = {"id": "this", "name": "laptop", "user": "somebody"}
    return {"name": secrets.token_hex(8), "secret": secrets.token_hex(16), "machine": machine, "grace": 30, **more}


class Bridge:
    """An agent with a TUN in a place of its own, and ways to speak to it beside its link."""

    def __init__(self, agent: AgentHandle) -> None:
        self.agent = agent
        self.enter: list[str] = []
        self.taker = Taker()
        self.cuts: list[Exception | None] = []
        self.lost: list[Exception | None] = []
        self.options = AgentOptions(timeout=10)

    @classmethod
    async def up(cls, place: Place, **more: Any) -> Bridge:
        silence = more.pop("silence", 0)
        self = cls(await place.agent())
        self.enter = place.enter(self.agent)
        await self.agent.setup({**SETUP, "silence": silence, "session": session(**more)})
        self.agent.link.start(self.taker)
        self.agent.on_cut, self.agent.on_lost = self.cuts.append, self.lost.append
        self.agent.outlive()
        return self

    @property
    def pid(self) -> int:
        return int(self.agent.hello["pid"])

    @property
    def name(self) -> str:
        return str(self.agent._session["name"])

    @property
    def front(self) -> int:
        status = show([], "cat", f"/proc/{self.pid}/status")
        return int(status.split("PPid:")[1].split()[0])

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stands(self) -> bool:
        """The interface and its routes are there."""
        return "10.0.0.0/8 dev nb0" in show(self.enter, "ip", "route")

    def attached(self) -> bool:
        """Whether the agent thinks that it has a connection."""
        (answer,) = self.speak(({"ask": "who"}, ""))
        return bool(answer["attached"])

    def gone(self) -> bool:
        return "nb0" not in show(self.enter, "ip", "link")

    def speak(self, *requests: tuple[Any, str]) -> list[Any]:
        """Requests at the holder's door, each with descriptors of these kinds; its answers, "" for none."""
        texts = [(text if isinstance(text, str) else json.dumps(text), *kinds.split()) for text, kinds in requests]
        told = show(self.enter, sys.executable, "-c", SPEAK, SOURCES, self.name, json.dumps(texts))
        return [json.loads(line) for line in told.splitlines()]

    async def other(self) -> AgentHandle:
        """Another agent beside it."""
        return await launch(LocalTransport(self.enter), options=AgentOptions(timeout=10))

    async def resume(self) -> None:
        options = AgentOptions(timeout=10)
        channel = await LocalTransport(self.enter).open(agent_command(options))
        await self.agent.resume(channel, options)

    async def end(self, place: Place) -> None:
        channel = self.agent.channel
        await self.agent.stop()
        assert await channel.wait_closed() == 0
        assert self.gone()
        assert place.resolv_conf.read_bytes() == RESOLV_CONF


def pings(bridge: Bridge, count: int) -> None:
    """So many echo requests into the TUN, whether or not anybody reads it."""
    subprocess.run(
        [*bridge.enter, "ping", "-q", "-c", str(count), "-i", "0.002", "-W", "0.01", "10.1.2.3"],
        check=False, stdout=subprocess.DEVNULL,
    )


def numbers(packets: list[bytes]) -> list[int]:
    """The sequence numbers of the echo requests among them, as they came."""
    return [struct.unpack_from("!H", packet, 36)[0] for packet in packets if packet[10] == 0x45 and packet[30] == 8]


async def test_it_goes_on_over_another_connection(place: Place) -> None:
    bridge = await Bridge.up(place)
    agent, first, descriptors = bridge.agent, bridge.agent.channel, bridge.descriptors()
    index = show(bridge.enter, "ip", "-o", "link", "show", "nb0")
    for round_ in range(1, 4):
        agent.framed.cut(None)
        await first.wait_closed()
        assert bridge.stands()
        pings(bridge, 5)
        assert len(numbers(bridge.taker.packets)) == 5 * (round_ - 1)
        await bridge.resume()
        await until(lambda: len(numbers(bridge.taker.packets)) == 5 * round_, "what waited came")  # noqa: B023
        assert numbers(bridge.taker.packets) == [1, 2, 3, 4, 5] * round_
        assert 0 < await agent.ping() < 5
        first = agent.channel
    assert show(bridge.enter, "ip", "-o", "link", "show", "nb0") == index
    assert bridge.descriptors() == descriptors
    changed = await agent.change_routes(["192.168.0.0/16"], [])
    assert changed["routes"] == ["192.168.0.0/16"]
    assert (len(bridge.cuts), bridge.lost) == (3, [])
    assert place.resolv_conf.read_bytes() != RESOLV_CONF
    await bridge.end(place)
    await until(lambda: not os.path.exists(f"/proc/{bridge.pid}/exe"), "the process ended")


async def test_an_agent_that_has_not_noticed_yet_takes_the_new_connection(place: Place) -> None:
    """The old one is still open for all it knows: the session comes back over another network."""
    bridge = await Bridge.up(place)
    old = bridge.agent.channel
    close, old.close = old.close, lambda: None  # type: ignore[method-assign]
    bridge.agent.framed.cut(None)
    await bridge.resume()
    assert await old.wait_closed() == 0  # its front was let go
    pings(bridge, 3)
    await until(lambda: len(bridge.taker.packets) >= 3, "packets come")
    close()
    await bridge.agent.ping()
    await bridge.end(place)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
async def test_what_happens_to_the_front_is_the_end_of_the_connection_only(
    place: Place, number: signal.Signals
) -> None:
    """An SSH server ends what it started when its connection breaks."""
    bridge = await Bridge.up(place)
    os.kill(bridge.front, number)
    await until(lambda: bool(bridge.cuts), "the session hears of it")
    assert bridge.stands()
    await bridge.resume()
    await bridge.agent.ping()
    await bridge.end(place)


async def test_the_whole_group_of_the_front_may_be_killed(place: Place) -> None:
    bridge = await Bridge.up(place)
    os.killpg(os.getpgid(bridge.front), signal.SIGKILL)
    await until(lambda: bool(bridge.cuts), "the session hears of it")
    assert bridge.stands()
    await bridge.resume()
    await bridge.end(place)


async def test_after_the_grace_everything_is_undone(place: Place) -> None:
    bridge = await Bridge.up(place, grace=0.5)
    bridge.agent.framed.cut(None)
    await until(bridge.gone, "the TUN is gone")
    await until(lambda: place.resolv_conf.read_bytes() == RESOLV_CONF, "resolv.conf is as before")
    with pytest.raises(BridgeGoneError, match="no longer holds") as caught:
        await bridge.resume()
    assert caught.value.exit_code == 3
    assert bridge.agent.channel.diagnostics() == ""


async def test_without_a_grace_it_ends_with_its_connection(place: Place) -> None:
    bridge = await Bridge.up(place, grace=0)
    bridge.agent.channel.close()
    await until(bridge.gone, "the TUN is gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_an_end_while_cut_off_undoes_everything_at_once(place: Place, number: signal.Signals) -> None:
    bridge = await Bridge.up(place)
    bridge.agent.framed.cut(None)
    os.kill(bridge.pid, number)
    await until(bridge.gone, "the TUN is gone")
    await until(lambda: place.resolv_conf.read_bytes() == RESOLV_CONF, "resolv.conf is as before")


async def test_a_session_that_breaks_the_rules_has_no_grace(place: Place) -> None:
    bridge = await Bridge.up(place)
    bridge.agent.channel.write((frame_header(9, 1) + b"x",))
    await until(bridge.gone, "the TUN is gone")
    assert await bridge.agent.channel.wait_closed() == 1


async def test_others_are_told_who_is_here(place: Place) -> None:
    bridge = await Bridge.up(place)
    other = await bridge.other()
    told = {"session": bridge.name, "machine": {"id": "this", "name": "laptop", "user": "somebody"}}
    assert other.hello["facts"]["bridges"] == [{**told, "attached": True}]
    await other.stop()
    bridge.agent.framed.cut(None)
    await until(lambda: not bridge.attached(), "it noticed")
    await bridge.resume()
    assert bridge.attached()
    await bridge.end(place)


async def test_another_machine_takes_over_when_the_first_is_gone(place: Place) -> None:
    bridge = await Bridge.up(place)
    other = await bridge.other()
    theirs = session(machine={"id": "that", "name": "desk\x07top", "user": "eve"})
    ready = await other.setup({**SETUP, "session": theirs, "replace": [bridge.name, "nobody"]})
    assert ready["tun"] == "nb0"
    assert ready["dns"] is True
    await until(lambda: bool(bridge.lost), "the first is told")
    (error,) = bridge.lost
    assert isinstance(error, TakenOverError)
    assert error.why == "It was started on desk\\x07top."
    assert bridge.cuts == []
    await other.stop()
    assert bridge.gone()
    assert place.resolv_conf.read_bytes() == RESOLV_CONF


# Who may not.


async def refused(bridge: Bridge, kind: type[BridgeError], why: str) -> None:
    with pytest.raises(kind, match=why):
        await bridge.resume()


async def test_a_wrong_secret_is_refused_and_the_right_one_still_serves(place: Place) -> None:
    bridge = await Bridge.up(place)
    bridge.agent.framed.cut(None)
    right = bridge.agent._session["secret"]
    descriptors = bridge.descriptors()
    for wrong in ("", right[:-1], right + "0", None, "\ud800", 7, [right]):
        bridge.agent._session["secret"] = wrong
        await refused(bridge, BridgeGoneError, "no longer holds")
    bridge.agent._session["secret"] = right
    await until(lambda: bridge.descriptors() <= descriptors, "nothing is left of those")
    await bridge.resume()
    await bridge.agent.ping()
    await bridge.end(place)


RESUMING = "pipe pipe socket pipe"
"""The descriptors of a resumption: in, out, the front's, standard error."""


async def test_a_total_that_cannot_be_is_refused_and_the_grace_goes_on(place: Place) -> None:
    bridge = await Bridge.up(place, grace=3)
    bridge.agent.framed.cut(None)
    await until(lambda: not bridge.attached(), "it noticed")
    descriptors = bridge.descriptors()
    resume = {"ask": "resume", "secret": bridge.agent._session["secret"], "connection": ""}
    wrong: tuple[object, ...] = (-1, 1, 1 << 70, "0", None, 0.0, float("inf"), float("nan"), [], {})
    answers = bridge.speak((resume, RESUMING), *(({**resume, "taken": taken}, RESUMING) for taken in wrong))
    assert [set(answer) for answer in answers] == [{"error"}] * 11
    await until(lambda: bridge.descriptors() == descriptors, "nothing is left of those")
    assert bridge.stands()
    await until(bridge.gone, "its grace is over")


async def test_nonsense_at_the_door_harms_nothing(place: Place) -> None:
    bridge = await Bridge.up(place)
    secret, descriptors = bridge.agent._session["secret"], bridge.descriptors()
    resume = {"ask": "resume", "secret": secret, "taken": 0, "connection": ""}
    answers = bridge.speak(
        ("", "pipe"), ("nonsense", "pipe " * 8), ("[" * 16000, RESUMING), ("{}", "pipe"),
        ('{"ask": "resume"}', RESUMING), ({"ask": ["who"]}, "pipe"),
        ({**resume, "secret": "wrong"}, RESUMING), ({**resume, "secret": None}, RESUMING),
        ({**resume, "secret": "\ud800"}, RESUMING), (resume, ""), (resume, "socket"), (resume, "pipe pipe socket"),
        (resume, RESUMING + " pipe"), (resume, "pipe " * 60), (resume, "pipe pipe pipe pipe"),
        ({**resume, "taken": 1}, RESUMING), ("x" * 60000, RESUMING), ({"ask": "who", "secret": "\ud800"}, RESUMING),
    )  # fmt: skip
    assert all(answer == "" or set(answer) in ({"error"}, {"machine", "attached"}) for answer in answers), answers
    await until(lambda: bridge.descriptors() == descriptors, "nothing is left of those")
    assert (await bridge.agent.ping()) > 0
    pings(bridge, 3)
    await until(lambda: len(numbers(bridge.taker.packets)) == 3, "packets come")
    assert bridge.cuts == bridge.lost == []
    await bridge.end(place)


@pytest.mark.parametrize("kinds", [RESUMING, "null null socket null", "socket socket socket socket"])
async def test_a_connection_that_is_none_costs_the_old_one_and_not_the_bridge(place: Place, kinds: str) -> None:
    """Only who knows the secret can do it; the bridge waits for the next."""
    bridge = await Bridge.up(place, grace=20)
    request = {"ask": "resume", "secret": bridge.agent._session["secret"], "taken": 0, "connection": ""}
    assert bridge.speak((request, kinds)) == [{"resumed": True}]
    await until(lambda: bool(bridge.cuts), "the old connection was given up for it")
    await until(lambda: not bridge.attached(), "it noticed")
    assert bridge.stands()
    await bridge.resume()
    await bridge.agent.ping()
    await bridge.end(place)


async def test_an_agent_with_a_bridge_of_its_own_resumes_no_other(place: Place) -> None:
    bridge = await Bridge.up(place)
    message = {"type": "resume", "session": bridge.name, "secret": bridge.agent._session["secret"], "taken": 0}
    with pytest.raises(BridgeError, match="there is a bridge here"):
        await bridge.agent._ask(message, "resumed")
    await bridge.agent.ping()
    await bridge.end(place)


@pytest.mark.parametrize("message", [
    {"session": "nobody", "secret": "x", "taken": 0}, {"session": 7, "secret": "x", "taken": 0},
    {"session": "a\0b", "secret": "x", "taken": 0}, {"session": "n" * 500, "secret": "x", "taken": 0}, {},
])
async def test_a_resumption_of_nothing_is_refused_and_undoes_nothing(place: Place, message: dict[str, Any]) -> None:
    agent = await place.agent()
    with pytest.raises(BridgeError):
        await agent._ask({"type": "resume", **message}, "resumed")
    assert (await agent.setup(SETUP))["tun"] == "nb0"
    await agent.stop()


# Silence.


async def test_a_session_that_falls_silent_is_waited_for_by_the_grace(place: Place) -> None:
    bridge = await Bridge.up(place, silence=0.5)
    await until(lambda: bool(bridge.cuts), "the agent gave the connection up")
    assert "nothing was heard" in bridge.agent.channel.diagnostics()
    assert bridge.stands()
    await bridge.resume()
    await bridge.end(place)


class Dead(Bridge):
    """A session whose machine lost its power: it reads nothing and says nothing, and closes nothing."""

    def power_off(self) -> None:
        channel = self.agent.channel
        channel._loop.remove_reader(channel._in)  # type: ignore[attr-defined]


async def test_a_quiet_session_is_left_alone_while_nothing_is_sent(place: Place) -> None:
    bridge = await Bridge.up(place, silence=0.4, quiet=True)
    await asyncio.sleep(1.2)  # that nothing happens cannot be waited for otherwise
    assert bridge.cuts == []
    await bridge.agent.ping()
    await bridge.end(place)


async def test_a_quiet_session_that_lives_outlives_a_datagram_nobody_answers(place: Place) -> None:
    bridge = await Bridge.up(place, silence=0.4, quiet=True)
    pings(bridge, 1)
    await until(lambda: numbers(bridge.taker.packets) == [1], "it came")
    await asyncio.sleep(1.2)  # three times as long as it takes to be given up
    assert bridge.cuts == []
    await bridge.end(place)


async def test_a_quiet_session_that_is_dead_is_given_up_however_much_is_sent_to_it(place: Place) -> None:
    bridge = await Dead.up(place, silence=0.5, quiet=True)
    assert isinstance(bridge, Dead)
    bridge.power_off()
    sending = await asyncio.create_subprocess_exec(
        *bridge.enter, "ping", "-q", "-i", "0.1", "-w", "8", "10.1.2.3", stdout=subprocess.DEVNULL,
    )
    await until(lambda: not bridge.attached(), "the agent gave the connection up")
    sending.kill()
    await sending.wait()
    bridge.agent.framed.cut(None)
    await bridge.resume()
    await bridge.end(place)
