"""Who proves what: right keys, wrong ones, somebody in the middle, replays, reflections, silence, strangers."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbridge.bridge.joint.channel import Channel, ProofError
from netbridge.bridge.joint.credentials import Credentials, own_certificate
from netbridge.bridge.joint.proof import (
    CONNECTS,
    HELLO,
    LISTENS,
    MAGIC,
    PROOF,
    Hello,
    Side,
    parse,
    proof,
    prove_connecting,
    prove_listening,
)
from netbridge.stack.link import LinkError
from tests.bridge.joint.ends import HERE, KEY, OTHER_KEY, desk, joined, man_in_the_middle, pair


async def both(
    connects: Channel, listens: Channel, one: bytes | None, other: bytes | None, *, admit: bool = True,
    timeout: float = 5.0,
) -> list[object]:
    """What each end's part comes to: None, or its error."""
    found = await asyncio.gather(
        prove_connecting(connects, one, timeout=timeout),
        prove_listening(listens, other, lambda: admit, timeout=timeout),
        return_exceptions=True,
    )
    await connects.close()
    await listens.close()
    return list(found)


@pytest.mark.parametrize("key", [KEY, None])
async def test_both_ends_are_content(key: bytes | None) -> None:
    assert await both(*await pair(), key, key) == [None, None]


async def test_another_key_is_told_to_both() -> None:
    connects, listens = await both(*await pair(), KEY, OTHER_KEY)
    assert isinstance(connects, ProofError)
    assert "another key" in str(connects)
    assert isinstance(listens, ProofError)
    assert "did not prove the key" in str(listens)


@pytest.mark.parametrize(("one", "other"), [(KEY, None), (None, KEY)])
async def test_a_key_on_one_end_alone(one: bytes | None, other: bytes | None) -> None:
    found = await both(*await pair(), one, other)
    assert all(isinstance(error, ProofError) for error in found)
    with_key, without = found if one else reversed(found)
    assert "the other end wants none" in str(with_key)
    assert "the other end wants one" in str(without)


async def test_another_binding_is_another_connection() -> None:
    """What a man in the middle cannot help: the right key on both ends, and a certificate on each side of him."""
    connects, listens = await both(*await pair(b"a" * 32, b"b" * 32), KEY, KEY)
    assert isinstance(connects, ProofError)
    assert isinstance(listens, ProofError)


async def test_no_place_is_told_once_it_has_proved() -> None:
    connects, listens = await both(*await pair(), KEY, KEY, admit=False)
    assert isinstance(connects, LinkError)
    assert "as many sessions" in str(connects)
    assert isinstance(listens, LinkError)
    connects, _ = await both(*await pair(), OTHER_KEY, KEY, admit=False)
    assert "another key" in str(connects), "strangers are not told how busy it is"


async def test_somebody_in_the_middle_of_tls() -> None:
    """He hands on every byte, with a certificate of his own on one side: neither end lets the other in."""
    credentials = Credentials(KEY)
    his = own_certificate()
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    his.into(context)
    async with asyncio.timeout(30), desk(f"tcp+tls://{HERE}:0", credentials) as listener:
        async with man_in_the_middle(listener.port, context) as port:
            with pytest.raises(ProofError, match="somebody stands in between"):
                async with joined(f"tcp+tls://{HERE}:{port}", credentials):
                    pass
            assert "did not prove the key" in await listener.until("not let in")
        async with joined(f"tcp+tls://{HERE}:{listener.port}", credentials) as stack:
            assert await stack.ping("198.18.255.1") < 5.0


async def test_a_listener_without_the_key_learns_nothing_it_could_use() -> None:
    """It takes the proof and hands it to the real listener, on a session of its own."""
    connects, listens = await pair(b"a" * 32, b"a" * 32)
    proving = asyncio.ensure_future(prove_connecting(connects, KEY))
    theirs = parse(await listens.take(HELLO.size))
    await listens.give(Hello(Side.LISTENS, True, bytes(32)).emit())
    stolen = await listens.take(PROOF)
    await listens.give(b"\0" + bytes(PROOF))
    with pytest.raises(ProofError, match="did not prove"):
        await proving
    real, thief = await pair(b"a" * 32, b"a" * 32)
    judging = asyncio.ensure_future(prove_listening(real, KEY, lambda: True))
    await thief.give(theirs.emit())
    await thief.take(HELLO.size)
    await thief.give(stolen)
    assert (await thief.take(1 + PROOF)) == b"\1" + bytes(PROOF), "an old proof opens nothing"
    with pytest.raises(ProofError):
        await judging
    for channel in (connects, listens, real, thief):
        await channel.close()


async def test_a_reflected_proof_opens_nothing() -> None:
    """The connecting end's own proof and nonce come back to it."""
    connects, mirror = await pair()
    proving = asyncio.ensure_future(prove_connecting(connects, KEY))
    theirs = parse(await mirror.take(HELLO.size))
    await mirror.give(Hello(Side.LISTENS, True, theirs.nonce).emit())
    await mirror.give(b"\0" + await mirror.take(PROOF))
    with pytest.raises(ProofError, match="did not prove"):
        await proving
    await connects.close()
    await mirror.close()


async def test_an_echo() -> None:
    connects, mirror = await pair()
    proving = asyncio.ensure_future(prove_connecting(connects, KEY))
    await mirror.give(await mirror.take(HELLO.size))
    with pytest.raises(LinkError, match="an echo"):
        await proving
    await connects.close()
    await mirror.close()


@pytest.mark.parametrize("said", [b"", MAGIC, Hello(Side.CONNECTS, True, bytes(32)).emit()], ids=["0", "8", "48"])
async def test_silence_ends_in_time(said: bytes) -> None:
    silent, listens = await pair()
    if said:
        await silent.give(said)
    with pytest.raises(LinkError, match="did not prove who it is within"):
        await prove_listening(listens, KEY, lambda: True, timeout=0.2)
    await silent.close()
    await listens.close()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "an HTTP client"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH server"),
        (MAGIC + b"\2" + bytes(39), "version 2"),
        (b"\x89NBL\r\n\x1a\n" + bytes(16), "changes line ends|another protocol|speaks"),
        (MAGIC + b"\1\0\7" + bytes(37), "make no sense"),
        (b"", "without a word"),
        (MAGIC[:3], "broke off"),
    ],
)
async def test_strangers(said: bytes, told: str) -> None:
    stranger, listens = await pair()
    if said:
        await stranger.give(said)
    stranger.writer.write_eof()  # type: ignore[attr-defined]
    with pytest.raises(LinkError, match=told):
        await prove_listening(listens, KEY, lambda: True, timeout=5.0)
    await stranger.close()
    await listens.close()


@given(st.binary(max_size=2 * HELLO.size))
def test_any_bytes_are_a_hello_or_a_link_error(data: bytes) -> None:
    try:
        parse(data[: HELLO.size])
    except LinkError:
        pass


def test_everything_is_in_the_proof() -> None:
    """Changing any part of what was said changes both proofs; and they differ."""
    connects, listens = Hello(Side.CONNECTS, True, b"c" * 32), Hello(Side.LISTENS, True, b"l" * 32)
    other = Hello(Side.LISTENS, True, b"x" * 32)
    made = [
        proof(key, words, one, two, binding)
        for key in (KEY, OTHER_KEY) for words in (CONNECTS, LISTENS)
        for one, two in ((connects, listens), (connects, other), (other, listens))
        for binding in (b"b" * 32, b"d" * 32)
    ]
    assert len(set(made)) == len(made) == 24
    transcript = b"\1\1" + b"c" * 32 + b"l" * 32 + b"b" * 32
    import hmac

    assert made[0] == hmac.new(KEY, b"netbridge link: who connects\0" + transcript, hashlib.sha256).digest()
