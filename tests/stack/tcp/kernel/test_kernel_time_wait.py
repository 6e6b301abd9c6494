"""Ports used again at once: what one side keeps in TIME-WAIT has to take the other's next connection (RFC 6191)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from netbridge.stack import Stack
from netbridge.stack.tcp import endpoint
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.seq import MASK
from tests.stack.tcp.kernel.exchange import KERNEL, STACK, addresses
from tests.world.namespace import Namespace

pytestmark = [pytest.mark.net, pytest.mark.timeout(30)]

PORT = 40123
AT_ONCE = 0.9
"""Seconds: less than after what a SYN that was not answered would be sent again."""


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace() as made:
        yield made


@contextlib.asynccontextmanager
async def plugged(namespace: Namespace) -> AsyncIterator[Stack]:
    async with (
        asyncio.timeout(20),
        Stack(namespace.tun(addresses(KERNEL)), addresses(STACK), tcp=TcpConfig(time_wait=60.0)) as stack,
    ):
        yield stack


@pytest.mark.parametrize("version", [4, 6])
async def test_the_kernel_comes_again_from_the_port_that_we_hold(namespace: Namespace, version: int) -> None:
    loop = asyncio.get_running_loop()

    async def close_first(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with plugged(namespace) as stack, await stack.start_server(close_first, STACK[version], 80):
        for _ in range(3):
            with namespace.tcp(version) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((KERNEL[version], PORT))
                sock.setblocking(False)
                async with asyncio.timeout(AT_ONCE):
                    await loop.sock_connect(sock, (STACK[version], 80))
                assert await loop.sock_recv(sock, 1) == b""
            while [flow.connection.state.value for flow in stack.tcp.flows.values()] != ["TIME-WAIT"]:
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("timestamps", [True, False])
@pytest.mark.parametrize("version", [4, 6])
async def test_we_come_again_from_a_port_that_the_kernel_holds(
    namespace: Namespace, version: int, timestamps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a lower sequence number it is the timestamp that tells: the offset is the same for the same ports."""
    loop = asyncio.get_running_loop()
    namespace.set("tcp_timestamps", int(timestamps))
    monkeypatch.setattr(endpoint, "urandom", lambda _: PORT.to_bytes(2, "big"))
    async with plugged(namespace) as stack:
        initial = stack.tcp.isn.initial
        with namespace.listen(KERNEL[version]) as listener:
            listener.setblocking(False)
            for attempt in range(2):
                monkeypatch.setattr(
                    stack.tcp.isn, "initial", lambda key, now, back=attempt: initial(key, now) - (back << 24) & MASK
                )
                opening = asyncio.ensure_future(
                    stack.open_connection(KERNEL[version], listener.getsockname()[1])
                )
                if attempt and not timestamps:
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(AT_ONCE):
                            await opening
                    return
                async with asyncio.timeout(AT_ONCE):
                    reader, writer = await opening
                sock, _ = await loop.sock_accept(listener)
                sock.close()  # the kernel first: it keeps the TIME-WAIT
                assert await reader.read() == b""
                writer.close()
                await writer.wait_closed()
                while "TIME-WAIT" not in namespace.connections().values():
                    await asyncio.sleep(0.001)
