"""The server's side of iperf3, for its TCP tests: uploads, downloads (-R), several streams (-P), several clients.

The protocol is that of iperf3 itself, which has no other description than its source (iperf_api.h, iperf_server_api.c):
a control connection bears one byte for each change of state, and lengths with JSON; each stream of data is a connection
of its own; all of them begin with the same 37 bytes, the cookie. UDP tests are answered with its "not implemented".
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from typing import Any

COOKIE = 37
TEST_START, TEST_RUNNING, TEST_END = 1, 2, 4
PARAM_EXCHANGE, CREATE_STREAMS, CLIENT_TERMINATE, EXCHANGE_RESULTS, DISPLAY_RESULTS = 9, 10, 12, 13, 14
SERVER_ERROR, ACCESS_DENIED = -2, -1
UNIMPLEMENTED = 13
"""iperf3's IEUNIMP."""
LARGEST = 1 << 20
"""Bytes of JSON; iperf3's own limit is far below."""
STREAMS = 128
"""Most streams of a test, as iperf3 has it."""
TESTS = 64
"""Tests at a time."""
PATIENCE = 30.0
"""Seconds for each step that is the client's."""
CHUNK = 128 * 1024
QUIET, LATE = 0.05, 5.0
"""Seconds without a byte, or in all, until the end of an upload is believed: the word that it is over overtakes it."""


class _Test:
    """One test, from its parameters to its results."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.reverse = bool(parameters.get("reverse"))
        self.count = parameters.get("parallel", 1)
        self.limit = CHUNK if not isinstance(parameters.get("len"), int) else min(max(parameters["len"], 1), 1 << 20)
        self.streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.moved: list[int] = []
        """Bytes of each stream."""
        self.complete = asyncio.Event()
        """All streams are there."""
        self.over = asyncio.Event()
        self.seconds = 0.0

    def add(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One more stream; False when all are there."""
        if self.complete.is_set():
            return False
        self.streams.append((reader, writer))
        self.moved.append(0)
        if len(self.streams) == self.count:
            self.complete.set()
        return True

    async def move(self, number: int) -> None:
        """Carry the data of one stream until it, or the test, ends."""
        reader, writer = self.streams[number]
        try:
            if self.reverse:
                block = bytes(self.limit)
                while not self.over.is_set():
                    writer.write(block)
                    await writer.drain()
                    self.moved[number] += len(block)
            else:
                while data := await reader.read(CHUNK):
                    self.moved[number] += len(data)
        except OSError:
            pass  # the client went away, which the control connection tells as well

    async def settled(self) -> None:
        """What the client has sent is there: nothing came for a moment, or it takes too long."""
        until, before = time.monotonic() + LATE, -1
        while not self.reverse and sum(self.moved) != before and time.monotonic() < until:
            before = sum(self.moved)
            await asyncio.sleep(QUIET)

    def results(self) -> dict[str, Any]:
        streams = [
            # iperf3 numbers its streams 1, 3, 4, 5 …
            {"id": number + 2 if number else 1, "bytes": moved, "retransmits": 0, "jitter": 0, "errors": 0,
             "packets": 0, "start_time": 0, "end_time": self.seconds}
            for number, moved in enumerate(self.moved)
        ]  # fmt: skip
        return {
            "cpu_util_total": 0, "cpu_util_user": 0, "cpu_util_system": 0, "sender_has_retransmits": 0,
            "streams": streams,
        }  # fmt: skip


class Iperf3:
    """To be given to `Stack.start_server` for port 5201: `await stack.start_server(Iperf3(), None, Iperf3.PORT)`."""

    PORT = 5201

    def __init__(self) -> None:
        self._tests: dict[bytes, _Test] = {}

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            async with asyncio.timeout(PATIENCE):
                cookie = await reader.readexactly(COOKIE)
            if (test := self._tests.get(cookie)) is not None:
                if not test.add(reader, writer):
                    writer.close()
                return  # the test closes it
            if len(self._tests) >= TESTS:
                _state(writer, ACCESS_DENIED)
            else:
                await self._control(cookie, reader, writer)
        except (OSError, EOFError, ValueError, RecursionError):  # gone, silent, no JSON: a client's fault
            pass
        writer.close()

    async def _control(self, cookie: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(PATIENCE):
            _state(writer, PARAM_EXCHANGE)
            parameters = await _read(reader)
            test = _Test(parameters)
            if not parameters.get("tcp") or parameters.get("bidirectional") or not _sane(test.count):
                _state(writer, SERVER_ERROR)
                writer.write(struct.pack("!ii", UNIMPLEMENTED, 0))
                return
            if cookie in self._tests or len(self._tests) >= TESTS:  # another came first
                _state(writer, ACCESS_DENIED)
                return
            self._tests[cookie] = test
            try:
                _state(writer, CREATE_STREAMS)
                await test.complete.wait()
            except BaseException:
                self._forget(cookie)
                raise
        try:
            await self._run(test, reader, writer)
        finally:
            self._forget(cookie)

    async def _run(self, test: _Test, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _state(writer, TEST_START)
        _state(writer, TEST_RUNNING)
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            moving = [group.create_task(test.move(number)) for number in range(test.count)]
            try:
                end = await reader.read(1)  # as long as the client likes; what is raised here would become a group
            except OSError:
                end = b""
            finally:
                test.over.set()
                await test.settled()
                test.seconds = time.monotonic() - began
                for one in moving:
                    one.cancel()
        for _, stream in test.streams:
            stream.close()  # a client that downloads reads to the end of these before it goes on
        if end != bytes((TEST_END,)):
            return
        async with asyncio.timeout(PATIENCE):
            _state(writer, EXCHANGE_RESULTS)
            await _read(reader)
            told = json.dumps(test.results()).encode()
            writer.write(len(told).to_bytes(4, "big") + told)
            _state(writer, DISPLAY_RESULTS)
            await reader.read(1)  # IPERF_DONE

    def _forget(self, cookie: bytes) -> None:
        for _, writer in self._tests.pop(cookie).streams:
            writer.close()


def _sane(count: object) -> bool:
    return isinstance(count, int) and 1 <= count <= STREAMS


def _state(writer: asyncio.StreamWriter, state: int) -> None:
    writer.write(struct.pack("b", state))


async def _read(reader: asyncio.StreamReader) -> dict[str, Any]:
    """A length and JSON, of which anything but an object counts for an empty one. ValueError when it is no JSON."""
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > LARGEST:
        raise ValueError("too long")
    found = json.loads(await reader.readexactly(size))
    return found if isinstance(found, dict) else {}
