"""Who is at the other end: both ends prove that they have the pre-shared key, on this very connection.

TLS, QUIC and Noise keep others from reading and changing what travels; they do not say who is there, as the
certificates are made by the ends themselves, at start, and nobody has signed them. So on every new connection, before
anything else, both ends say at once (big-endian)

    magic     8  0x89 "NBA" CR LF 0x1a LF
    version   1  of what follows; another one is refused
    flags     1  bit 0: a key is wanted
    side      1  0 listens, 1 connects
    reserved  5  0, not looked at
    nonce    32  random

then who connects proves, and hears the verdict of who listens, which proves in turn:

    connects: proof    32  HMAC-SHA256(key, "netbridge link: who connects" NUL transcript)
    listens:  verdict   1  0 welcome, 1 the proof is wrong, 2 as many sessions as may be are there
              proof    32  HMAC-SHA256(key, "netbridge link: who listens" NUL transcript); zeros without a welcome

    transcript: version, flags, nonce of who connects, nonce of who listens, binding (32)

Without a key on either end (certificates of both ends, a socket of the same user, SSH) the verdict alone follows.

*Somebody in the middle* has to end one TLS session and begin another. The binding is the SHA-256 of the certificate
that the listening end showed (as in RFC 5929, section 4.1), both peers' identities with libp2p: it differs between his
two sessions, as he lacks the private key, so neither proof fits the other session, and he can make none himself. What
he hears of them tells him nothing: the key is 256 random bits. *Replays* fail as both nonces are in each proof, one of
them fresh from the end that checks; *reflections* as the two proofs begin with different words. Nobody gets a proof of
the listening end before proving first. Flags are in the transcript, so "no key wanted" cannot be put into a mouth.

The whole takes at most `TIMEOUT` seconds and a hundred bytes each way, whoever is there. HMACs are compared in constant
time. The key is no more than a key of all sessions there were: who finds it later still cannot read them, as TLS's
and Noise's keys are fresh for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from netbridge.stack.link.base import LinkError
from netbridge.stack.link.greeting import LINGER, SHOWN, stranger

from .channel import Channel, ProofError, in_time

MAGIC = b"\x89NBA\r\n\x1a\n"
VERSION = 1
HELLO = struct.Struct("!8sBBB5x32s")
KEY_WANTED = 1
PROOF = 32
TIMEOUT = 10.0
"""Seconds for all of it: three ways over any path."""
CONNECTS = b"netbridge link: who connects\0"
LISTENS = b"netbridge link: who listens\0"


class Side(IntEnum):
    """Of the connection, whoever is the exit."""

    LISTENS = 0
    CONNECTS = 1


class Verdict(IntEnum):
    """Of the listening end."""

    WELCOME = 0
    WRONG = 1
    FULL = 2


@dataclass(frozen=True, slots=True)
class Hello:
    """The first words of one end."""

    side: Side
    keyed: bool
    nonce: bytes

    def emit(self) -> bytes:
        """As bytes."""
        return HELLO.pack(MAGIC, VERSION, KEY_WANTED if self.keyed else 0, self.side, self.nonce)

    def check(self, theirs: Hello) -> None:
        """Raises LinkError when this end has no business with one that says `theirs`."""
        if theirs.side == self.side:
            both = "listen" if self.side is Side.LISTENS else "connect"
            raise LinkError(f"both ends {both}: the other end is an echo, or something joined two of one kind")
        if self.keyed != theirs.keyed:
            here, there = ("a", "none") if self.keyed else ("no", "one")
            raise ProofError(f"this end has {here} pre-shared key, and the other end wants {there}")


def parse(data: bytes) -> Hello:
    """The hello in untrusted bytes. Raises LinkError."""
    if not data:
        raise LinkError("the other end closed the connection without a word")
    if not data.startswith(MAGIC[: len(data)]):
        raise LinkError(stranger(data))
    if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
        raise LinkError(
            f"the other end speaks version {data[len(MAGIC)]} of the proof, this one version {VERSION}: use the same"
            " netbridge on both ends"
        )
    if len(data) < HELLO.size:
        raise LinkError("the other end broke off while it introduced itself")
    _, _, flags, side, nonce = HELLO.unpack(data)
    try:
        return Hello(Side(side), bool(flags & KEY_WANTED), nonce)
    except ValueError:
        raise LinkError("the other end's first words make no sense") from None


def proof(key: bytes, words: bytes, connects: Hello, listens: Hello, binding: bytes) -> bytes:
    """What one end proves by; `words` say which one."""
    transcript = bytes((VERSION, KEY_WANTED)) + connects.nonce + listens.nonce + binding
    return hmac.digest(key, words + transcript, hashlib.sha256)


async def prove_connecting(channel: Channel, key: bytes | None, *, timeout: float = TIMEOUT) -> None:
    """The connecting end's part. Raises ProofError, or LinkError when the other end is something else."""
    async with in_time(timeout, "did not prove who it is"):
        ours, theirs = await _meet(channel, Hello(Side.CONNECTS, key is not None, os.urandom(32)))
        if key is not None:
            await channel.give(proof(key, CONNECTS, ours, theirs, channel.binding))
        said = await channel.take(1 + PROOF)
        if len(said) < 1 + PROOF:
            raise ProofError("the other end hung up instead of letting this one in")
        if said[0] == Verdict.FULL:
            raise LinkError("the other end has as many sessions as it takes; try again later")
        if said[0] != Verdict.WELCOME:
            raise ProofError("the other end does not accept this end's proof: it has another key, or somebody stands"
                             " in between")
        if key is not None and not hmac.compare_digest(
            said[1:], proof(key, LISTENS, ours, theirs, channel.binding)
        ):
            raise ProofError("the other end did not prove the key: it has another one, or somebody stands in between")


async def prove_listening(
    channel: Channel, key: bytes | None, admit: Callable[[], bool], *, timeout: float = TIMEOUT
) -> None:
    """The listening end's part; `admit` is asked once the other end has proved. Raises as `prove_connecting`."""
    async with in_time(timeout, "did not prove who it is"):
        ours, theirs = await _meet(channel, Hello(Side.LISTENS, key is not None, os.urandom(32)))
        answer = bytes(PROOF)
        if key is not None:
            said = await channel.take(PROOF)
            if not said:
                raise ProofError("the other end hung up when it had to prove the key")
            if not hmac.compare_digest(said, proof(key, CONNECTS, theirs, ours, channel.binding)):
                await channel.give(bytes((Verdict.WRONG,)) + answer)
                raise ProofError("the other end did not prove the key: it has another one, or somebody stands in"
                                 " between")
            answer = proof(key, LISTENS, theirs, ours, channel.binding)
        if not admit():
            await channel.give(bytes((Verdict.FULL,)) + bytes(PROOF))
            raise LinkError("as many sessions as may be are there already")
        await channel.give(bytes((Verdict.WELCOME,)) + answer)


async def _meet(channel: Channel, ours: Hello) -> tuple[Hello, Hello]:
    await channel.give(ours.emit())
    data = await channel.take(1)
    if data == MAGIC[:1]:
        data += await channel.take(HELLO.size - 1)
    else:  # a stranger may say less than that, and wait
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while data and len(data) <= SHOWN and (some := await channel.take(1)):
                    data += some
    theirs = parse(data)
    ours.check(theirs)
    return ours, theirs
