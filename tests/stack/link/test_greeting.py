"""What both ends of a link say first, and what is told of peers that say something else: real ones, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbridge.stack.link import Greeting, LinkError, Role, call_link, stream_link
from netbridge.stack.link.greeting import GREETING, MAGIC, parse
from tests.stack.link.pairs import LOOPBACK, accepting, hang_up, tcp_streams, tls_server


def test_a_greeting_is_read_as_it_was_written() -> None:
    ours = Greeting(9000, offload=False, role=Role.EXIT, heard=True)
    data = ours.emit()
    assert data == b"\x89NBL\r\n\x1a\n\x01\x02\x02\x00\x00\x00\x23\x28" + ours.nonce
    assert parse(data + b"behind") == ours
    for size in range(len(data)):
        assert parse(data[:size]) is None


def test_another_version_is_told() -> None:
    with pytest.raises(LinkError, match=r"speaks version 7 .* this one version 1: use the same netbridge"):
        parse(MAGIC + b"\x07")


@pytest.mark.parametrize(("at", "value", "what"), [(10, b"\x09", "9 is not a valid Role"), (12, bytes(4), "not 0")])
def test_a_greeting_without_sense_is_told(at: int, value: bytes, what: str) -> None:
    data = bytearray(Greeting().emit())
    data[at : at + len(value)] = value
    with pytest.raises(LinkError, match=what):
        parse(bytes(data))


@pytest.mark.parametrize("mtu", [0, 575, 65536])
async def test_an_mtu_that_no_link_has_is_a_mistake_of_the_caller(mtu: int) -> None:
    async def never() -> bytes:
        raise AssertionError

    with pytest.raises(ValueError, match=str(mtu)):
        await call_link(never, lambda _: never(), mtu=mtu)


@given(st.binary(max_size=100))
def test_anything_is_a_greeting_or_an_error_of_one_line(data: bytes) -> None:
    for prefix in (b"", MAGIC, MAGIC + b"\x01"):
        try:
            found = parse(prefix + data)
        except LinkError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 300
        else:
            assert found is None or found.emit()[: len(MAGIC)] == MAGIC


# -- strangers

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def meet(serve: Serve, *, tls: bool = False, **settings: Any) -> str:
    """What `stream_link` says of a server; both ends are closed in the end."""
    async with accepting(tls_server() if tls else None) as (port, accepted):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)

        async def other_end() -> None:
            streams = await accepted
            with contextlib.suppress(OSError):
                await serve(*streams)

        serving = asyncio.ensure_future(other_end())
        try:
            return await told(reader, writer, **settings)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            if accepted.done() and not accepted.cancelled():
                accepted.result()[1].close()


async def told(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, **settings: Any) -> str:
    with pytest.raises(LinkError) as caught:
        await stream_link(reader, writer, **settings)
    assert writer.is_closing()
    return str(caught.value)


def saying(*words: bytes, close: bool = False) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for some in words:
            writer.write(some)
            await writer.drain()
        if close:
            await reader.readexactly(GREETING.size)  # unread, it would make the kernel send a reset
            writer.close()
        await reader.read()

    return serve


async def test_an_http_server() -> None:
    """Python's own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        error = await told(*await asyncio.open_connection(LOOPBACK, server.server_port))
    finally:
        await asyncio.to_thread(server.shutdown)
        thread.join()
        server.server_close()
    assert "the other end is an HTTP server, not a link: it said '" in error


async def test_an_http_server_of_today() -> None:
    error = await meet(saying(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<html>", close=True))
    assert "the other end is an HTTP server, not a link: it said 'HTTP/1.1 400 Bad Request\\r\\n" in error


async def test_an_http_client() -> None:
    assert "an HTTP client" in await meet(saying(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))


async def test_an_ssh_server() -> None:
    """asyncssh's."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.listen(LOOPBACK, 0, server_host_keys=[key]) as server:
        error = await told(*await asyncio.open_connection(LOOPBACK, server.get_port()))
        await asyncio.sleep(0)
    assert "the other end is an SSH server, not a link: it said 'SSH-2.0-AsyncSSH" in error


async def test_a_tls_server() -> None:
    """asyncio's: the greeting is no TLS, and it says so by an alert, or hangs up."""
    async with accepting(tls_server()) as (port, _):
        error = await told(*await asyncio.open_connection(LOOPBACK, port))
        await asyncio.sleep(0.01)
    assert "a TLS server, which wants TLS first" in error or "closed" in error or "broke" in error


async def test_a_tls_client() -> None:
    assert "a TLS client, which wants TLS first" in await meet(saying(bytes.fromhex("1603010200010001fc0303")))


async def test_random_bytes_and_one_byte_at_a_time() -> None:
    assert "speaks another protocol: it said '\\x00\\xff" in await meet(saying(b"\0\xff" * 20))
    words = [bytes([byte]) for byte in b"220 mail.example ESMTP"]
    assert "it said '220 mail.example ESMTP'" in await meet(saying(*words))


async def test_an_echo() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)

    assert "is an echo" in await meet(echo)


async def test_line_ends_that_are_changed_on_the_way() -> None:
    """What a terminal does to output (onlcr)."""
    mangled = Greeting().emit().replace(b"\n", b"\r\n")
    assert "changes line ends (a terminal?)" in await meet(saying(mangled))


async def test_silence_ends() -> None:
    assert "did not greet within 0.05 s" in await meet(saying(), timeout=0.05)
    assert "did not greet within 0.05 s" in await meet(saying(Greeting().emit()[:10]), timeout=0.05)


async def test_an_end_before_the_greeting() -> None:
    assert "closed the connection before it greeted" in await meet(saying(close=True))
    assert "closed the connection before it greeted" in await meet(saying(MAGIC, close=True))


async def test_a_connection_that_breaks() -> None:
    async def abort(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(MAGIC)
        await writer.drain()
        writer.transport.abort()

    error = await meet(abort)
    assert "before the other end greeted" in error or "before it greeted" in error


async def test_text_is_told() -> None:
    async def read() -> Any:
        return "text"

    async def write(_: bytes) -> None: ...

    with pytest.raises(LinkError, match="gives str, not bytes: open it for binary data"):
        await call_link(read, write)


async def test_cancelled_while_it_waits_it_closes_what_it_was_given() -> None:
    near, far = await tcp_streams()
    greeting = asyncio.ensure_future(stream_link(*near))
    assert len(await far[0].readexactly(GREETING.size)) == GREETING.size
    greeting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await greeting
    assert await far[0].read() == b""
    await hang_up(near, far)


async def test_what_comes_right_behind_the_greeting_is_not_lost() -> None:
    from netbridge.stack.link.carried import LENGTH
    from tests.stack.fake import RecordingUser

    near, far = await tcp_streams()
    packet = bytes(range(60))
    far[1].write(Greeting().emit() + LENGTH.pack(60) + packet[:17])
    link = await stream_link(*near)
    user = RecordingUser()
    link.start(user)
    far[1].write(packet[17:] + LENGTH.pack(60) + packet)
    async with asyncio.timeout(5):
        while len(user.packets) < 2:
            await asyncio.sleep(0.001)
    assert user.packets == [packet, packet]
    link.close()
    await link.wait_closed()
    await hang_up(near, far)
