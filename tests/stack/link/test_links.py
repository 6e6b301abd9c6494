"""What every link over somebody's bytes or messages has to do, each over what really carries it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from scapy.utils import RawPcapNgReader

from netbridge.stack import Stack
from netbridge.stack.link import FaultLink, Faults, Link, LinkError, PcapLink, Role, TracerLink
from netbridge.stack.vnet import NO_OFFLOAD
from tests.stack.fake import RecordingUser
from tests.stack.link.pairs import KINDS, carrier, missing, pair

every = pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.skipif(bool(missing(kind)), reason=missing(kind) or "-")) for kind in KINDS],
)
NEAR4, FAR4, NEAR6, FAR6 = "10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"
SIZE = 300_000


def packet(size: int = 60, mark: int = 0) -> bytes:
    """Enough of an IPv4 packet for any link: its length is what its header says."""
    return b"\x45\0" + size.to_bytes(2, "big") + mark.to_bytes(4, "big") + bytes(size - 8)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def stacks(near: Link, far: Link) -> AsyncIterator[tuple[Stack, Stack]]:
    async with Stack(near, [f"{NEAR4}/24", f"{NEAR6}/64"]) as one, Stack(far, [f"{FAR4}/24", f"{FAR6}/64"]) as other:
        yield one, other


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


class Answering(asyncio.DatagramProtocol):
    """Sends everything back."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


class Asking(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.got: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.put_nowait(data)


async def converse(one: Stack, other: Stack, size: int) -> None:
    """There and back by TCP, byte for byte."""
    server = await other.start_server(echo, FAR6, 7)
    reader, writer = await one.open_connection(FAR6, 7)
    data = random.Random(size).randbytes(size)

    async def send() -> None:
        for at in range(0, size, 1 << 16):
            writer.write(data[at : at + (1 << 16)])
            await writer.drain()
        writer.write_eof()

    async with asyncio.TaskGroup() as group:
        group.create_task(send())
        got = await reader.read()
    assert got == data
    writer.close()
    server.close()


@every
async def test_two_stacks_talk(kind: str) -> None:
    async with pair(kind) as (near, far), stacks(near, far) as (one, other):
        await converse(one, other, SIZE)
        with pytest.raises(ConnectionRefusedError):
            await one.open_connection(FAR4, 9)
        assert await one.ping(FAR4, size=3000, timeout=10) < 10
        await other.create_datagram_endpoint(Answering, (FAR4, 7))
        transport, asking = await one.create_datagram_endpoint(Asking, None, (FAR4, 7))
        for size in (0, 1, near.mtu - 28, near.mtu - 27, 20_000):
            transport.sendto(bytes(size))
            async with asyncio.timeout(10):
                assert len(await asking.got.get()) == size
        assert not near.dropped + far.dropped


@every
async def test_the_smaller_mtu_and_offload_only_if_both_can(kind: str) -> None:
    takes = kind != "quic"  # which never has offload
    settings: list[dict[str, Any]] = [{"mtu": 1290}, {"mtu": 1400}]
    if takes:
        settings[1]["offload"] = False
    async with pair(kind, *settings) as (near, far):
        assert (near.mtu, far.mtu) == (1290, 1290)
        assert (near.offload, far.offload) == (False, False)
        assert near.peer and far.peer
        if takes:
            assert (near.peer.mtu, near.peer.offload) == (1400, False)
            assert (far.peer.mtu, far.peer.offload) == (1290, True)
        async with stacks(near, far) as (one, other):
            await converse(one, other, 50_000)


@every
async def test_two_exits_are_told(kind: str) -> None:
    with pytest.raises(LinkError, match="both ends are an exit"):
        async with pair(kind, {"role": Role.EXIT}, {"role": Role.EXIT}):
            pass
    async with pair(kind, {"role": Role.EXIT}, {"role": Role.ENTRANCE}) as (near, far):
        assert near.peer and near.peer.role is Role.ENTRANCE
        assert far.peer and far.peer.role is Role.EXIT


@every
async def test_what_is_sent_before_the_other_end_starts_waits_and_order_is_kept(kind: str) -> None:
    async with pair(kind) as (near, far):
        user = RecordingUser()
        near.start(RecordingUser())
        for number in range(20):
            near.send(NO_OFFLOAD + packet(60 + number, number))
        await asyncio.sleep(0.01)
        far.start(user)
        await until(lambda: len(user.packets) == 20)
        assert user.packets == [NO_OFFLOAD + packet(60 + number, number) for number in range(20)]
        await until(lambda: user.bursts)


@every
async def test_the_header_may_be_used_again_at_once(kind: str) -> None:
    async with pair(kind) as (near, far):
        user = RecordingUser()
        near.start(RecordingUser())
        far.start(user)
        header = bytearray(NO_OFFLOAD + packet(1000)[:40])
        for number in range(10):
            header[10:] = packet(1000, number)[:40]
            near.send(header, bytes(960))
        header[:] = bytes(len(header))
        await until(lambda: len(user.packets) == 10)
        assert user.packets == [NO_OFFLOAD + packet(1000, number) for number in range(10)]


@every
async def test_closing_is_told_once_at_either_end_and_what_was_sent_arrives(kind: str) -> None:
    async with pair(kind) as (near, far):
        user, peer = RecordingUser(), RecordingUser()
        near.start(user)
        far.start(peer)
        far.send(NO_OFFLOAD + packet())
        await until(lambda: user.packets)  # nothing waits unread, for which kernels send a reset
        for number in range(10):
            near.send(NO_OFFLOAD + packet(mark=number))
        near.close()
        near.close()
        near.send(NO_OFFLOAD + packet())
        await until(lambda: peer.lost and user.lost)
        await asyncio.gather(near.wait_closed(), far.wait_closed())
        assert user.lost == [None]
        assert near.dropped == 1
        assert len(peer.lost) == 1
        assert isinstance(peer.lost[0], LinkError)
        assert "closed" in str(peer.lost[0])
        assert len(peer.packets) == 10
        assert not near._tasks | far._tasks


@every
async def test_a_user_that_comes_too_late_is_told_why(kind: str) -> None:
    async with pair(kind) as (near, far):
        user, peer = RecordingUser(), RecordingUser()
        near.close()
        near.start(user)
        await near.wait_closed()
        far.start(peer)
        await until(lambda: user.lost and peer.lost)
        assert user.lost == [None]
        assert isinstance(peer.lost[0], LinkError)


@every
async def test_a_flood_is_bounded_and_room_is_told(kind: str) -> None:
    """The far end does not run meanwhile: nothing here waits for the carrier."""
    async with pair(kind) as (near, far):
        user, peer = RecordingUser(), RecordingUser()
        near.start(user)
        size = min(near.mtu, 1400)
        sent = 0
        while near.ready:
            near.send(NO_OFFLOAD + packet(size))
            sent += 1
            assert sent < 10_000
        while not near.dropped:
            near.send(NO_OFFLOAD + packet(size))
            sent += 1
            assert sent < 10_000
        assert user.readies == 0
        far.start(peer)
        await until(lambda: user.readies)
        assert near.ready
        if kind != "quic":  # whose datagrams the kernel's socket buffer may lose
            await until(lambda: len(peer.packets) == sent - 1)
        assert len(peer.packets) < sent


@every
@pytest.mark.parametrize("device", ["pcap", "tracer", "faults"])
async def test_devices_wrap_it(kind: str, device: str, tmp_path: Path) -> None:
    file, lines = io.BytesIO(), list[str]()
    async with pair(kind) as (near, far):
        wrapped: Link = near
        if device == "pcap":
            wrapped = PcapLink(near, file)
        elif device == "tracer":
            wrapped = TracerLink(near, lines.append)
        else:
            bad = Faults(loss=0.03, duplicate=0.03, reorder=0.05, reorder_delay=0.005, corrupt=0.01)
            wrapped = FaultLink(near, seed=5, sent=bad, received=bad, offload=False)
        assert wrapped.mtu == near.mtu
        async with stacks(wrapped, far) as (one, other):
            await converse(one, other, 60_000)
        await until(lambda: near._closed and far._closed)
    if device == "pcap":
        (tmp_path / "capture").write_bytes(file.getvalue())
        with RawPcapNgReader(str(tmp_path / "capture")) as reader:
            assert len(list(reader)) > 4
    elif device == "tracer":
        assert any(line.startswith("> [fd00::1]") and " TCP S " in line for line in lines)
        assert any(line.startswith("< [fd00::2]") for line in lines)
    else:
        assert isinstance(wrapped, FaultLink)
        assert wrapped.sent.lost + wrapped.received.lost + wrapped.sent.reordered > 0


@every
async def test_cancelled_while_it_greets_it_leaves_nothing_behind(kind: str) -> None:
    """Warnings are errors: a task, a transport or a socket that stays open fails the test."""
    async with carrier(kind) as (near, far):
        before = asyncio.all_tasks()
        greeting = asyncio.ensure_future(near.link())
        async with asyncio.timeout(10):
            assert await far.read()
        greeting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await greeting
        if kind not in {"asyncssh", "websocket", "quic", "libp2p"}:  # whose libraries have tasks of their own
            assert asyncio.all_tasks() <= before
