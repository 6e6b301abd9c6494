"""What a carrier is before it is a link: exact bytes both ways, and what binds a proof to this very connection."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from netbridge.stack.link.base import LinkError
from netbridge.stack.link.carried import CarriedLink
from netbridge.stack.link.greeting import Role
from netbridge.stack.link.stream import Reader, Writer, hang_up, stream_link, transport_of

SHARED = b"\0" * 32
"""The binding of carriers that name no certificate or identity: the system has said who is at the other end."""
FLUSH = 1.0
"""Seconds the last words, why somebody is refused, have to leave."""


class ProofError(LinkError):
    """The other end is not who it should be, or does not take us for it."""


class Channel(abc.ABC):
    """One connection. Everything raises LinkError; `take` with what was said where it was no channel's end."""

    def __init__(self, who: str, binding: bytes = SHARED) -> None:
        self.who = who
        """The other end, for people."""
        self.binding = binding
        """32 bytes that both ends of this connection know, and that differ where somebody stands between them."""

    @abc.abstractmethod
    async def take(self, size: int) -> bytes:
        """The next `size` bytes; fewer, or none, at the end."""

    @abc.abstractmethod
    async def give(self, data: bytes) -> None:
        """Send; return when more may come."""

    @abc.abstractmethod
    async def link(self, *, role: Role, mtu: int) -> CarriedLink:
        """Greet the other end; the link takes the channel over."""

    @abc.abstractmethod
    async def close(self) -> None:
        """End it, once what was given has left. Idempotent."""


class Held(Channel):
    """Of carriers that give bytes as they come: more than was asked for is kept for the next one who asks."""

    held = b""

    @abc.abstractmethod
    async def some(self) -> bytes:
        """Bytes as soon as there are any; b"" at the end."""

    async def take(self, size: int) -> bytes:
        while len(self.held) < size:
            data = await self.some()
            if not data:
                break
            self.held += data
        taken, self.held = self.held[:size], self.held[size:]
        return taken

    async def rest(self) -> bytes:
        """What is kept, else `some`: the reading end of the link."""
        if self.held:
            data, self.held = self.held, b""
            return data
        return await self.some()


class StreamChannel(Channel):
    """A pair of asyncio streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: Writer, who: str, binding: bytes = SHARED) -> None:
        super().__init__(who, binding)
        self.reader = reader
        self.writer = writer

    async def take(self, size: int) -> bytes:
        try:
            return await self.reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            return error.partial
        except OSError as error:
            raise broken(error) from error

    async def give(self, data: bytes) -> None:
        try:
            self.writer.write(data)
            await self.writer.drain()
        except OSError as error:
            raise broken(error) from error

    async def link(self, *, role: Role, mtu: int) -> CarriedLink:
        return await stream_link(self.reader, self.writer, role=role, mtu=mtu)

    async def close(self) -> None:
        await end(self.reader, self.writer)


async def end(reader: Reader, writer: Writer) -> None:
    """Close both; what does not leave in time is dropped."""
    hang_up(reader, writer)
    try:
        async with asyncio.timeout(FLUSH):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        transport_of(writer).abort()


def words(error: LinkError) -> str:
    """An error without its number."""
    return error.strerror or str(error)


def broken(error: OSError) -> LinkError:
    """The carrier's error, before there is a link, in words."""
    if not isinstance(error, ssl.SSLError):
        return LinkError(error.strerror or str(error) or "the other end hung up")
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ProofError(f"the other end's certificate is not accepted: {error.verify_message}")
    if "CERTIFICATE_REQUIRED" in reason or "PEER_DID_NOT_RETURN_A_CERTIFICATE" in reason:
        return ProofError("a certificate is wanted of the end that connects, and it has none")
    if "UNKNOWN_CA" in reason or "BAD_CERTIFICATE" in reason or "CERTIFICATE_UNKNOWN" in reason:
        return ProofError("the other end does not accept this end's certificate: another authority signed it")
    if "CERTIFICATE_EXPIRED" in reason:
        return ProofError("the other end does not accept this end's certificate: it has expired")
    if reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
        return LinkError("the other end does not speak TLS")
    return LinkError(f"TLS failed: {reason.replace('_', ' ').lower() or error}")


@contextlib.asynccontextmanager
async def in_time(seconds: float, failed: str) -> AsyncIterator[None]:
    """`asyncio.timeout` that raises LinkError: the other end `failed` within so many seconds."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise LinkError(f"the other end {failed} within {seconds:g} s") from None
