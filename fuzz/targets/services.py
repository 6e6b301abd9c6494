"""Whatever is said to the stack's small servers (HTTP, iperf3), they answer what is due, hang up, show no other file.

Nothing outside the folder is ever sent, and no request's fault becomes an exception of the server's.
"""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from fuzz.cuts import cuts
from netbridge.stack.services import iperf3
from netbridge.stack.services.files import Files
from netbridge.stack.services.iperf3 import Iperf3

OUTSIDE = b"this stands outside"
INSIDE = b"this stands inside"
FOLDER = Path(tempfile.mkdtemp(prefix="netbridge-fuzz-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
(FOLDER / "root" / "inner").mkdir(parents=True)
(FOLDER / "secret").write_bytes(OUTSIDE)
(FOLDER / "root" / "index.html").write_bytes(INSIDE)
(FOLDER / "root" / "a b.txt").write_bytes(INSIDE)
(FOLDER / "root" / "inner" / "x<y").write_bytes(INSIDE)
(FOLDER / "root" / "out").symlink_to(FOLDER / "secret")
(FOLDER / "root" / "up").symlink_to(FOLDER)
(FOLDER / "root" / "circle").symlink_to("circle")

STATUSES = {b"200", b"301", b"400", b"404", b"431", b"501"}
MOST = 1 << 16
_loop = asyncio.new_event_loop()


class _Writer:
    """Keeps what is written, and reads no more than it is made for."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data
        if len(self.written) > MOST:
            raise ConnectionResetError

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def close(self) -> None:
        self.closed = True


async def _here(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


def run(data: bytes) -> object:
    with (
        mock.patch.object(asyncio, "to_thread", _here), mock.patch.object(iperf3, "QUIET", 0.0),
        mock.patch.object(iperf3, "LATE", 0.0),
    ):  # fmt: skip
        return _loop.run_until_complete(_run(data))


async def _run(data: bytes) -> object:
    answers = [await _asked(Files(FOLDER / "root"), pieces) for pieces in cuts(data)]
    heads = [_heads(answer) for answer in answers]
    assert heads[0] == heads[1] == heads[2], heads
    assert OUTSIDE not in answers[0]
    measured = [await _asked(Iperf3(), pieces) for pieces in cuts(data)]
    return tuple(heads[0][:4]), bytes(measured[0][:3])


def _heads(answer: bytes) -> list[bytes]:
    """The statuses of a connection's answers."""
    found = []
    rest = answer
    while rest:
        head, end, rest = rest.partition(b"\r\n\r\n")
        assert end
        lines = head.split(b"\r\n")
        assert lines[0].startswith(b"HTTP/1.1 "), lines[0]
        status = lines[0].split(b" ")[1]
        assert status in STATUSES
        fields = dict(line.split(b": ", 1) for line in lines[1:])
        size = int(fields[b"Content-Length"])
        if rest and rest[:9] != b"HTTP/1.1 ":  # not of HEAD
            assert len(rest) >= size
            rest = rest[size:]
        found.append(status)
    return found


async def _asked(server: Any, pieces: list[bytes]) -> bytes:
    reader: Any = asyncio.StreamReader()
    writer = _Writer()
    serving = asyncio.ensure_future(server(reader, writer))
    for piece in pieces:
        reader.feed_data(piece)
        for _ in range(3):
            await asyncio.sleep(0)
    reader.feed_eof()
    for _ in range(200):
        if serving.done():
            break
        await asyncio.sleep(0)
    else:  # an iperf3 test that waits for its streams waits on
        assert isinstance(server, Iperf3)
        serving.cancel()
        await asyncio.wait([serving])
        return bytes(writer.written)
    serving.result()
    assert writer.closed
    assert not isinstance(server, Iperf3) or not server._tests
    return bytes(writer.written)
