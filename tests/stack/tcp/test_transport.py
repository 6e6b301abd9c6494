"""The transport alone, with a peer that says exactly what the test tells it to: who is told what, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from netbridge.stack.tcp.request import TcpRequest
from netbridge.stack.tcp.streams import HIGH_WATER, TcpTransport
from netbridge.stack.tcp.user import ConnectionUser
from tests.stack.tcp.peer import PEER_ISN, Peer


class Recorder(asyncio.Protocol):
    """A protocol that writes down the order of its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.errors: list[Exception | None] = []
        self.stay_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.calls.append(data.decode())

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return self.stay_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.errors.append(exc)


def accept_with(protocol: Recorder, request: TcpRequest) -> TcpTransport:
    transport = TcpTransport(protocol, asyncio.get_running_loop())
    user: ConnectionUser = transport
    transport.attach(request.accept(user))
    return transport


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


async def test_a_protocol_that_knew_of_no_connection_is_told_of_no_end(peer: Peer) -> None:
    protocol = Recorder()
    accept_with(protocol, peer.asks())
    peer.says("R", PEER_ISN + 1)
    await asyncio.sleep(0)
    assert not peer.tcp.flows
    assert protocol.calls == []


async def test_a_protocol_is_told_in_order_and_of_the_end_once(peer: Peer) -> None:
    protocol = Recorder()
    transport = accept_with(protocol, peer.asks())
    isn = peer.hears("SA").seq
    peer.inject(
        peer.segment("A", PEER_ISN + 1, isn + 1, b"a"), peer.segment("FA", PEER_ISN + 2, isn + 1, b"b"),
    )  # fmt: skip
    assert protocol.calls == ["made", "a", "b", "eof"]  # eof_received said no: the transport closes
    assert transport.is_closing()
    peer.hears("FA", isn + 1, PEER_ISN + 4)
    peer.says("A", PEER_ISN + 4, isn + 2)
    transport.abort()
    transport.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert protocol.calls == ["made", "a", "b", "eof", "lost"]
    assert protocol.errors == [None]


async def test_a_reset_after_the_end_was_told_is_not_told_again(peer: Peer) -> None:
    protocol = Recorder()
    transport = accept_with(protocol, peer.asks())
    isn = peer.hears("SA").seq
    peer.says("A", PEER_ISN + 1, isn + 1)
    transport.close()
    peer.hears("FA", isn + 1)
    peer.says("A", PEER_ISN + 1, isn + 2)
    await asyncio.sleep(0)
    assert protocol.calls == ["made", "lost"]
    peer.says("A", PEER_ISN + 1, isn + 2, b"ignored")
    peer.says("R", PEER_ISN + 8)
    await asyncio.sleep(0)
    assert protocol.calls == ["made", "lost"]
    assert not peer.tcp.flows


async def test_writing_is_paused_and_resumed_by_the_acknowledgement_that_makes_room(peer: Peer) -> None:
    class Writing(Recorder):
        def pause_writing(self) -> None:
            self.calls.append("pause")

        def resume_writing(self) -> None:
            self.calls.append("resume")

    protocol = Writing()
    transport = accept_with(protocol, peer.asks())
    isn = peer.hears("SA").seq
    peer.says("A", PEER_ISN + 1, isn + 1, window=65535)  # times 128
    transport.write(bytes(HIGH_WATER))
    assert protocol.calls == ["made"]
    transport.write(bytes(HIGH_WATER))
    assert protocol.calls == ["made", "pause"]
    sent = sum(len(packet.payload.payload.load) for packet in peer.heard())
    assert sent == 14_600  # the initial congestion window
    while protocol.calls[-1] == "pause":
        peer.says("A", PEER_ISN + 1, isn + 1 + sent)
        queued = transport.get_write_buffer_size()
        assert (queued <= HIGH_WATER // 4) == (protocol.calls[-1] == "resume")  # told once what fits has left
        sent += sum(len(packet.payload.payload.load) for packet in peer.heard())
    assert protocol.calls == ["made", "pause", "resume"]


async def test_limits_set_below_what_waits_pause_at_once(peer: Peer) -> None:
    paused: list[bool] = []
    protocol = Recorder()
    protocol.pause_writing = lambda: paused.append(True)  # type: ignore[method-assign]
    transport = accept_with(protocol, peer.asks())
    isn = peer.hears("SA").seq
    peer.says("A", PEER_ISN + 1, isn + 1)
    transport.write(bytes(100_000))
    assert not paused
    transport.set_write_buffer_limits(high=1000)
    assert paused


async def test_writing_to_what_is_over_is_nothing(peer: Peer) -> None:
    protocol = Recorder()
    transport = accept_with(protocol, peer.asks())
    isn = peer.hears("SA").seq
    peer.says("A", PEER_ISN + 1, isn + 1)
    peer.says("R", PEER_ISN + 1)
    transport.write(b"x")
    transport.write_eof()
    transport.pause_reading()
    transport.resume_reading()
    await asyncio.sleep(0)
    peer.silent()
    assert protocol.calls == ["made", "lost"]
