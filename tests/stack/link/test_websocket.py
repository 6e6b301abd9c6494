"""WebSockets whose other end is websockets' own, and no link."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from netbridge.stack.link import LinkError, websocket_link
from netbridge.stack.link.greeting import Greeting
from tests.stack.fake import RecordingUser
from tests.stack.link.pairs import LOOPBACK, End, both, carrier, pair
from tests.stack.link.test_links import until
from tests.stack.link.test_offload import super_segment

websockets = pytest.importorskip("websockets.asyncio.client", reason="websockets is not installed")


async def met(handle: Any, **settings: Any) -> str:
    """What `websocket_link` says of a server that treats its connections like `handle`."""
    from websockets.asyncio.server import serve

    async with serve(handle, LOOPBACK, 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        connection = await websockets.connect(f"ws://{LOOPBACK}:{port}", proxy=None)
        with pytest.raises(LinkError) as caught:
            await websocket_link(connection, **settings)
        await connection.wait_closed()
        return str(caught.value)


async def test_text() -> None:
    async def chat(connection: Any) -> None:
        await connection.send("welcome to the chat")
        await connection.wait_closed()

    assert await met(chat) == "the other end speaks another protocol: it sent text, 'welcome to the chat'"


async def test_an_echo() -> None:
    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    assert "is an echo" in await met(echo)


async def test_other_bytes() -> None:
    async def protobuf(connection: Any) -> None:
        await connection.send(b"\x08\x96\x01")
        await connection.wait_closed()

    assert "speaks another protocol: it said '\\x08\\x96\\x01'" in await met(protobuf)


async def test_silence() -> None:
    async def nothing(connection: Any) -> None:
        await connection.wait_closed()

    assert "did not greet within 0.05 s" in await met(nothing, timeout=0.05)


@pytest.mark.parametrize(("code", "reason", "what"), [
    (1000, "", "closed the connection before it greeted"), (1008, "not for you", "the WebSocket ended: .*not for you"),
])
async def test_it_closes_before_the_greeting(code: int, reason: str, what: str) -> None:
    async def close(connection: Any) -> None:
        await connection.close(code, reason)

    import re

    assert re.search(what, await met(close))


async def test_a_reason_for_the_end_is_told() -> None:
    """Which a code other than 1000 comes with."""
    async with carrier("websocket") as (one, other):
        near, far = await both(one.link(), other.link())
        user = RecordingUser()
        near.start(user)
        far.start(RecordingUser())
        await connection_of(other).close(1013, "try again later")
        await until(lambda: user.lost)
        assert "try again later" in str(user.lost[0])
        await asyncio.gather(near.wait_closed(), far.wait_closed())


def connection_of(end: End) -> Any:
    """The connection of websockets."""
    return end.read.__self__  # type: ignore[attr-defined]


async def test_an_end_that_does_not_say_goodbye_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netbridge.stack.link.carried.FLUSH", 0.1)
    async with carrier("websocket") as (one, other):
        near, _ = await both(one.link(), other.link())
        connection_of(other).transport.pause_reading()
        near.close()
        await near.wait_closed()
        await connection_of(one).wait_closed()
        connection_of(other).transport.abort()


async def test_messages_hold_several_packets_and_none_is_larger_than_websockets_takes() -> None:
    """websockets refuses messages above 1 MiB by default."""
    async with pair("websocket") as (near, far):
        user = RecordingUser()
        near.start(RecordingUser())
        far.start(user)
        segment = super_segment(4, bytes(64_000), 1448)
        for _ in range(40):
            near.send(segment)
        await until(lambda: len(user.packets) == 40)
        assert not user.lost


async def test_compression_is_websockets_affair() -> None:
    from websockets.asyncio.server import serve

    links: list[Any] = []

    async def handle(connection: Any) -> None:
        links.append(await websocket_link(connection))
        links[0].start(RecordingUser())
        await links[0].wait_closed()

    async with serve(handle, LOOPBACK, 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        link = await websocket_link(await websockets.connect(f"ws://{LOOPBACK}:{port}", proxy=None), mtu=1300)
        await until(lambda: links)
        assert links[0].peer == Greeting(1300, nonce=links[0].peer.nonce)
        link.close()
        await link.wait_closed()
        await asyncio.sleep(0)
