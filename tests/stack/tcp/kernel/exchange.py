"""Bytes both ways between our stack and a Linux socket, over a line that loses, overtakes, repeats and corrupts.

The device that harms stands between stack and TUN, and neither end leaves segmentation to it: single segments of the
path's size suffer, as on a wire. Both ends write all they have while they read, close their side and read to the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from netbridge.stack import Stack
from netbridge.stack.link import FaultLink, Faults
from netbridge.stack.tcp.config import TcpConfig
from tests.world.namespace import Namespace

STACK = {4: "198.18.80.1", 6: "fd6e:6272:80::1"}
KERNEL = {4: "198.18.80.2", 6: "fd6e:6272:80::2"}
PREFIX = {4: 30, 6: 64}
PIECE = 1 << 16
SERVICE = 7007

TIMESTAMPS, SACK, WSCALE, ECN = 1, 2, 4, 8
"""What TCP_INFO says was negotiated (include/uapi/linux/tcp.h, TCPI_OPT_*)."""
_OPTIONS_AT = 5
_INFO_LEN = 200



def config(**more: Any) -> TcpConfig:
    """With everything our stack can negotiate asked for as well as granted, and a short TIME-WAIT."""
    return TcpConfig(**{"time_wait": 0.05, "ecn_request": True, **more})


@dataclass(frozen=True)
class Ended:
    """One connection, seen from the kernel's end after all bytes went over."""

    options: int
    """Bits as above."""
    retransmitted: int
    """Segments the kernel sent again."""
    marked: int
    """Segments of the kernel's that were marked on their way, as far as it heard."""


def addresses(side: dict[int, str]) -> list[str]:
    """With their prefixes."""
    return [f"{address}/{PREFIX[version]}" for version, address in side.items()]


def payload(seed: int, size: int) -> bytes:
    """The same bytes for the same seed."""
    return random.Random(seed).randbytes(size)


def info(sock: socket.socket) -> Ended:
    """What the kernel says about a connection."""
    raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_LEN)
    (total,) = struct.unpack_from("=I", raw, 100)
    (marked,) = struct.unpack_from("=I", raw, 196)
    return Ended(raw[_OPTIONS_AT] & 15, total, marked)


class Line:
    """A stack of ours, a namespace, and the faulty line between them. Use as an async context manager."""

    def __init__(
        self, namespace: Namespace, *, seed: int, up: Faults, down: Faults, tcp: TcpConfig, mtu: int = 1500,
        handshakes: int = 0,
    ) -> None:  # fmt: skip
        """`up` is what the stack sends suffers, `down` what the kernel does; from when so many connections stand."""
        self.namespace = namespace
        tun = namespace.tun(addresses(KERNEL), mtu=mtu)
        self.faults = FaultLink(tun, seed=seed, offload=False)
        self._bad = {"sent": up, "received": down}
        self._handshakes = handshakes
        self._standing = asyncio.Event()
        if not handshakes:
            self._harm()
        self.stack = Stack(self.faults, addresses(STACK), tcp=tcp)
        self.before = namespace.connections()

    async def __aenter__(self) -> Line:
        await self.stack.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.__aexit__()

    def _harm(self) -> None:
        self.faults.set_faults(**self._bad)
        self._standing.set()

    async def _stands(self) -> None:
        """A handshake is done; wait for the others."""
        self._handshakes -= 1
        if self._handshakes == 0:
            self._harm()
        await self._standing.wait()

    async def serve(self, version: int, size: int, seed: int) -> Ended:
        """The kernel connects to us; then bytes both ways."""
        taken: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        taken = asyncio.get_running_loop().create_future()
        port = SERVICE + version
        async with await self.stack.start_server(lambda *both: taken.set_result(both), STACK[version], port):
            with self.namespace.tcp(version) as sock:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, (STACK[version], port))
                ours = await taken
                await self._stands()
                return await both_ways(ours, sock, size, seed)

    async def call(self, version: int, size: int, seed: int) -> Ended:
        """We connect to the kernel; then bytes both ways."""
        loop = asyncio.get_running_loop()
        with self.namespace.listen(KERNEL[version]) as listener:
            listener.setblocking(False)
            opening = asyncio.ensure_future(self.stack.open_connection(KERNEL[version], listener.getsockname()[1]))
            sock, _ = await loop.sock_accept(listener)
            with sock:
                ours = await opening
                await self._stands()
                return await both_ways(ours, sock, size, seed)

    async def emptied(self) -> None:
        """Wait until neither end holds anything of the connections; the kernel keeps its TIME-WAITs a minute."""
        while self.stack.tcp.flows or self.stack.tcp.requests or self.held:
            await asyncio.sleep(0.01)
        assert self.stack.tcp.budget.used == 0

    @property
    def held(self) -> Sequence[str]:
        """States of what the kernel still works at."""
        now = self.namespace.connections()
        return [state for key, state in now.items() if key not in self.before and state != "TIME-WAIT"]


async def both_ways(
    ours: tuple[asyncio.StreamReader, asyncio.StreamWriter], sock: socket.socket, size: int, seed: int
) -> Ended:
    """Move `size` bytes each way at once, compare the checksums, close; what the kernel says about it."""
    reader, writer = ours
    up, down = payload(seed, size), payload(seed + 1, size)
    loop = asyncio.get_running_loop()

    async def write() -> None:
        for at in range(0, size, PIECE):
            writer.write(up[at : at + PIECE])
            await writer.drain()
        writer.write_eof()

    async def read() -> str:
        digest = hashlib.sha256()
        while data := await reader.read(PIECE):
            digest.update(data)
        return digest.hexdigest()

    async def kernel_writes() -> None:
        await loop.sock_sendall(sock, down)
        sock.shutdown(socket.SHUT_WR)

    async def kernel_reads() -> str:
        digest = hashlib.sha256()
        while data := await loop.sock_recv(sock, PIECE):
            digest.update(data)
        return digest.hexdigest()

    _, got, _, kernel_got = await asyncio.gather(write(), read(), kernel_writes(), kernel_reads())
    assert got == hashlib.sha256(down).hexdigest(), "what the kernel sent arrived changed"
    assert kernel_got == hashlib.sha256(up).hexdigest(), "what we sent arrived changed"
    said = info(sock)
    writer.close()
    await writer.wait_closed()
    return said
