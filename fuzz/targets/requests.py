"""Whatever is asked of the control socket, the metrics, SOCKS or the way back is answered once, refused, or waited for.

Each is a stream: the same bytes give the same answers whole, byte by byte and cut in the middle, and no more than a
request is held.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any
from unittest import mock

from fuzz.cuts import cuts
from fuzz.shown import harmless
from netbridge.bridge.back import calls, service
from netbridge.bridge.back.ends import End
from netbridge.bridge.back.service import WayBack, _words, is_host
from netbridge.bridge.back.socks import Handshake
from netbridge.bridge.control import REASON_MAX, REQUEST_MAX, Control, _Asker
from netbridge.bridge.feed import ROWS_MAX, WORDS_MAX, Wish
from netbridge.bridge.metrics import server as metrics
from netbridge.bridge.metrics.server import MetricsServer

SECRET = "0123456789abcdef"
STOPPED = 8
"""Answers to one stream at most: its lines."""

_loop = asyncio.new_event_loop()
logging.getLogger("asyncio").setLevel(logging.CRITICAL)


class _Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = self.aborted = False
        self.protocol: Any = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: Any) -> None:
        assert not self.aborted
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_write_buffer_limits(self, high: Any = None, low: Any = None) -> None: ...


class _Bridge:
    """What a control socket asks."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def status(self, *, flows: int = 100) -> Mapping[str, Any]:
        return {"state": "running", "flows": [0] * max(0, min(flows, 3))}

    def stop(self, reason: str) -> None:
        assert len(reason) <= REASON_MAX
        self.asked.append("stop")

    async def trace(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append("trace")
        return {"host": str(request.get("host"))[:20]}

    def capture(self, request: Mapping[str, Any], end: End) -> None:
        self.asked.append("capture")

    def watch(self, request: Mapping[str, Any], send: Any) -> Any:
        self.asked.append("watch")
        return _Watching(request)


class _Watching:
    def __init__(self, request: Mapping[str, Any]) -> None:
        self.wish = Wish()
        self.change(request)

    def change(self, request: Mapping[str, Any]) -> None:
        self.wish.change(request)
        assert 0 <= self.wish.rows <= ROWS_MAX
        assert self.wish.details >= 0
        assert len(self.wish.words) <= WORDS_MAX

    def close(self) -> None: ...


class _Control(Control):
    def _admit(self, asker: _Asker, connection: Any) -> bool:
        self._connections.add(asker)
        return True


class _Folder:
    owner = 0


class _Reservation:
    folder = _Folder()


def run(data: bytes) -> object:
    return _loop.run_until_complete(_run(data))


async def _run(data: bytes) -> object:
    labels: list[object] = []
    for ask in (_controlled, _socks, _came_home):
        found = [await ask(pieces) for pieces in cuts(data)]
        assert found[0] == found[1] == found[2], (ask.__name__, found)
        labels += [found[0][0], found[0][1][:40]] if ask is not _came_home else [found[0]]
    return (*labels, await _scraped(data))


async def _controlled(pieces: list[bytes]) -> tuple[Any, ...]:
    bridge = _Bridge()
    reservation: Any = _Reservation()
    back = WayBack()
    control = _Control(
        reservation, bridge.status, bridge.stop, back, trace=bridge.trace, capture=bridge.capture, watch=bridge.watch,
    )
    asker, transport = _Asker(control), _Transport()
    asker.connection_made(transport)
    for piece in pieces:
        for begin in range(0, len(piece), 256):  # as a socket would give it, when more is there than is held
            if transport.closing:
                break
            (transport.protocol or asker).data_received(piece[begin : begin + 256])
            assert transport.protocol is not None or len(asker._buffer) <= REQUEST_MAX + 256
    for _ in range(3):
        await asyncio.sleep(0)
    answers = transport.written.split(b"\n")[:-1]
    for line in answers:
        assert isinstance(json.loads(line), dict)
    if transport.protocol is None:
        asker.connection_lost(None)
    back.close()
    return tuple(bridge.asked[:3]), transport.written, transport.closing


async def _socks(pieces: list[bytes]) -> tuple[Any, ...]:
    handshake, sent = Handshake(), b""
    for piece in pieces:
        handshake.received += piece
        while not handshake.over and handshake.place is None:
            before = len(handshake.received)
            sent += handshake.advance()
            if len(handshake.received) == before:
                break
        if handshake.over:
            return "over", sent
        if handshake.place is None:
            assert len(handshake.received) <= 4 + 256 + 3 or handshake.received[:1] != b"\5"
    if handshake.place is None:
        return "waits", sent
    host, port = handshake.place
    assert 0 < port < 65536
    assert host.isascii()
    return "asked", sent, host, port


async def _came_home(pieces: list[bytes]) -> tuple[Any, ...]:
    """A connection to the service on the stack, from over there."""
    back = WayBack()
    back._secret, back.most = SECRET, 4
    asked, over = _Transport(), _Transport()
    asker = End()
    asker.connection_made(asked)
    back._stack = object()  # type: ignore[assignment]
    back.serve({"host": "localhost", "port": 5432}, asker)
    greeting = calls.Greeting(back)
    greeting.connection_made(over)
    for piece in pieces:
        if over.closing:
            break
        greeting.data_received(piece)
        assert len(greeting.held) <= calls.GREETING_MAX + len(piece) or greeting.partner is not None
    written = asked.written.partition(b"\n")[0]
    message = json.loads(written) if written else {}
    assert all(harmless(str(value)) or not isinstance(value, str) for value in message.values())
    label = "reached" if message.get("connected") else "refused" if message else "closed" if over.closing else "waits"
    assert label in {"waits", "closed"} or SECRET.encode() in b"".join(pieces)
    back.close()
    return label, message.get("code")


async def _scraped(data: bytes) -> object:
    """Not a stream here: a server's head is read until its end by asyncio."""
    server: Any = object.__new__(MetricsServer)
    server._numbers = lambda openmetrics: "numbers\n"
    server._session = None
    with mock.patch.object(metrics, "kinds", return_value=[]):
        answer = await server._answer(data)
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ")[1]
    assert status in {b"200", b"404", b"405"}
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    assert length == len(body) or not body
    assert is_host("localhost")
    assert harmless(_words(data.decode("latin-1")))
    return status, service.PORT
