"""Links over two functions: what the functions may do, and how much waits for them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from netbridge.stack import Stack
from netbridge.stack.link import CallLink, Greeting, LinkError, MessageLink, call_link, message_link
from netbridge.stack.link.calls import AGAIN, BATCH
from netbridge.stack.link.carried import FLUSH, HIGH, LENGTH, LIMIT
from netbridge.stack.link.greeting import MAGIC
from netbridge.stack.vnet import NO_OFFLOAD
from tests.stack.fake import RecordingUser
from tests.stack.link.test_links import packet, until
from tests.stack.link.test_offload import super_segment


class Pipe:
    """One way between two ends, which takes a write when it is read , or drops some messages (`loss`)."""

    def __init__(self, *, loss: float = 0.0, seed: int = 1) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(64)
        self.loss, self.random = loss, random.Random(seed)
        self.written: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()

    async def read(self) -> bytes:
        return await self.queue.get()

    async def write(self, data: bytes) -> None:
        await self.open.wait()
        self.written.append(data)
        if self.random.random() >= self.loss:
            await self.queue.put(data)


async def ends(make: Callable[..., Awaitable[Any]], **pipes: Any) -> tuple[Any, Any, Pipe, Pipe]:
    """Two links, and the pipes that they write to."""
    out, back = Pipe(seed=1, **pipes), Pipe(seed=2, **pipes)
    near, far = await asyncio.gather(make(back.read, out.write), make(out.read, back.write))
    return near, far, out, back


async def close(*links: CallLink | MessageLink) -> None:
    for link in links:
        link.close()
    await asyncio.gather(*(link.wait_closed() for link in links))


async def test_what_waits_goes_in_one_write_and_writes_have_a_bound() -> None:
    near, far, out, _ = await ends(call_link)
    user = RecordingUser()
    near.start(RecordingUser())
    far.start(user)
    out.written.clear()
    for _ in range(1000):
        near.send(NO_OFFLOAD + packet(1000))
    await until(lambda: len(user.packets) == 1000)
    assert len(out.written) < 8
    assert max(map(len, out.written)) < BATCH + 1100
    await close(near, far)


async def test_the_queue_is_bounded_and_says_when_it_has_room() -> None:
    near, far, out, _ = await ends(call_link)
    user, peer = RecordingUser(), RecordingUser()
    near.start(user)
    far.start(peer)
    out.open.clear()
    segment = super_segment(4, bytes(60_000), 1448)
    while near.ready:
        near.send(segment)
    assert HIGH < near._queued < HIGH + 2 * len(segment)
    while not near.dropped:
        near.send(segment)
    assert near._queued < LIMIT + 2 * len(segment)
    await asyncio.sleep(0.01)
    assert user.readies == 0
    out.open.set()
    await until(lambda: user.readies)
    assert near.ready
    await close(near, far)


async def test_a_write_that_fails_ends_the_link_with_its_reason() -> None:
    near, far, out, _ = await ends(call_link)
    user = RecordingUser()
    near.start(user)
    out.loss = "no number"  # type: ignore[assignment]
    near.send(NO_OFFLOAD + packet())
    await until(lambda: user.lost)
    (error,) = user.lost
    assert isinstance(error, LinkError)
    assert "TypeError" in str(error)
    assert isinstance(error.__cause__, TypeError)
    await close(near, far)


@pytest.mark.parametrize("make", [call_link, message_link])
@pytest.mark.parametrize("end", [EOFError(), OSError(5, "Input/output error"), RuntimeError("library says no")])
async def test_a_read_that_fails_ends_the_link_with_its_reason(make: Any, end: Exception) -> None:
    near, far, *_ = await ends(make)
    user = RecordingUser()

    async def fail() -> bytes:
        raise end

    near._read = fail
    near.start(user)
    await until(lambda: user.lost)
    what = "the other end closed the link" if isinstance(end, EOFError) else str(end)
    assert what in str(user.lost[0])
    await close(near, far)


async def test_a_carrier_that_takes_nothing_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netbridge.stack.link.carried.FLUSH", 0.05)
    assert FLUSH > 1
    near, far, out, _ = await ends(call_link)
    closed: list[int] = []
    near._close = lambda: closed.append(len(out.written))
    near.start(RecordingUser())
    out.open.clear()
    near.send(NO_OFFLOAD + packet())
    written = len(out.written)
    near.close()
    async with asyncio.timeout(5):
        await near.wait_closed()
    await asyncio.sleep(0)
    assert not near._tasks
    assert closed == [written]
    await close(far)


async def test_a_carrier_whose_end_does_not_come_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netbridge.stack.link.carried.FLUSH", 0.05)
    near, far, _, _ = await ends(call_link)
    near._close = asyncio.Event().wait
    near.start(RecordingUser())
    near.close()
    async with asyncio.timeout(5):
        await near.wait_closed()
    await close(far)


async def test_a_user_that_raises_is_told_to_the_loop_and_ends_the_link() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    near, far, _, _ = await ends(call_link)

    class Broken(RecordingUser):
        def packet_received(self, packet: memoryview) -> None:
            raise ZeroDivisionError

    user = Broken()
    near.start(user)
    far.start(RecordingUser())
    far.send(NO_OFFLOAD + packet())
    await until(lambda: user.lost)
    assert "ZeroDivisionError" in str(user.lost[0])
    assert isinstance(told[0]["exception"], ZeroDivisionError)
    await close(near, far)


async def test_closing_while_packets_are_delivered() -> None:
    near, far, _, _ = await ends(call_link)

    class Closer(RecordingUser):
        def packet_received(self, packet: memoryview) -> None:
            super().packet_received(packet)
            near.close()

    user = Closer()
    near.start(user)
    far.start(RecordingUser())
    for _ in range(3):
        far.send(NO_OFFLOAD + packet())
    await until(lambda: user.lost)
    assert len(user.packets) == 1
    await close(near, far)


async def test_a_length_no_packet_has_ends_the_link() -> None:
    near, far, _, back = await ends(call_link)
    user = RecordingUser()
    near.start(user)
    await back.write(LENGTH.pack(0xFFFFFFFF))
    await until(lambda: user.lost)
    assert "announced a packet of 4294967295 bytes" in str(user.lost[0])
    await close(near, far)


# -- messages


async def test_without_offload_a_message_is_an_ip_packet() -> None:
    near, far, out, back = await ends(message_link)
    user = RecordingUser()
    near.start(user)
    out.written.clear()
    near.send(super_segment(4, bytes(3000), 1448))
    await until(lambda: len(out.written) == 3)
    assert [len(message) for message in out.written] == [1488, 1488, 144]
    assert out.written[0][0] == 0x45
    await back.write(b"")  # an empty datagram is nothing
    await back.write(packet())
    await until(lambda: user.packets)
    assert user.packets == [NO_OFFLOAD + packet()]
    await close(near, far)


@pytest.mark.parametrize("loss", [0.2, 0.5])
async def test_lost_greetings_are_said_again(loss: float) -> None:
    """Whatever is lost: both ends have a link at last, and go on greeting as long as one of them asks."""
    near, far, out, back = await ends(message_link, loss=loss)
    one, other = RecordingUser(), RecordingUser()
    near.start(one)
    far.start(other)
    out.loss = back.loss = 0
    near.send(NO_OFFLOAD + packet(mark=1))
    far.send(NO_OFFLOAD + packet(mark=2))
    await until(lambda: one.packets and other.packets)
    assert one.packets == [NO_OFFLOAD + packet(mark=2)]
    assert other.packets == [NO_OFFLOAD + packet(mark=1)]
    await close(near, far)


async def test_an_end_that_asks_again_is_answered_and_one_that_has_heard_is_not() -> None:
    near, far, out, back = await ends(message_link)
    near.start(RecordingUser())
    out.written.clear()
    await back.write(Greeting(heard=True).emit())
    await back.write(MAGIC)  # cut short
    await back.write(MAGIC + b"\x09" * 16)  # another version
    await back.write(Greeting().emit())
    await until(lambda: out.written)
    assert len(out.written) == 1
    assert out.written[0][:9] == MAGIC + b"\x01"
    assert out.written[0][9] & 2
    await close(near, far)


async def test_packets_of_a_peer_that_is_ahead_are_no_strangers_words() -> None:
    out, back = Pipe(), Pipe()
    for data in (packet(), NO_OFFLOAD + packet(), b"", b"\x60" + bytes(3) + b"\0\x04" + bytes(38)):
        await back.write(data)
    await back.write(Greeting(mtu=1280).emit())
    link = await message_link(back.read, out.write)
    assert link.mtu == 1280
    await close(link)


@pytest.mark.parametrize(("words", "what"), [
    (b"HTTP/1.1 400 Bad Request", "an HTTP server"), (b"E" * 30, "another protocol"), (MAGIC, "cut short, to 8 bytes"),
    (MAGIC + b"\x09", "speaks version 9"),
])
async def test_strangers(words: bytes, what: str) -> None:
    out, back = Pipe(), Pipe()
    closed = []
    await back.write(words)
    with pytest.raises(LinkError, match=what):
        await message_link(back.read, out.write, lambda: closed.append(True))
    assert closed == [True]


async def test_silence_and_its_price() -> None:
    out, back = Pipe(), Pipe()
    with pytest.raises(LinkError, match=r"did not greet within 0\.6 s"):
        await message_link(back.read, out.write, timeout=0.6)
    assert 2 <= len(out.written) <= 0.6 / AGAIN + 1


async def test_stacks_over_a_carrier_that_loses() -> None:
    near, far, out, back = await ends(message_link)
    out.loss = back.loss = 0.05

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(len(await reader.read())).encode())
        writer.close()

    async with Stack(near, ["10.0.0.1/24"]) as one, Stack(far, ["10.0.0.2/24"]) as other:
        await other.start_server(swallow, "10.0.0.2", 80)
        reader, writer = await one.open_connection("10.0.0.2", 80)
        writer.write(bytes(100_000))
        writer.write_eof()
        assert await reader.read() == b"100000"
    await close(near, far)
