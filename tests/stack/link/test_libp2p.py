"""libp2p links: on hosts of one's own, in trio's thread, and other ends that are py-libp2p's own, and no link."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from netbridge.stack.link import LinkError
from netbridge.stack.link.extras import need
from tests.stack.fake import RecordingUser
from tests.stack.link.pairs import LOOPBACK
from tests.stack.link.test_links import converse, stacks, until

pytest.importorskip("trio", reason="libp2p is not installed")
try:
    need("libp2p", "libp2p")
except ImportError:
    pytest.skip("libp2p is not installed", allow_module_level=True)

import trio

from netbridge.stack.link.libp2p import (
    PROTOCOL,
    Libp2pNode,
    Libp2pStream,
    attach,
    dial,
    in_trio,
    libp2p_link,
)

LISTEN = [f"/ip4/{LOOPBACK}/tcp/0"]


async def test_a_host_that_was_there_already() -> None:
    """A program of trio's: it attaches the offer to its own host, and dials by it; the stacks stand in asyncio."""
    loop = asyncio.get_running_loop()
    served: asyncio.Future[Any] = loop.create_future()
    stream: asyncio.Future[Libp2pStream] = loop.create_future()

    async def opened(other: Libp2pStream) -> None:
        link = await libp2p_link(other)
        served.set_result((other.peer_id, link))
        await link.wait_closed()

    stop: dict[str, Any] = {}

    async def program() -> None:
        libp2p, multiaddr = need("libp2p", "libp2p"), need("multiaddr", "libp2p")
        stop["event"], stop["token"] = trio.Event(), trio.lowlevel.current_trio_token()
        mine, other = libp2p.new_host(), libp2p.new_host()
        here = [multiaddr.Multiaddr(text) for text in LISTEN]
        async with mine.run(listen_addrs=here), other.run(listen_addrs=here):
            attach(mine, opened, loop)
            made = await dial(other, str(mine.get_addrs()[0]))
            loop.call_soon_threadsafe(stream.set_result, made)
            stop["id"], stop["mine"] = str(other.get_id()), str(mine.get_id())
            await stop["event"].wait()
            await mine.close()
            await other.close()

    thread = threading.Thread(target=trio.run, args=(program,))
    thread.start()
    try:
        near = await libp2p_link(await stream)
        peer_id, far = await served
        assert peer_id == stop["id"]
        assert (await stream).peer_id == stop["mine"]
        async with stacks(near, far) as (one, other):
            await converse(one, other, 300_000)
        await asyncio.gather(near.wait_closed(), far.wait_closed())
    finally:
        stop["token"].run_sync_soon(stop["event"].set)
        await asyncio.to_thread(thread.join)


async def met(handle: Callable[[Any], Awaitable[None]], *, timeout: float = 5.0) -> str:
    """What `libp2p_link` says of a host that treats the link's streams like `handle`, a function of trio's."""
    async with Libp2pNode(LISTEN) as far, Libp2pNode() as near:
        far._trio.run_sync_soon(far.host.set_stream_handler, PROTOCOL, handle)
        with pytest.raises(LinkError) as caught:
            await libp2p_link(await near.dial(far.addresses[0]), timeout=timeout)
        return str(caught.value)


async def test_strangers() -> None:
    async def echo(stream: Any) -> None:
        await stream.write(await stream.read(100))

    async def ping(stream: Any) -> None:
        await stream.write(bytes(32))
        await stream.read(100)

    async def close(stream: Any) -> None:
        await stream.read(100)
        await stream.close()

    assert "is an echo" in await met(echo)
    assert "speaks another protocol: it said '\\x00\\x00" in await met(ping)
    assert "before" in await met(close)


async def test_silence() -> None:
    async def nothing(stream: Any) -> None:
        await stream.read(100)
        await trio.sleep(2)

    assert "did not greet within 0.1 s" in await met(nothing, timeout=0.1)


async def test_a_host_that_offers_no_link_and_addresses_without_a_host() -> None:
    async with Libp2pNode(LISTEN) as far, Libp2pNode() as near:
        with pytest.raises(LinkError, match="libp2p cannot open a link to /ip4/"):
            await near.dial(far.addresses[0])
        with pytest.raises(LinkError, match="is no address of a libp2p host"):
            await near.dial("example.org:4001")


async def test_a_host_that_cannot_listen() -> None:
    with pytest.raises(LinkError, match="libp2p's host does not start"):
        async with Libp2pNode(["/ip4/192.0.2.1/nonsense/1"]):
            pass


@pytest.mark.parametrize("turns", [1, 3])
async def test_a_start_that_is_cancelled_ends_the_thread(turns: int) -> None:
    before = threading.active_count()
    starting = asyncio.ensure_future(Libp2pNode(LISTEN).__aenter__())
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await until(lambda: threading.active_count() <= before)


async def test_the_host_stops_under_the_link() -> None:
    served: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def opened(stream: Libp2pStream) -> None:
        served.set_result(await libp2p_link(stream))
        await served.result().wait_closed()

    user, peer = RecordingUser(), RecordingUser()
    async with Libp2pNode(LISTEN) as far:
        far.serve(opened)
        async with Libp2pNode() as near:
            link = await libp2p_link(stream := await near.dial(far.addresses[0]))
            link.start(user)
            (await served).start(peer)
        await until(lambda: user.lost and peer.lost)
        assert isinstance(user.lost[0], LinkError)
        assert isinstance(peer.lost[0], LinkError)
        await asyncio.gather(link.wait_closed(), served.result().wait_closed())
        with pytest.raises(LinkError, match="libp2p's host was stopped"):
            await stream.read()
        await stream.close()


async def test_what_runs_in_trio_is_cancelled_from_asyncio() -> None:
    async with Libp2pNode() as node:
        began, ended = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        async def wait() -> None:
            loop.call_soon_threadsafe(began.set)
            try:
                await trio.sleep_forever()
            finally:
                loop.call_soon_threadsafe(ended.set)

        task = asyncio.ensure_future(in_trio(node._trio, wait))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended.wait()

        async def fail() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await in_trio(node._trio, fail)
        waiting = asyncio.ensure_future(in_trio(node._trio, trio.sleep_forever))
        await asyncio.sleep(0.01)
    with pytest.raises(LinkError, match="was stopped"):
        await waiting


async def test_streams_that_others_open_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netbridge.stack.link.libp2p.STREAMS", 2)
    open_now: list[Libp2pStream] = []
    over = asyncio.Event()

    async def opened(stream: Libp2pStream) -> None:
        open_now.append(stream)
        await over.wait()
        open_now.remove(stream)

    async with Libp2pNode(LISTEN) as far, Libp2pNode() as near:
        far.serve(opened)
        for number in (1, 2):
            await near.dial(far.addresses[0])
            await until(lambda number=number: len(open_now) == number)
        with pytest.raises(LinkError):
            await libp2p_link(await near.dial(far.addresses[0]), timeout=10)
        assert len(open_now) == 2
        over.set()
        await until(lambda: not open_now)
