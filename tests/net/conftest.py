"""One world for the whole run, and one bridge at a time through it."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # `tests` is no installed package

from tests import balanced
from tests.world import Bridge, Machine, Output, Program, World, missing
from tests.world.addresses import CODESPACE, SSH_PORT
from tests.world.machine import wait_until

if TYPE_CHECKING:
    from .forging import Wire

T = TypeVar("T")

TARGET = f"ssh://root@{CODESPACE[4]}:{SSH_PORT}"
TRANSPORTS: dict[str, tuple[str, ...]] = {
    "openssh": (TARGET, "--ssh", "openssh"),
    "asyncssh": (TARGET, "--ssh", "asyncssh"),
    "sandbox": ("sandbox",),
}
BY_EVERY_SSH = {"test_applications", "test_failures", "test_bulk"}
"""What these modules look at may differ between the two SSHes. What the others look at is on this side of the link, so
they run over one SSH and in the sandbox; with NETBRIDGE_TEST_ALL set they run over both."""
BY_ONE_SSH_EACH = {"test_circumstances", "test_known_failures_places", "test_limits", "test_targets", "test_traces"}
"""Modules whose tests by name of the SSH take turns: one over OpenSSH, the next over asyncssh. With NETBRIDGE_TEST_ALL
set each of them runs over both."""
ALONE = {
    "test_attacks", "test_attacks_tcp", "test_bulk", "test_errno", "test_far_codespace", "test_hardship",
    "test_icmp_attacks", "test_icmp_errors", "test_known_failures", "test_known_failures_lasting", "test_load",
    "test_path_tools", "test_routes_live", "test_soak", "test_tcp_rules", "test_udp_crowd", "test_udp_drops",
}  # fmt: skip
"""Modules that measure times or rates, or load the machine: no other test runs beside them (marker `alone`)."""
CONTROL = "laptop"
"""With NETBRIDGE_TEST_CONTROL set, the tests run on the laptop itself, without a bridge: what they expect is what they
see there, or the expectation is wrong."""


@dataclass(frozen=True)
class Through:
    """A place from which corp is reached through a running bridge."""

    transport: str
    bridge: Bridge | None
    machine: Machine
    enter: int | None

    def run(self, *argv: str, stdin: bytes | str = b"", timeout: float = 30.0) -> Output:
        return self.machine.run(*argv, stdin=stdin, timeout=timeout, enter=self.enter)

    def start(self, *argv: str, **options: Any) -> Program:
        return self.machine.start(*argv, enter=self.enter, **options)

    def shell(self, script: str, *, timeout: float = 30.0) -> Output:
        return self.machine.shell(script, timeout=timeout, enter=self.enter)

    def inside(self, function: Callable[[], T]) -> T:
        return self.machine.inside(function, self.enter)

    def connect(self, host: str, port: int, timeout: float = 5.0) -> socket.socket:
        return self.machine.connect(host, port, timeout, self.enter)


class Bridges:
    """Keeps at most one bridge running and starts it anew when it is gone."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.current: Through | None = None
        self.spoilt = False
        """A test failed: the next one gets a new bridge, so that one stuck bridge does not fail all."""

    def get(self, transport: str) -> Through:
        if transport == CONTROL:
            return Through(transport, None, self.world.laptop, None)
        if self.current and self.current.bridge:
            if self.spoilt or self.current.transport != transport or not self.current.bridge.program.running:
                self.stop()
        if not self.current:
            target, *options = TRANSPORTS[transport]
            # A bridge that is killed because a test failed must not stay over there for long.
            grace = [] if target == "sandbox" else ["--grace", "10"]
            with balanced.kept():
                bridge = Bridge(self.world.laptop, target, *options, *grace)
            try:
                bridge.ready()
                sandbox = bridge.sandbox
                self.current = Through(
                    transport,
                    bridge,
                    self.world.laptop if sandbox else self.world.codespace,
                    bridge.inside() if sandbox else None,
                )
            except BaseException:
                bridge.program.kill()
                raise
        return self.current

    def stop(self) -> None:
        if self.current:
            bridge, self.current = self.current.bridge, None
            if bridge and self.spoilt:
                bridge.program.kill()
            elif bridge:
                bridge.close()
            self.spoilt = False


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    if reason := missing():
        pytest.skip(reason)
    with World() as built:
        yield built


@pytest.fixture(scope="session")
def bridges(world: World) -> Iterator[Bridges]:
    kept = Bridges(world)
    yield kept
    kept.stop()


@pytest.fixture(scope="session", params=[CONTROL] if os.environ.get("NETBRIDGE_TEST_CONTROL") else list(TRANSPORTS))
def transport(request: pytest.FixtureRequest) -> str:
    """Session-scoped so that pytest runs all tests of one transport in a row, on one bridge."""
    return str(request.param)


@pytest.fixture
def through(bridges: Bridges, transport: str) -> Through:
    """The codespace (or the sandbox) with a bridge."""
    return bridges.get(transport)


def tuns(world: World) -> list[str]:
    """The bridges' interfaces in the codespace."""
    return re.findall(r"^\d+: (nb\d+):", world.codespace.run("ip", "-o", "link").stdout, re.MULTILINE)


@pytest.fixture
def idle(bridges: Bridges, world: World) -> Iterator[World]:
    """The world without a bridge, before the test and after it: what it leaves would be the next one's failure."""
    bridges.stop()
    yield world
    bridges.stop()
    wait_until(lambda: not tuns(world), "the codespace to be without a bridge after the test")


@pytest.fixture
def start(idle: World) -> Iterator[Callable[..., Bridge]]:
    """Start bridges of the test's own: `start("ssh://…", "--all")`. They are gone when the test is over."""
    started: list[Bridge] = []

    def begin(target: str = TARGET, *options: str, **more: Any) -> Bridge:
        bridge = Bridge(idle.laptop, target, *options, **more)
        started.append(bridge)
        return bridge

    yield begin
    for bridge in started:
        bridge.close()


@pytest.fixture
def wire(world: World, version: int) -> Iterator[Wire]:
    """Corp's end of the line to the laptop, for packets that no socket sends."""
    from .forging import Wire  # it takes scapy a second

    with Wire(world.corp.inside, version, "eth0") as made:
        yield made


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark who runs alone. Leave out the second SSH where it tells nothing new; pytest counts them as deselected."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.stem in ALONE:
            item.add_marker(pytest.mark.alone)
    if os.environ.get("NETBRIDGE_TEST_ALL"):
        return
    here = Path(__file__).parent
    left_out = [
        item for item in items
        if isinstance(item, pytest.Function) and item.path.parent == here and item.path.stem not in BY_EVERY_SSH
        and hasattr(item, "callspec") and item.callspec.params.get("transport") == "asyncssh"
    ]  # fmt: skip
    turns: dict[tuple[object, ...], int] = {}
    for item in items:
        if not isinstance(item, pytest.Function) or item.path.parent != here or not hasattr(item, "callspec"):
            continue
        params = dict(item.callspec.params)
        if item.path.stem in BY_ONE_SSH_EACH and (ssh := params.pop("ssh", "")):
            turn = turns.setdefault((item.path.stem, item.originalname, *map(str, params.values())), len(turns))
            if ssh != ("openssh", "asyncssh")[turn % 2]:
                left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the bridge said."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        through = item.funcargs.get("through")
        if isinstance(through, Through) and through.bridge:
            bridges = item.funcargs["bridges"]
            assert isinstance(bridges, Bridges)
            bridges.spoilt = True
            report.sections.append(("netbridge said", through.bridge.said[-4000:]))
    return report
