"""What takes minutes, on a fake clock: idle flows, sleeping readers, orphans. The host's sockets are real ones.

The event loop's clock and the stacks' clock are one and can be put forward, a second at a time; whatever falls due on
the way happens, and so do the answers to it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable

import pytest

from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.forward.policy import Policy
from netbridge.stack.tcp.sender import Sender
from tests.bridge.forward.bridge import Bridge, Listener, host_flow, opened, read_all
from tests.bridge.forward.fakes import ALLOW_LOOPBACK, until

WHO_LOOKS_AT_THE_CLOCK = (
    "stack.clock", "bridge.forward.tcpflow",
)  # fmt: skip


class Clock:
    """Real time, put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.monotonic() + self.ahead

    async def passes(self, seconds: int) -> None:
        for _second in range(seconds):
            self.ahead += 1.0
            for _turn in range(8):
                await asyncio.sleep(0)
            await asyncio.sleep(0.0005)


class Loop(asyncio.SelectorEventLoop):
    """An event loop on that clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        super().__init__()

    def time(self) -> float:
        return self.clock.now()


Scene = Callable[[Bridge, Listener, Clock], Awaitable[None]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Scene], None]:
    """Runs a scene with a bridge of the usual limits."""
    clock = Clock()
    for module in WHO_LOOKS_AT_THE_CLOCK:
        monkeypatch.setattr(f"netbridge.{module}.monotonic", clock.now, raising=module.startswith("stack"))

    async def with_bridge(scene: Scene) -> None:
        bridge = Bridge(Limits(), Policy(ALLOW_LOOPBACK))
        listener = Listener(4)
        try:
            await scene(bridge, listener, clock)
        finally:
            listener.close()
            await bridge.close()

    def run(scene: Scene) -> None:
        with asyncio.Runner(loop_factory=lambda: Loop(clock)) as runner:
            runner.run(with_bridge(scene))

    return run


def sender(bridge: Bridge) -> Sender:
    """What the bridge has to say to the codespace."""
    flow = host_flow(bridge)._flow
    assert flow is not None
    return flow.connection.sender


def test_ten_minutes_idle(play: Callable[[Scene], None]) -> None:
    """Nobody says a word for ten minutes, then both do; the codespace was asked meanwhile whether it is there."""

    async def scene(bridge: Bridge, listener: Listener, clock: Clock) -> None:
        end, host = await opened(bridge, listener)
        heard = bridge.codespace.tcp.counters.segments_in
        await clock.passes(600)
        asked = bridge.codespace.tcp.counters.segments_in - heard
        assert 5 <= asked <= 12, asked
        end.transport.write(b"still here?")
        assert await bridge.loop.sock_recv(host, 100) == b"still here?"
        await bridge.loop.sock_sendall(host, b"still here.")
        await until(lambda: end.data == b"still here.")
        end.transport.close()
        host.close()
        await bridge.nothing_left()

    play(scene)


def test_half_closed_and_idle_for_ten_minutes(play: Callable[[Scene], None]) -> None:
    async def scene(bridge: Bridge, listener: Listener, clock: Clock) -> None:
        end, host = await opened(bridge, listener)
        end.transport.write(b"question")
        end.transport.write_eof()
        assert await read_all(host) == b"question"
        await clock.passes(600)
        await bridge.loop.sock_sendall(host, b"answer")
        host.close()
        await until(lambda: end.eof)
        assert end.data == b"answer"
        end.transport.close()
        await bridge.nothing_left()

    play(scene)


def test_codespace_asleep_for_five_minutes(play: Callable[[Scene], None]) -> None:
    """Its window is closed; it is asked again and again, and all arrives when it wakes."""
    data = os.urandom(6_000_000)

    async def scene(bridge: Bridge, listener: Listener, clock: Clock) -> None:
        end, host = await opened(bridge, listener)
        end.transport.pause_reading()
        sending = asyncio.ensure_future(bridge.loop.sock_sendall(host, data))
        await until(lambda: sender(bridge).persisting)
        assert not end.data
        heard = bridge.codespace.tcp.counters.segments_in
        await clock.passes(300)
        asked = bridge.codespace.tcp.counters.segments_in - heard
        assert 5 <= asked <= 20, asked
        end.transport.resume_reading()
        await sending
        host.close()
        for _second in range(100):  # the last probe may have been a while ago
            await clock.passes(1)
            if end.eof:
                break
        assert hashlib.sha256(end.data).digest() == hashlib.sha256(data).digest()
        end.transport.close()
        await bridge.nothing_left()

    play(scene)


def test_host_asleep_for_five_minutes(play: Callable[[Scene], None]) -> None:
    """The host does not read; the codespace's kernel asks, is answered, and nobody gives up."""
    data = os.urandom(9_000_000)

    async def scene(bridge: Bridge, listener: Listener, clock: Clock) -> None:
        end, host = await opened(bridge, listener)
        end.transport.write(data)
        end.transport.write_eof()
        (flow,) = bridge.codespace.tcp.flows.values()
        await until(lambda: flow.connection.sender.persisting)
        await clock.passes(300)
        assert not end.lost
        received = asyncio.ensure_future(read_all(host))
        for _second in range(100):
            await clock.passes(1)
            if received.done():
                break
        assert hashlib.sha256(await received).digest() == hashlib.sha256(data).digest()
        host.close()
        end.transport.close()
        await bridge.nothing_left()

    play(scene)


def test_orphan_is_given_up_after_a_minute(
    play: Callable[[Scene], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both applications have closed, and the codespace acknowledges neither the last words nor the end."""

    async def scene(bridge: Bridge, listener: Listener, clock: Clock) -> None:
        end, host = await opened(bridge, listener)
        end.transport.write_eof()
        assert await read_all(host) == b""
        with monkeypatch.context() as deaf:
            deaf.setattr(bridge.stack.link, "send", lambda header, payload=b"": None)
            await bridge.loop.sock_sendall(host, b"last words")
            host.close()
            await until(lambda: host_flow(bridge).state == "closing")
            await clock.passes(55)
            assert len(bridge.forwarder) == 1
            await clock.passes(10)
            assert len(bridge.forwarder) == 0
        end.transport.abort()
        await bridge.nothing_left()

    play(scene)
