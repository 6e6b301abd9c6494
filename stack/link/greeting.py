"""The first words on a link: both ends say at once what they are, and take what both can do.

24 bytes, the same over every carrier, big-endian:

    magic     8  0x89 "NBL" CR LF 0x1a LF: no text protocol begins so, and whatever translates line ends breaks it (as
                 PNG's signature does)
    version   1  of everything that follows on the link; another one is refused
    flags     1  bit 0: takes super-segments and unfinished checksums; bit 1: has heard the other end's greeting
    role      1  see `Role`
    reserved  1  0, not looked at
    mtu       4  the largest IP packet this end takes
    nonce     8  random; one's own coming back means that the carrier is an echo

The link's MTU is the smaller of the two, offload is used if both take it. Who is at the other end is the carrier's
affair (TLS, SSH, Noise): a greeting keeps accidents apart, not attackers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum

from .base import LinkError

MAGIC = b"\x89NBL\r\n\x1a\n"
VERSION = 1
GREETING = struct.Struct("!8sBBBxI8s")
OFFLOAD = 1
HEARD = 2

MIN_MTU = 576
"""What every host takes (RFC 791 section 3.1)."""
MAX_MTU = 65535

TIMEOUT = 10.0
"""Seconds a peer has for its greeting: some round trips over any path, and a slow start of its program."""
SHOWN = 40
"""Bytes of a stranger's words that an error quotes."""
LINGER = 0.2
"""Seconds in which the rest of a stranger's first line may come, so that the error can quote it."""

Read = Callable[[], Awaitable[bytes]]
"""Some bytes as soon as there are any, b"" at the end."""
Write = Callable[[bytes], Awaitable[object]]
"""Takes all of the bytes; returns when more may come."""


class Role(IntEnum):
    """What an end is for. Two entrances, or two exits, have nothing to say to each other and are told so."""

    STACK = 0
    """A stack like any other."""
    ENTRANCE = 1
    """Where connections begin."""
    EXIT = 2
    """Where they leave for the host's network."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What one end says of itself. Raises ValueError for an MTU that no link has."""

    mtu: int = 1500
    """Bytes of the largest IP packet it takes."""
    offload: bool = True
    """Takes super-segments of up to 64 KiB and unfinished checksums."""
    role: Role = Role.STACK
    heard: bool = False
    """It has the other end's greeting. Tells over carriers that lose messages who needs to hear it again."""
    nonce: bytes = field(default_factory=lambda: os.urandom(8), repr=False)

    def __post_init__(self) -> None:
        if not MIN_MTU <= self.mtu <= MAX_MTU:
            raise ValueError(f"a link's MTU is {MIN_MTU} to {MAX_MTU}, not {self.mtu}")

    def emit(self) -> bytes:
        """As bytes."""
        flags = (OFFLOAD if self.offload else 0) | (HEARD if self.heard else 0)
        return GREETING.pack(MAGIC, VERSION, flags, self.role, self.mtu, self.nonce)

    def check(self, theirs: Greeting) -> None:
        """Raises LinkError when this end cannot have a link with one that says `theirs`."""
        if theirs.nonce == self.nonce:
            raise LinkError("what this end said came back: the other end is an echo, or a terminal")
        if self.role == theirs.role != Role.STACK:
            raise LinkError(f"both ends are an {self.role.name.lower()}: one has to be the other kind")


def parse(data: bytes) -> Greeting | None:
    """The greeting at the start of untrusted bytes; None while more are needed. Raises LinkError."""
    if not MAGIC.startswith(data[: len(MAGIC)]):
        raise LinkError(stranger(data))
    if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
        raise LinkError(
            f"the other end speaks version {data[len(MAGIC)]} of the link protocol, this one version {VERSION}: "
            "use the same netbridge on both ends"
        )
    if len(data) < GREETING.size:
        return None
    _, _, flags, role, mtu, nonce = GREETING.unpack_from(data)
    try:
        return Greeting(mtu, bool(flags & OFFLOAD), Role(role), bool(flags & HEARD), nonce)
    except ValueError as error:
        raise LinkError(f"the other end's greeting makes no sense: {error}") from None


def stranger(data: bytes) -> str:
    """What to say of a peer whose first words are no greeting."""
    shown = repr(bytes(data[:SHOWN]))[2:-1] + ("…" if len(data) > SHOWN else "")
    for prefix, what in _STRANGERS:
        if data.startswith(prefix):
            return f"the other end is {what}, not a link: it said '{shown}'"
    if data.startswith(MAGIC[:4]):
        return f"something on the way changes line ends (a terminal?): the greeting came as '{shown}'"
    return f"the other end speaks another protocol: it said '{shown}'"


_STRANGERS = (
    *((words, "an HTTP server") for words in (b"HTTP/", b"<!DOCTYPE", b"<html")),
    (b"SSH-", "an SSH server"),
    (b"\x15\x03", "a TLS server, which wants TLS first"),
    (b"\x16\x03", "a TLS client, which wants TLS first"),
    *((verb + b" ", "an HTTP client") for verb in (b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"PRI")),
)


async def exchange(ours: Greeting, read: Read, write: Write, *, timeout: float = TIMEOUT) -> tuple[Greeting, bytes]:
    """Greet the other end of a reliable carrier; its greeting, and what came behind it.

    Raises LinkError when what comes is no greeting, does not fit, or does not come within `timeout` seconds.
    """
    writing = asyncio.ensure_future(write(ours.emit()))  # beside the reading: a carrier may take only what is read
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            theirs, rest = await _hear(read)
            await writing
    except LinkError:
        raise
    except Exception as error:
        if limit.expired() and isinstance(error, TimeoutError):
            raise silence(timeout) from None
        raise broken(error) from error
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    ours.check(theirs)
    return theirs, rest


def silence(timeout: float) -> LinkError:
    """What to say of a peer that did not greet in time."""
    return LinkError(f"the other end did not greet within {timeout:g} s: it is no link, or nobody serves it")


def broken(error: Exception) -> LinkError:
    """What to say of a carrier that fails, by whatever its library raises, before there is a link."""
    made = LinkError(f"the connection broke before the other end greeted: {str(error) or type(error).__name__}")
    made.__cause__ = error
    return made


async def _hear(read: Read) -> tuple[Greeting, bytes]:
    data = b""
    while True:
        some = await read()
        if not isinstance(some, bytes | bytearray | memoryview):
            raise LinkError(f"the carrier gives {type(some).__name__}, not bytes: open it for binary data")
        if not some:
            raise LinkError("the other end closed the connection before it greeted")
        data += some
        try:
            theirs = parse(data)
        except LinkError:
            parse(await _whole_line(read, data))
            raise
        if theirs is not None:
            return theirs, data[GREETING.size :]


async def _whole_line(read: Read, data: bytes) -> bytes:
    """`data` and what a stranger says right behind it: "HTTP/1.1 400 Bad Request" says more than "H"."""
    with contextlib.suppress(Exception):  # whatever goes wrong now, it is a stranger already
        async with asyncio.timeout(LINGER):
            while len(data) <= SHOWN and (some := await read()):
                data += some
    return data
