"""Places for agents: private network and mount namespaces, so that nothing of this machine is ever changed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from netbridge.bridge.agent import stub
from netbridge.bridge.bootstrap import AgentHandle, AgentOptions, launch

from .channels import LocalTransport
from .stub_world import World


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Both event loops for the session's end; the agent has none of either, so one is enough for it."""
    if item.path.name in {"test_agent.py", "test_captured.py", "test_outlive.py"}:
        return {"asyncio": asyncio.SelectorEventLoop}
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


CLONE_NEWNET = 0x40000000

RESOLV_CONF = b"# original, no newline at its end\nsearch old.example\nnameserver 127.99.0.1\noptions edns0"

SETUP: dict[str, Any] = {
    "tun": "nb0", "mtu": 1500,
    "addresses": ["198.18.5.2/30", "fd6e:6272:5::2/64"], "gateways": ["198.18.5.1", "fd6e:6272:5::1"],
    "routes": ["10.0.0.0/8", "fd00:9::/32"], "exclude": [],
    "dns": {"mode": "auto", "service": ["198.18.5.1"], "suffixes": ["corp.example"], "search": ["corp.example"]},
    "rto_min_ms": 2000, "loopback_up": True, "pass_tun": False,
}  # fmt: skip


def _unshare_network() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")


@pytest.fixture
def in_network() -> Iterator[Callable[..., Any]]:
    """Run functions in one thread that has a network namespace of its own (programs it starts inherit it)."""
    with concurrent.futures.ThreadPoolExecutor(1, initializer=_unshare_network) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result(60)


@pytest.fixture
def play(in_network: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Run a conversation in a world of its own."""
    monkeypatch.setattr(stub, "FIRST_WAIT", 0.2)
    monkeypatch.setattr(stub, "LAST_WAIT", 0.8)
    monkeypatch.setattr(stub, "CIRCLE_WAIT", 0.1)

    def run(conversation: Callable[[World], None]) -> None:
        def body() -> None:
            world = World()
            try:
                conversation(world)
            finally:
                world.close()

        in_network(body)

    yield run


class Place:
    """A network and mount namespace whose /etc/resolv.conf is a file of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.resolv_conf = folder / "resolv.conf"
        self.resolv_conf.write_bytes(RESOLV_CONF)
        # Without the private file nothing may run: it would edit this machine's own.
        self.script = f'mount --bind {self.resolv_conf} /etc/resolv.conf || exit 99; {{before}} exec "$@"'
        self.descriptors: list[int] = []

    def transport(
        self, *, shell: str = "sh", before: str = "", then: tuple[str, ...] = (), **more: Any
    ) -> LocalTransport:
        """A transport into a new pair of namespaces; `before` runs as root first, `then` is put before the shell."""
        prefix = ["unshare", "--mount", "--net", "sh", "-c", self.script.format(before=before), "sh", *then]
        return LocalTransport(prefix, shell=shell, **more)

    async def agent(self, *, timeout: float = 10, **more: Any) -> AgentHandle:
        """A started agent, before its setup."""
        return await launch(self.transport(**more), options=AgentOptions(timeout=timeout))

    def enter(self, agent: AgentHandle) -> list[str]:
        """What runs a program beside the agent. To be asked for while the agent lives."""
        pid = agent.hello["pid"]
        descriptors = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in ("mnt", "net")]
        for descriptor in descriptors:
            self.descriptors.append(descriptor)
        me = os.getpid()
        return [
            "nsenter", f"--mount=/proc/{me}/fd/{descriptors[0]}", f"--net=/proc/{me}/fd/{descriptors[1]}",
        ]  # fmt: skip


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """Ends every process a test started and closes what it kept open."""
    yield
    for channel in LocalTransport.opened:
        await channel.dispose()
    LocalTransport.opened.clear()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for descriptor in place.descriptors:
        os.close(descriptor)
