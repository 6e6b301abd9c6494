"""The names of this machine followed while bridging: what the agent is told, when, and what it is still owed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from netbridge.bridge import naming as module
from netbridge.bridge.dns import Names, Upstream
from netbridge.bridge.dns.systemnames import SystemNames
from netbridge.bridge.errors import BridgeError, TargetUnreachableError
from netbridge.bridge.naming import Naming


class Keeper:
    """An agent that takes all names, or fails as it is told."""

    def __init__(self) -> None:
        self.told: list[Names] = []
        self.error: BridgeError | None = None
        self._more = asyncio.Event()

    async def change_names(self, suffixes: Sequence[str], search: Sequence[str]) -> None:
        self.told.append(Names(tuple(suffixes), tuple(search)))
        self._more.set()
        if self.error:
            raise self.error

    async def is_told(self, count: int) -> Names:
        """What it was told the `count`th time, when it was."""
        async with asyncio.timeout(5):
            while len(self.told) < count:
                self._more.clear()
                await self._more.wait()
        return self.told[count - 1]


class Scene:
    def __init__(self, folder: Path) -> None:
        self.resolv_conf, self.uplinks = folder / "resolv.conf", folder / "uplinks"
        self.resolv_conf.write_text("search corp.test\n")
        self.upstream = Upstream(
            resolv_conf=str(self.resolv_conf), hosts="/nonexistent", nsswitch="/nonexistent", uplinks=str(self.uplinks),
            last_domain="netbridge.internal",
        )
        self.captured = ["10.99.0.0/24"]
        self.system: SystemNames | None = SystemNames()
        self.asked = 0
        self.keeper = Keeper()
        self.naming = self.made()

    def made(self, *, polled: bool = False) -> Naming:
        return Naming(self.upstream, lambda: self.captured, ask_system=self.ask, polled=polled)

    async def ask(self) -> SystemNames | None:
        self.asked += 1
        return self.system

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        self.naming.told(await self.naming.look())
        watching = asyncio.create_task(self.naming.watch(self.keeper))
        try:
            yield
        finally:
            watching.cancel()

    async def looks(self, count: int = 3) -> None:
        """So many looks."""
        for _ in range(count):
            self.naming._look_now.set()
            async with asyncio.timeout(5):
                while self.naming._look_now.is_set():
                    await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scene:
    monkeypatch.setattr(module, "LOOK_SECONDS", 600.0)  # only what is told makes it look
    return Scene(tmp_path)


async def test_nobody_is_told_or_asked_while_nothing_changes(scene: Scene) -> None:
    async with scene.watched():
        await scene.looks()
    assert scene.keeper.told == []
    assert scene.asked == 1
    reverse = "0.99.10.in-addr.arpa"
    assert scene.naming.names == Names(("corp.test", reverse, "netbridge.internal"), ("corp.test",))


async def test_a_look_comes_by_itself_within_two_seconds(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert module.LOOK_SECONDS <= 1
    async with scene.watched():
        scene.resolv_conf.write_text("search vpn.test corp.test\n")
        async with asyncio.timeout(2):
            assert (await scene.keeper.is_told(1)).search == ("vpn.test", "corp.test")


async def test_a_vpn_that_pushes_a_domain_to_systemd_resolved(scene: Scene) -> None:
    """It writes its own files anew then; only then it is asked."""
    async with scene.watched():
        scene.system = SystemNames(("vpn.test",), ("routed.test",))
        await scene.looks()
        assert scene.keeper.told == []
        scene.uplinks.write_text("nameserver 10.96.0.1\n")
        scene.naming._look_now.set()
        names = await scene.keeper.is_told(1)
        assert names.search == ("corp.test", "vpn.test")
        assert names.suffixes[:3] == ("corp.test", "vpn.test", "routed.test")
        await scene.looks()
    assert scene.asked == 2
    assert len(scene.keeper.told) == 1


async def test_the_network_changes(scene: Scene) -> None:
    """Answers are forgotten, the system is asked, and what is captured now has its reverse names."""
    async with scene.watched():
        before = scene.upstream.generation()
        scene.captured = ["10.96.0.0/16"]
        scene.system = SystemNames(("vpn.test",))
        scene.naming.network_changed()
        names = await scene.keeper.is_told(1)
        assert names.suffixes == ("corp.test", "vpn.test", "96.10.in-addr.arpa", "netbridge.internal")
        assert scene.upstream.generation() > before


async def test_other_private_suffixes_are_told_and_reverse_names_are_not(scene: Scene) -> None:
    told: list[tuple[str, ...]] = []
    scene.naming.on_private = lambda: told.append(scene.naming.names.private)
    async with scene.watched():
        scene.captured = ["10.96.0.0/16"]
        scene.naming.network_changed()
        await scene.keeper.is_told(1)
        scene.resolv_conf.write_text("search vpn.test corp.test\n")
        scene.naming._look_now.set()
        await scene.keeper.is_told(2)
        await scene.looks()
    assert told == [("vpn.test", "corp.test")]


async def test_what_changes_while_the_system_is_asked_is_asked_for_again(scene: Scene) -> None:
    async def ask() -> SystemNames | None:
        if not scene.asked:  # a VPN comes up just now, and what was said is from before
            scene.uplinks.write_text("nameserver 10.96.0.1\n")
        scene.system = SystemNames(("vpn.test",)) if scene.asked else SystemNames()
        return await scene.ask()

    scene.naming._ask_system = ask
    async with scene.watched():
        scene.naming._look_now.set()
        assert (await scene.keeper.is_told(1)).search == ("corp.test", "vpn.test")
        asked = scene.asked
        await scene.looks()
    assert scene.asked == asked


async def test_a_polled_system_is_asked_with_each_look(scene: Scene) -> None:
    """macOS: no file changes there."""
    scene.naming = scene.made(polled=True)
    async with scene.watched():
        scene.system = SystemNames(("vpn.test",))
        scene.naming._look_now.set()
        assert (await scene.keeper.is_told(1)).search == ("corp.test", "vpn.test")


async def test_a_system_that_cannot_be_asked_keeps_what_it_said_and_is_asked_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, as it may never answer."""
    scene.system = SystemNames(("vpn.test",))
    async with scene.watched():
        scene.system = None
        scene.naming.network_changed()
        await scene.looks()
        assert scene.keeper.told == []
        assert scene.asked == 2
        monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
        scene.naming.network_changed()
        await scene.looks()
        assert scene.asked >= 4
        scene.system = SystemNames()
        scene.naming._look_now.set()
        assert (await scene.keeper.is_told(1)).search == ("corp.test",)


async def test_what_could_not_be_told_while_cut_off_is_told_when_the_connection_is_there_again(scene: Scene) -> None:
    async with scene.watched():
        scene.keeper.error = TargetUnreachableError("The agent went away during `names`.")
        scene.resolv_conf.write_text("search vpn.test\n")
        scene.naming._look_now.set()
        await scene.keeper.is_told(1)
        await scene.looks(1)
        failed = len(scene.keeper.told)
        assert failed >= 2  # it stays due
        scene.keeper.error = None
        scene.naming.renew()
        assert (await scene.keeper.is_told(failed + 1)).search == ("vpn.test",)
        await scene.looks()
        assert len(scene.keeper.told) == failed + 1


async def test_a_refusal_is_logged_and_not_repeated(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    async with scene.watched():
        scene.keeper.error = BridgeError("The agent could not do what it was asked.")
        scene.naming.renew()
        await scene.keeper.is_told(1)
        await scene.looks()
    assert len(scene.keeper.told) == 1
    assert "could not be changed" in caplog.text
