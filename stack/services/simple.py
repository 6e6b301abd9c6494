"""Echo, discard, and an endless source, as protocols: they are there to measure with, so they cost little."""

from __future__ import annotations

import asyncio
from typing import Any, cast

ECHO, DISCARD, SOURCE = 7, 9, 19
"""Their ports (RFC 862, 863, 864)."""
CHUNK = bytes(64 * 1024)


class _Service(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)


class Echo(_Service):
    """Sends back what comes, and stops reading while the peer does not read."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


class Discard(_Service):
    """Reads and forgets."""

    def __init__(self) -> None:
        self.received = 0
        """Bytes until now."""

    def data_received(self, data: bytes) -> None:
        self.received += len(data)


class Source(_Service):
    """Writes zeros until the peer closes."""

    def __init__(self) -> None:
        self._open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._room()

    def pause_writing(self) -> None:
        self._open = False

    def resume_writing(self) -> None:
        self._open = True
        self._room()

    def _room(self) -> None:
        while self._open and not self.transport.is_closing():
            self.transport.write(CHUNK)


class EchoDatagrams(asyncio.DatagramProtocol):
    """Echo by UDP."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if addr[1] not in (ECHO, SOURCE):  # or two such services would talk for ever (CVE-1999-0103)
            self._transport.sendto(data, addr)
