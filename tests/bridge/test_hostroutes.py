"""Host routes on a clock set by hand: made before the answer, renewed while in use, bounded, and never a busy loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from typing import Any

import dnslib
import pytest

from netbridge.bridge import events, hostroutes
from netbridge.bridge.dns.answer import Answer, parse_answer
from netbridge.bridge.dns.message import Query, parse_query
from netbridge.bridge.errors import TargetUnreachableError
from netbridge.bridge.hostroutes import IN_USE, LEAD, LEAST, LONGEST, MOST, OF_AN_ANSWER, TELL, HostRoutes
from netbridge.bridge.overlaps import Overlaps
from netbridge.bridge.routes import Capture, Captured

OWN = "10.0.0.0/16"


def asked(name: str = "db.corp", kind: str = "A") -> Query:
    return parse_query(bytes(dnslib.DNSRecord.question(name, kind).pack()))


def answer(*addresses: str, ttl: int = 300, name: str = "db.corp") -> Answer:
    kind = "AAAA" if ":" in addresses[0] else "A"
    query = asked(name, kind)
    record = dnslib.DNSRecord.parse(dnslib.DNSRecord.question(name, kind).pack()).reply()
    record.header.id = 0
    record.add_answer(*dnslib.RR.fromZone(f"{name} 5 IN CNAME other.corp"))
    for address in addresses:
        record.add_answer(*dnslib.RR.fromZone(f"other.corp {ttl} IN {kind} {address}"))
    record.add_ar(*dnslib.RR.fromZone("ns.corp 60 IN A 10.0.99.99"))
    return parse_answer(bytes(record.pack()), 0, query)


class Agent:
    """Makes every route but those it refuses."""

    def __init__(self) -> None:
        self.asked: list[dict[str, float]] = []
        self.refused: dict[str, str] = {}
        self.error: Exception | None = None
        self.silent = False
        self._more = asyncio.Event()

    async def make_host_routes(self, addresses: Sequence[tuple[str, float]]) -> dict[str, Any]:
        self.asked.append(dict(addresses))
        self._more.set()
        if self.silent:
            await asyncio.Event().wait()
        if self.error:
            raise self.error
        return {
            "installed": [text for text, _ in addresses if text not in self.refused],
            "skipped": [
                {"route": text, "reason": self.refused[text]} for text, _ in addresses if text in self.refused
            ],
        }

    async def is_asked(self, count: int) -> dict[str, float]:
        async with asyncio.timeout(5):
            while len(self.asked) < count:
                self._more.clear()
                await self._more.wait()
        return self.asked[count - 1]


class Scene:
    def __init__(self) -> None:
        self.now = 1000.0
        self.agent = Agent()
        self.told: list[events.Event] = []
        self.used: set[bytes] = set()
        self.hosts = HostRoutes(self.told.append, self.in_use, clock=lambda: self.now)
        wanted = Capture((Captured(ip_network("10.0.0.0/8"), "by tun0"),), ())
        self.hosts.overlaps = Overlaps(wanted, [OWN, "fd00:7::/64"], ["10.0.0.0/8"])

    def in_use(self) -> Iterable[bytes]:
        return self.used

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.hosts.watch(self.agent))
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()

    def use(self, *addresses: str) -> None:
        self.used = {ip_address(text).packed for text in addresses}

    async def look(self, now: float) -> None:
        """Time has come to `now`, and something makes it look."""
        self.now = now
        self.hosts._more.set()
        for _ in range(20):
            await asyncio.sleep(0)

    async def make(self, *addresses: str, ttl: int = 300) -> bool:
        """As the DNS service does; whether the answer had to wait."""
        if not self.hosts.lacks(asked(), answer(*addresses, ttl=ttl)):
            return False
        await self.hosts.make()
        return True

    @property
    def routes(self) -> dict[str, dict[str, Any]]:
        return {it["address"]: it for it in self.hosts.state()}


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_made_once_before_the_answer_for_the_ttl(scene: Scene) -> None:
    async with scene.at_work():
        assert await scene.make("10.0.3.7")
        assert scene.agent.asked == [{"10.0.3.7": 300 + LEAD}]
        assert scene.routes["10.0.3.7"] == {
            "address": "10.0.3.7", "names": ["db.corp"], "network": OWN, "seconds": 300, "in_use": False, "refused": "",
        }
        assert not await scene.make("10.0.3.7")
        assert not scene.hosts.lacks(asked(), answer("10.0.3.7"), 100)  # an older answer out of the cache
        assert len(scene.agent.asked) == 1
    made = [event for event in scene.told if isinstance(event, events.HostRoute)]
    assert made == [events.HostRoute("10.0.3.7", "db.corp", OWN, 300)]
    assert len([event for event in scene.told if isinstance(event, events.Hint)]) == 1


@pytest.mark.parametrize("addresses", [("10.1.0.7",), ("192.0.2.7",), ("fd00:9::1",)])
async def test_answers_that_lead_elsewhere_ask_for_nothing(scene: Scene, addresses: tuple[str, ...]) -> None:
    async with scene.at_work():
        assert not await scene.make(*addresses)
    assert scene.agent.asked == []


@pytest.mark.parametrize(("ttl", "seconds"), [(0, LEAST), (1, LEAST), (300, 300), (86400, LONGEST)])
async def test_the_time_is_bounded(scene: Scene, ttl: int, seconds: float) -> None:
    async with scene.at_work():
        await scene.make("10.0.3.7", ttl=ttl)
    assert scene.agent.asked == [{"10.0.3.7": seconds + LEAD}]


async def test_asked_again_later_it_is_renewed_and_nobody_waits(scene: Scene) -> None:
    async with scene.at_work():
        await scene.make("10.0.3.7")
        scene.now += 100
        assert not await scene.make("10.0.3.7")
        await scene.agent.is_asked(2)
        await scene.look(scene.now)
        assert scene.routes["10.0.3.7"]["seconds"] == 300


async def test_it_runs_out_but_not_under_a_flow(scene: Scene) -> None:
    async with scene.at_work():
        await scene.make("10.0.3.7", "10.0.3.8", ttl=100)
        scene.use("10.0.3.7", "192.0.2.1")
        await scene.look(1000 + 100 - LEAD)
        assert await scene.agent.is_asked(2) == {"10.0.3.7": IN_USE + LEAD}
        await scene.look(1000 + 100)
        assert list(scene.routes) == ["10.0.3.7"]
        scene.use()
        await scene.look(1000 + 100 + IN_USE)
        assert scene.routes == {}
    assert len(scene.agent.asked) == 2


async def test_an_agent_that_does_not_answer_holds_an_answer_up_for_a_second_at_most(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostroutes, "WAIT", 0.05)
    scene.agent.silent = True
    async with scene.at_work(), asyncio.timeout(3):
        assert await scene.make("10.0.3.7")


async def test_many_at_once_are_one_question(scene: Scene) -> None:
    async with scene.at_work():
        for number in range(50):
            assert scene.hosts.lacks(asked(), answer(f"10.0.4.{number}"))
        await asyncio.gather(*(scene.hosts.make() for _ in range(50)))
    assert [len(question) for question in scene.agent.asked] == [50]
    assert len([event for event in scene.told if isinstance(event, events.HostRoute)]) == TELL


async def test_a_refusal_is_told_and_holds_for_a_while(scene: Scene) -> None:
    scene.agent.refused["10.0.3.7"] = "the target has a neighbour with that address"
    async with scene.at_work():
        assert await scene.make("10.0.3.7")
        assert not await scene.make("10.0.3.7")
        assert "neighbour" in scene.routes["10.0.3.7"]["refused"]
        scene.now += 61
        scene.agent.refused.clear()
        assert await scene.make("10.0.3.7")
        assert not scene.routes["10.0.3.7"]["refused"]
    assert [event.refused != "" for event in scene.told if isinstance(event, events.HostRoute)] == [True, False]


async def test_a_refusal_does_not_outlive_the_connection(scene: Scene) -> None:
    """The place may have changed meanwhile: whoever asks next is not told the old word."""
    scene.agent.refused["10.0.3.7"] = "the target has a neighbour with that address"
    async with scene.at_work():
        assert await scene.make("10.0.3.7")
        scene.agent.refused.clear()
        scene.hosts.renew()
        assert await scene.make("10.0.3.7")
        assert not scene.routes["10.0.3.7"]["refused"]


async def test_bounded_and_what_is_in_use_stays(scene: Scene) -> None:
    async with scene.at_work():
        everyone = [f"10.0.{number >> 8}.{number & 255}" for number in range(1, MOST + 1)]
        for start in range(0, MOST, OF_AN_ANSWER):
            await scene.make(*everyone[start : start + OF_AN_ANSWER])
        scene.use(everyone[0])
        await scene.make("10.0.200.1")
        assert len(scene.routes) == MOST
        assert {everyone[0], "10.0.200.1"} <= scene.routes.keys()
        assert everyone[1] not in scene.routes
        assert scene.agent.asked[-1][everyone[1]] == 0
        scene.now += 200  # the one asked for longest ago is asked for again, together with a new one
        await scene.make(everyone[2], "10.0.200.2")
        assert scene.agent.asked[-1].keys() == {everyone[2], "10.0.200.2", everyone[3]}
        assert scene.agent.asked[-1][everyone[2]] > 0
        assert scene.agent.asked[-1][everyone[3]] == 0
        assert len(scene.routes) == MOST


async def test_flows_keep_their_way_when_their_network_is_let_go(scene: Scene) -> None:
    scene.use("10.80.0.5", "10.90.0.5", "192.0.2.1")
    wanted = [Captured(ip_network(text), "by tun0") for text in ("10.80.0.0/16", "10.90.0.0/16")]
    both = Overlaps(Capture(tuple(wanted), ()), [], ["10.80.0.0/16", "10.90.0.0/16"])
    one = Overlaps(Capture(tuple(wanted[1:]), ()), [], ["10.90.0.0/16"])
    async with scene.at_work():
        assert not scene.hosts.follow(both)
        assert scene.hosts.follow(one)
        await scene.hosts.make()
        assert not scene.hosts.follow(both)
    assert scene.agent.asked == [{"10.80.0.5": IN_USE + LEAD}]
    assert scene.routes["10.80.0.5"]["network"] == "10.80.0.0/16"


async def test_flows_keep_their_way_when_the_target_gets_such_a_network_itself(scene: Scene) -> None:
    """What is captured around it stays, and its own is longer."""
    scene.use("10.5.0.5")
    wanted = Capture((Captured(ip_network("10.0.0.0/8"), "by tun0"),), ())
    async with scene.at_work():
        assert scene.hosts.follow(Overlaps(wanted, [OWN, "10.5.0.0/16"], ["10.0.0.0/8"]))
        await scene.hosts.make()
    assert scene.agent.asked == [{"10.5.0.5": IN_USE + LEAD}]


async def test_without_a_connection_nothing_runs_out_and_nothing_spins(scene: Scene) -> None:
    async with scene.at_work():
        await scene.make("10.0.3.7", ttl=100)
        scene.use("10.0.3.7")
        scene.agent.error = TargetUnreachableError("The agent went away.")
        for now in range(1091, 1191, 10):
            await scene.look(now)
        assert len(scene.agent.asked) <= 1 + 10
        assert "10.0.3.7" in scene.routes
        scene.agent.error = None
        before = len(scene.agent.asked)
        scene.hosts.renew()
        assert "10.0.3.7" in await scene.agent.is_asked(before + 1)


async def test_flows_of_a_network_that_was_let_go_while_cut_off_keep_their_way(scene: Scene) -> None:
    """Nobody could be told then: the agent hears of them as soon as there is a connection again."""
    async with scene.at_work():
        scene.use("10.5.0.5")
        scene.agent.error = TargetUnreachableError("The agent went away.")
        assert scene.hosts.follow(Overlaps(Capture((), ()), [OWN], []))
        await scene.hosts.make()
        await scene.look(scene.now + 10)
        assert len(scene.agent.asked) == 1
        scene.agent.error = None
        scene.hosts.renew()
        assert await scene.agent.is_asked(2) == {"10.5.0.5": IN_USE + LEAD}
        await scene.look(scene.now)
        scene.hosts.renew()
        assert (await scene.agent.is_asked(3)).keys() == {"10.5.0.5"}


async def test_of_a_huge_answer_only_the_first_addresses_get_a_route(scene: Scene) -> None:
    """One question must not drive out everybody else's routes, nor keep the event loop with thousands of addresses."""
    async with scene.at_work():
        await scene.make("10.0.200.1")
        many = [f"10.0.{number >> 8}.{number & 255}" for number in range(1, 4001)]
        assert await scene.make(*many)
        assert scene.agent.asked[-1].keys() == set(many[:OF_AN_ANSWER])
        assert "10.0.200.1" in scene.routes


async def test_before_it_works_and_after_its_end_no_answer_waits(scene: Scene) -> None:
    assert not await scene.make("10.0.3.7")
    async with scene.at_work():
        await scene.make("10.0.3.7")
    await asyncio.sleep(0)
    assert not await scene.make("10.0.3.8")
