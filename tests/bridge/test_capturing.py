"""The captured networks while the connection comes and goes: what the agent still has to be told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest

from netbridge.bridge import capturing as module
from netbridge.bridge import events
from netbridge.bridge.capturing import Capturing
from netbridge.bridge.errors import BridgeError, TargetUnreachableError
from netbridge.bridge.hostroutes import HostRoutes
from netbridge.bridge.options import Options
from netbridge.bridge.routes import Interface, LocalNetworks, LocalNetworksError, Route, Snapshot

LAN = Route(ip_network("10.70.0.0/16"), "eth0")
VPN = Route(ip_network("10.80.0.0/16"), "tun0")
CUT_OFF = TargetUnreachableError("The agent went away during `routes`.")


class Machine(LocalNetworks):
    """A machine whose routes are what `routes` says."""

    def __init__(self) -> None:
        self.routes: list[Route] = [LAN]
        self.blind = False

    async def snapshot(self) -> Snapshot:
        if self.blind:
            raise LocalNetworksError("routes cannot be read here")
        return Snapshot((Interface("eth0"), Interface("tun0", tunnel=True)), tuple(self.routes))


class Keeper:
    """An agent that installs everything, or fails as it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], list[str]]] = []
        self.error: BridgeError | None = None
        self._more = asyncio.Event()

    async def change_routes(self, routes: Sequence[str], exclude: Sequence[str]) -> dict[str, Any]:
        self.asked.append((list(routes), list(exclude)))
        self._more.set()
        if self.error:
            raise self.error
        return {"routes": list(routes), "skipped": []}

    async def make_host_routes(self, addresses: Sequence[tuple[str, float]]) -> dict[str, Any]:
        self.asked.append(([address for address, _ in addresses], ["a host"]))
        self._more.set()
        return {"installed": [address for address, _ in addresses], "skipped": []}

    async def is_asked(self, count: int) -> tuple[list[str], list[str]]:
        """The `count`th question, when it is there."""
        async with asyncio.timeout(5):
            while len(self.asked) < count:
                self._more.clear()
                await self._more.wait()
        return self.asked[count - 1]


class Scene:
    def __init__(self) -> None:
        self.machine = Machine()
        self.keeper = Keeper()
        self.told: list[events.Event] = []
        self.changes = 0
        self.hosts = HostRoutes(self.told.append, lambda: self.in_use)
        self.in_use: set[bytes] = set()
        self.capturing = Capturing(Options(target="exec:x"), self.told.append, self.hosts, on_change=self.changed)

    def changed(self) -> None:
        self.changes += 1

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        await self.capturing.look()
        self.capturing.answered({"routes": self.capturing.routes, "skipped": []})
        tasks = [
            asyncio.create_task(self.hosts.watch(self.keeper)), asyncio.create_task(self.capturing.watch(self.keeper)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    async def looks(self, count: int = 3) -> None:
        """So many looks, and nothing asked that was not asked before."""
        for _ in range(count):
            self.capturing._look_now.set()
            async with asyncio.timeout(5):
                while self.capturing._look_now.is_set():
                    await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene()
    monkeypatch.setattr(module, "local_networks", lambda: scene.machine)
    monkeypatch.setattr(module, "HEARING_SECONDS", 600.0)  # only what is told makes it look
    return scene


async def test_nothing_is_asked_while_nothing_changes(scene: Scene) -> None:
    async with scene.watched():
        await scene.looks()
    assert scene.keeper.asked == []
    assert scene.changes == 0


async def test_a_change_is_told_to_the_agent_and_to_the_bridge(scene: Scene) -> None:
    async with scene.watched():
        scene.machine.routes.append(VPN)
        scene.capturing._look_now.set()
        routes, _ = await scene.keeper.is_asked(1)
        assert routes == ["10.70.0.0/16", "10.80.0.0/16"]
        await scene.looks()
    assert len(scene.keeper.asked) == 1
    assert scene.changes == 1


async def test_a_change_of_what_is_not_captured_is_told_to_the_bridge_only(scene: Scene) -> None:
    """Another Wi-Fi: the connection may be gone, and the same networks are captured."""
    async with scene.watched():
        scene.machine.routes.append(Route(ip_network("0.0.0.0/0"), "eth0"))
        await scene.looks()
    assert scene.changes == 1
    assert scene.keeper.asked == []


async def test_what_could_not_be_told_while_cut_off_is_told_when_the_connection_is_there_again(scene: Scene) -> None:
    async with scene.watched():
        scene.keeper.error = CUT_OFF
        scene.machine.routes.append(VPN)
        scene.capturing._look_now.set()
        await scene.keeper.is_asked(1)
        await scene.looks()
        failed = len(scene.keeper.asked)
        assert failed >= 2  # it stays due
        assert scene.capturing.installed == ("10.70.0.0/16",)
        scene.keeper.error = None
        scene.capturing.renew("203.0.113.7")
        routes, exclude = await scene.keeper.is_asked(failed + 1)
        assert routes == ["10.70.0.0/16", "10.80.0.0/16"]
        assert "203.0.113.7/32" in exclude
        await scene.looks()
        assert len(scene.keeper.asked) == failed + 1
        assert scene.capturing.installed == ("10.70.0.0/16", "10.80.0.0/16")


async def test_a_connection_made_anew_is_told_once_even_if_nothing_changed(scene: Scene) -> None:
    async with scene.watched():
        scene.capturing.renew("")
        routes, _ = await scene.keeper.is_asked(1)
        assert routes == ["10.70.0.0/16"]
        await scene.looks()
    assert len(scene.keeper.asked) == 1
    assert [event for event in scene.told if isinstance(event, events.Captured)] == scene.told[:1]


async def test_another_peer_replaces_the_first_and_none_leaves_it(scene: Scene) -> None:
    async with scene.watched():
        scene.capturing.decide(peers=["203.0.113.1"])
        for number, peer in enumerate(("203.0.113.7", ""), 1):
            scene.capturing.renew(peer)
            _, exclude = await scene.keeper.is_asked(number)
            assert "203.0.113.7/32" in exclude
            assert "203.0.113.1/32" not in exclude


async def test_a_refusal_is_logged_and_not_repeated(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    async with scene.watched():
        scene.keeper.error = BridgeError("The agent could not do what it was asked.")
        scene.capturing.renew("")
        await scene.keeper.is_asked(1)
        await scene.looks()
    assert len(scene.keeper.asked) == 1
    assert "could not be changed" in caplog.text


async def test_a_machine_that_cannot_be_looked_at_for_a_moment_keeps_what_it_had(scene: Scene) -> None:
    async with scene.watched():
        scene.machine.blind = True
        await scene.looks()
        scene.machine.blind = False
        await scene.looks()
    assert scene.keeper.asked == []
    assert scene.changes == 0


async def test_flows_have_their_own_way_before_their_network_is_let_go(scene: Scene) -> None:
    scene.machine.routes.append(VPN)
    scene.in_use = {bytes((10, 80, 0, 5)), bytes((10, 70, 0, 5))}
    async with scene.watched():
        scene.machine.routes.remove(VPN)
        scene.capturing._look_now.set()
        assert await scene.keeper.is_asked(1) == (["10.80.0.5"], ["a host"])
        routes, _ = await scene.keeper.is_asked(2)
        assert routes == ["10.70.0.0/16"]


async def test_what_changes_over_there_is_told_and_flows_get_their_own_way(scene: Scene) -> None:
    scene.machine.routes.append(VPN)
    scene.in_use = {bytes((10, 80, 0, 5))}
    async with scene.watched():
        scene.capturing.answered({
            "routes": ["10.70.0.0/16"], "own": ["10.80.0.0/16"],
            "skipped": [{"route": "10.80.0.0/16", "reason": "it is the target's own"}],
        })  # fmt: skip
        assert await scene.keeper.is_asked(1) == (["10.80.0.5"], ["a host"])
    assert scene.capturing.installed == ("10.70.0.0/16",)
    assert [str(it.network) for it in scene.hosts.overlaps.all] == ["10.80.0.0/16"]
    skipped = [event for event in scene.told if isinstance(event, events.Skipped)]
    assert [it.network for it in skipped[-1].networks] == ["10.80.0.0/16"]


async def test_of_a_flood_of_words_the_last_one_counts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACE", 0.05)
    async with scene.watched():
        told = asyncio.Event()
        tell = scene.told.append
        scene.capturing._tell = lambda event: (tell(event), told.set())[0]
        for number in range(1000):
            skipped = [{"route": "10.70.0.0/16", "reason": f"reason {number}"}] * 2000
            scene.capturing.heard({"routes": ["10.9.0.0/24"] * 10000, "skipped": skipped})
            if number == 0:
                assert told.is_set()
                told.clear()
        assert len(scene.capturing.installed) == module.MOST_ROUTES
        assert len(scene.capturing.skipped) == module.MOST_SKIPPED
        assert not told.is_set()
        async with asyncio.timeout(5):
            await told.wait()
        assert {it.reason for it in scene.capturing.skipped} == {"reason 999"}
        assert [event.networks[0].reason for event in scene.told if isinstance(event, events.Skipped)] == [
            "reason 0", "reason 999"
        ]


async def test_what_was_said_before_an_answer_is_older_than_that(scene: Scene) -> None:
    async with scene.watched():
        scene.capturing.heard({"routes": ["10.1.0.0/16"]})
        scene.capturing.heard({"routes": ["10.2.0.0/16"]})
        scene.capturing.answered({"routes": ["10.3.0.0/16"]})
        scene.capturing._hear()  # its time is over
        assert scene.capturing.installed == ("10.3.0.0/16",)
        scene.capturing.close()
