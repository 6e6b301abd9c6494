"""Whoever meets `netbridge link` without the key is refused by one LinkError, whatever he says, and hears no proof.

The proof, both ends of it, is a stream: the same comes of it however it is cut, and nobody is let in but by the proof
for this very connection. The listening end of a WebSocket takes what HTTP and frames carry, in order, and no more.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any
from unittest import mock

from websockets.server import ServerProtocol

from fuzz.cuts import cuts
from fuzz.shown import harmless
from netbridge.bridge.joint import proof
from netbridge.bridge.joint.channel import Held
from netbridge.bridge.joint.websocket import MESSAGE, ServedSocket
from netbridge.stack.link.base import LinkError

KEY = bytes(range(32))
NONCE = bytes(32)
"""What our end says instead of something random, so that an input can hold the proof for it."""
THEIRS = b"\7" * 32
PLACE = "/link"
RIGHT = b"{proof}"
"""In an input: the proof that somebody with the key would send at that place."""

_loop = asyncio.new_event_loop()


class _Said(Held):
    """The other end: what it says in pieces, and what it was told."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__("somebody")
        self._pieces = list(pieces)
        self.told = b""

    async def some(self) -> bytes:
        while self._pieces:
            if piece := self._pieces.pop(0):
                return piece
        return b""

    async def give(self, data: bytes) -> None:
        self.told += data

    async def link(self, **_: Any) -> Any:
        raise AssertionError

    async def close(self) -> None: ...


class _Writer:
    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    async def drain(self) -> None: ...


def run(data: bytes) -> object:
    return _loop.run_until_complete(_run(data))


async def _run(data: bytes) -> object:
    labels: list[object] = []
    for side in proof.Side:
        for key in (KEY, None):
            said = data.replace(RIGHT, _right(side))
            found = [await _proved(pieces, side, key) for pieces in cuts(said)]
            assert found[0] == found[1] == found[2], found
            outcome, _ = found[0]
            if key and outcome == "in":
                assert _right(side) in said
            labels.append(outcome[:30])
    found = [await _served(pieces) for pieces in cuts(data)]
    longest = max((taken for _, taken in found), key=len)
    assert all(longest.startswith(taken) for _, taken in found), found  # what is no frame ends it at once, or later
    return (*labels, found[0][0][:40])


def _right(side: proof.Side) -> bytes:
    """The proof of the other end of one that is `side`."""
    ours, other = proof.Hello(side, True, NONCE), proof.Hello(proof.Side(1 - side), True, THEIRS)
    connects, listens = (ours, other) if side is proof.Side.CONNECTS else (other, ours)
    words = proof.LISTENS if side is proof.Side.CONNECTS else proof.CONNECTS
    return proof.proof(KEY, words, connects, listens, bytes(32))


async def _proved(pieces: list[bytes], side: proof.Side, key: bytes | None) -> tuple[str, bytes]:
    channel = _Said(pieces)
    with mock.patch.object(os, "urandom", lambda size: NONCE[:size]):
        try:
            if side is proof.Side.CONNECTS:
                await proof.prove_connecting(channel, key)
            else:
                await proof.prove_listening(channel, key, lambda: True)
        except LinkError as error:
            text = str(error)
            assert harmless(text), text
            assert len(text) < 400
            if side is proof.Side.LISTENS:
                assert len(channel.told) <= proof.HELLO.size + 1 + proof.PROOF
                assert channel.told[proof.HELLO.size + 1 :] in {b"", bytes(proof.PROOF)}
            return text, channel.told
    return "in", channel.told


async def _served(pieces: list[bytes]) -> tuple[str, bytes]:
    """The listening end of a WebSocket."""
    reader: Any = asyncio.StreamReader()
    writer: Any = _Writer()
    channel = ServedSocket(ServerProtocol(max_size=MESSAGE), reader, writer, "somebody", bytes(32))
    taken = b""

    async def serve() -> str:
        nonlocal taken
        try:
            await channel.accept(PLACE)
            while data := await channel.take(100):
                taken += data
                assert len(taken) <= sum(map(len, pieces))
        except LinkError as error:
            return str(error)
        return "opened"

    serving = asyncio.ensure_future(serve())
    for piece in pieces:
        reader.feed_data(piece)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    reader.feed_eof()
    said = await asyncio.wait_for(serving, 5)
    assert harmless(said), said
    return said, taken
