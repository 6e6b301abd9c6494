"""The small servers: what their clients may say, and what they must not be made to do."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from netbridge.stack.services import DISCARD, ECHO, SOURCE, Discard, Echo, EchoDatagrams, Files, Iperf3, Source
from netbridge.stack.services import files as files_module
from netbridge.stack.services import iperf3 as iperf3_module
from tests.stack.networks import PATIENCE, Reader, Stacks, Writer

HOST = "10.0.0.2"
COOKIE = b"c" * 36 + b"\0"


async def test_echo_goes_on_while_its_peer_does_not_read(stacks: Stacks) -> None:
    await stacks.server.create_server(Echo, HOST, ECHO)
    reader, writer = await stacks.client.open_connection(HOST, ECHO, limit=1000)
    data = bytes(range(256)) * 20_000
    writer.write(data)
    await asyncio.sleep(0.05)
    (flow,) = stacks.server.tcp.flows.values()
    assert flow.queued <= 1 << 20  # it stopped reading
    assert await asyncio.wait_for(reader.readexactly(len(data)), PATIENCE) == data
    writer.close()


async def test_discard_and_source(stacks: Stacks) -> None:
    sink = Discard()
    await stacks.server.create_server(lambda: sink, HOST, DISCARD)
    await stacks.server.create_server(Source, HOST, SOURCE)
    _, writer = await stacks.client.open_connection(HOST, DISCARD)
    writer.write(bytes(1_000_000))
    writer.close()
    await writer.wait_closed()
    assert sink.received == 1_000_000
    reader, writer = await stacks.client.open_connection(HOST, SOURCE)
    assert await reader.readexactly(3_000_000) == bytes(3_000_000)
    writer.transport.abort()
    writer.close()


async def test_two_echoes_cannot_be_made_to_talk_to_each_other(stacks: Stacks) -> None:
    class Asking(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.heard: asyncio.Queue[bytes] = asyncio.Queue()

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.heard.put_nowait(data)

    await stacks.server.create_datagram_endpoint(EchoDatagrams, local_addr=(HOST, ECHO))
    honest, asking = await stacks.client.create_datagram_endpoint(Asking, local_addr=("10.0.0.1", 5000))
    forged, silent = await stacks.client.create_datagram_endpoint(Asking, local_addr=("10.0.0.1", ECHO))
    forged.sendto(b"x", (HOST, ECHO))
    honest.sendto(b"hello", (HOST, ECHO))
    assert await asyncio.wait_for(asking.heard.get(), PATIENCE) == b"hello"
    assert silent.heard.empty()


# -- files


@pytest.fixture
async def web(stacks: Stacks, tmp_path: Path) -> AsyncIterator[Stacks]:
    folder = tmp_path / "web"
    (folder / "sub").mkdir(parents=True)
    (folder / "a file.txt").write_text("text")
    (folder / "sub" / "<b>").write_text("odd")
    (tmp_path / "secret").write_text("secret")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "round").symlink_to("round")
    await stacks.server.start_server(Files(folder), HOST, 80)
    yield stacks


async def told(stacks: Stacks, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to one request, after which the server closes."""
    reader, writer = await stacks.client.open_connection(HOST, 80)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return int(status.split()[1]), dict(field.split(": ", 1) for field in fields), body


@pytest.mark.parametrize(
    ("target", "status", "part"),
    [
        ("/a%20file.txt", 200, b"text"), ("/a%20file.txt?x=1", 200, b"text"), ("/", 200, b'<a href="a%20file.txt">'),
        ("/sub/", 200, b'<a href="%3Cb%3E">&lt;b&gt;</a>'), ("/sub", 301, b"Moved"), ("/none", 404, b"Not Found"),
        ("/../secret", 404, b"Not Found"), ("/%2e%2e/secret", 404, b""), ("/out", 404, b""), ("//etc/passwd", 404, b""),
        ("//[", 404, b""), ("/round", 404, b""), ("/%00", 404, b""), ("/" + "x" * 5000, 404, b""),
        ("/sub/%3Cb%3E", 200, b"odd"),
    ],
)  # fmt: skip
async def test_files(web: Stacks, target: str, status: int, part: bytes) -> None:
    found, headers, body = await told(web, f"GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
    assert found == status
    assert part in body
    assert b"secret" not in body
    assert int(headers["Content-Length"]) == len(body)
    assert headers["Connection"] == "close"
    assert headers.get("Location") == ("/sub/" if status == 301 else None)


@pytest.mark.parametrize(
    ("request_", "status", "closes"),
    [
        (b"HEAD /a%20file.txt HTTP/1.1\r\nConnection: close\r\n\r\n", 200, True),
        (b"GET /a%20file.txt HTTP/1.0\r\n\r\n", 200, True), (b"nonsense\r\n\r\n", 400, True),
        (b"GET / HTTP/9.9\r\n\r\n", 400, True), (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 501, True),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", 431, True),
    ],
)  # fmt: skip
async def test_other_requests(web: Stacks, request_: bytes, status: int, closes: bool) -> None:
    found, _, body = await told(web, request_)
    assert found == status
    assert bool(body) == (not request_.startswith(b"HEAD"))


async def test_a_connection_stays_open_and_is_let_go_when_idle(web: Stacks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "IDLE", 0.1)
    reader, writer = await web.client.open_connection(HOST, 80)
    for _ in range(3):
        writer.write(b"GET /a%20file.txt HTTP/1.1\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"keep-alive" in head
        assert await reader.readexactly(4) == b"text"
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    writer.close()


async def test_a_client_that_does_not_read_is_let_go(
    web: Stacks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hold an open file for as long as it likes, and another with each connection."""
    monkeypatch.setattr(files_module, "IDLE", 0.2)
    (tmp_path / "web" / "large").write_bytes(bytes(1 << 24))
    reader, writer = await web.client.open_connection(HOST, 80, limit=1000)
    writer.write(b"GET /large HTTP/1.1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    (flow,) = web.server.tcp.flows.values()
    async with asyncio.timeout(PATIENCE):
        while not flow.connection.sender.fin_queued:  # until it has closed
            await asyncio.sleep(0.05)
    writer.transport.abort()
    writer.close()


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        Files(tmp_path / "none")


# -- iperf3, as far as its own client would not go


async def control(stacks: Stacks, parameters: bytes) -> tuple[Reader, Writer]:
    """A control connection whose parameters were told."""
    reader, writer = await stacks.client.open_connection(HOST, Iperf3.PORT)
    writer.write(COOKIE)
    assert await state(reader) == 9
    writer.write(len(parameters).to_bytes(4, "big") + parameters)
    return reader, writer


async def state(reader: Reader) -> int:
    (number,) = struct.unpack("b", await asyncio.wait_for(reader.readexactly(1), PATIENCE))
    return int(number)


@pytest.mark.parametrize(
    "parameters",
    [b'{"udp": true}', b'{"tcp": true, "parallel": 0}', b'{"tcp": true, "parallel": "x"}', b"[]",
     b'{"tcp": true, "parallel": 129}', b'{"tcp": true, "bidirectional": 1}'],
)  # fmt: skip
async def test_what_is_not_implemented_is_said(stacks: Stacks, parameters: bytes) -> None:
    server = Iperf3()
    await stacks.server.start_server(server, HOST, Iperf3.PORT)
    reader, writer = await control(stacks, parameters)
    assert await state(reader) == -2
    assert await reader.read() == struct.pack("!ii", 13, 0)
    assert not server._tests
    writer.close()


@pytest.mark.parametrize("parameters", [b"no json", b"[" * 100_000, b"\xff"])
async def test_nonsense_ends_the_connection(stacks: Stacks, parameters: bytes) -> None:
    await stacks.server.start_server(Iperf3(), HOST, Iperf3.PORT)
    reader, writer = await control(stacks, parameters)
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    writer.close()
    reader, writer = await stacks.client.open_connection(HOST, Iperf3.PORT)
    writer.write(COOKIE)
    assert await state(reader) == 9
    writer.write(b"\xff\xff\xff\xff")
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    writer.close()


async def test_a_whole_upload_and_one_stream_too_many(stacks: Stacks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iperf3_module, "TESTS", 1)
    server = Iperf3()
    await stacks.server.start_server(server, HOST, Iperf3.PORT)
    reader, writer = await control(stacks, b'{"tcp": true, "parallel": 2}')
    assert await state(reader) == 10
    streams = []
    for _ in range(2):
        streams.append(await stacks.client.open_connection(HOST, Iperf3.PORT))
        streams[-1][1].write(COOKIE + bytes(100_000))
    assert [await state(reader), await state(reader)] == [1, 2]
    extra, extra_writer = await stacks.client.open_connection(HOST, Iperf3.PORT)
    extra_writer.write(COOKIE)
    assert await asyncio.wait_for(extra.read(), PATIENCE) == b""
    busy, busy_writer = await stacks.client.open_connection(HOST, Iperf3.PORT)
    busy_writer.write(b"d" * 37)
    assert await state(busy) == -1
    writer.write(b"\x04")
    assert await state(reader) == 13
    writer.write((2).to_bytes(4, "big") + b"{}")
    size = int.from_bytes(await reader.readexactly(4), "big")
    results = json.loads(await reader.readexactly(size))
    assert [(one["id"], one["bytes"]) for one in results["streams"]] == [(1, 100_000), (3, 100_000)]
    assert await state(reader) == 14
    writer.write(b"\x10")
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    assert not server._tests
    for one in (writer, extra_writer, busy_writer, streams[0][1], streams[1][1]):
        one.close()


async def test_clients_that_go_away_leave_nothing(stacks: Stacks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iperf3_module, "PATIENCE", 0.1)
    server = Iperf3()
    await stacks.server.start_server(server, HOST, Iperf3.PORT)
    silent, silent_writer = await stacks.client.open_connection(HOST, Iperf3.PORT)
    assert await asyncio.wait_for(silent.read(), PATIENCE) == b""  # it never said its cookie
    reader, writer = await control(stacks, b'{"tcp": true}')
    assert await state(reader) == 10
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""  # no stream came
    assert not server._tests
    again, again_writer = await control(stacks, b'{"tcp": true, "reverse": true}')
    assert await state(again) == 10
    stream, stream_writer = await stacks.client.open_connection(HOST, Iperf3.PORT)
    stream_writer.write(COOKIE)
    assert [await state(again), await state(again)] == [1, 2]
    assert await stream.readexactly(100_000) == bytes(100_000)
    again_writer.transport.abort()
    while await asyncio.wait_for(stream.read(1 << 20), PATIENCE):
        pass
    assert not server._tests
    for one in (silent_writer, writer, again_writer, stream_writer):
        one.close()


async def test_two_tests_of_one_cookie_leave_nothing_either(
    stacks: Stacks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Both were asked for their parameters before there was a test of that name."""
    monkeypatch.setattr(iperf3_module, "PATIENCE", 0.3)
    server = Iperf3()
    await stacks.server.start_server(server, HOST, Iperf3.PORT)
    ends = [await stacks.client.open_connection(HOST, Iperf3.PORT) for _ in range(2)]
    for reader, writer in ends:
        writer.write(COOKIE)
        assert await state(reader) == 9
    for _, writer in ends:
        writer.write((13).to_bytes(4, "big") + b'{"tcp": true}')
    for reader, writer in ends:
        assert await asyncio.wait_for(reader.read(), PATIENCE) in (b"\x0a", b"\xff")
        writer.close()
    assert not server._tests
    assert not caplog.records


async def test_a_client_that_breaks_off_in_the_midst_is_hung_up_on(
    stacks: Stacks, caplog: pytest.LogCaptureFixture
) -> None:
    server = Iperf3()
    await stacks.server.start_server(server, HOST, Iperf3.PORT)
    reader, writer = await control(stacks, b'{"tcp": true}')
    assert await state(reader) == 10
    _, stream_writer = await stacks.client.open_connection(HOST, Iperf3.PORT)
    stream_writer.write(COOKIE)
    assert [await state(reader), await state(reader)] == [1, 2]
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    assert not server._tests
    writer.close()
    stream_writer.close()
    assert not caplog.records
