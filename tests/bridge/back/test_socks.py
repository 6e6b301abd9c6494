"""The SOCKS5 handshake, whole and byte by byte (RFC 1928)."""

from __future__ import annotations

import random

import pytest

from netbridge.bridge.back import socks
from netbridge.bridge.back.socks import Handshake

HELLO = b"\x05\x01\x00"
V4 = b"\x05\x01\x00\x01\x7f\x00\x00\x01\x15\x38"
V6 = b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x00\x50"
NAME = b"\x05\x01\x00\x03\x09localhost\x1f\x90"


def talk(*pieces: bytes) -> tuple[Handshake, bytes]:
    handshake, sent = Handshake(), b""
    for piece in pieces:
        handshake.received += piece
        sent += handshake.advance()
    return handshake, sent


@pytest.mark.parametrize(("request_", "place"), [
    (V4, ("127.0.0.1", 5432)), (V6, ("::1", 80)), (NAME, ("localhost", 8080)),
])
def test_a_place_is_asked_for(request_: bytes, place: tuple[str, int]) -> None:
    whole = HELLO + request_
    for pieces in ([whole], [HELLO, request_], [whole[at:at + 1] for at in range(len(whole))]):
        handshake, sent = talk(*pieces)
        assert (handshake.place, handshake.over, sent) == (place, False, b"\x05\x00")


def test_what_follows_is_kept() -> None:
    handshake, _ = talk(HELLO + NAME + b"GET / HTTP/1.0")
    assert handshake.received == b"GET / HTTP/1.0"


@pytest.mark.parametrize(("sent", "answer"), [
    (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b""),  # SOCKS4
    (b"GET / HTTP/1.1\r\n", b""),
    (b"\x05\x01\x02", b"\x05\xff"),  # passwords only
    (b"\x05\x00", b"\x05\xff"),
    (HELLO + b"\x05\x02" + V4[2:], b"\x05\x00" + socks.reply(socks.NO_COMMAND)),  # BIND
    (HELLO + b"\x05\x03" + V4[2:], b"\x05\x00" + socks.reply(socks.NO_COMMAND)),  # UDP ASSOCIATE
    (HELLO + b"\x05\x01\x00\x02\x00\x00", b"\x05\x00" + socks.reply(socks.NO_ADDRESS)),
    (HELLO + b"\x04" + V4[1:], b"\x05\x00" + socks.reply(socks.FAILURE)),
    (HELLO + b"\x05\x01\x00\x03\x00\x00\x50", b"\x05\x00" + socks.reply(socks.FAILURE)),  # no name
    (HELLO + b"\x05\x01\x00\x03\x01\xff\x00\x50", b"\x05\x00" + socks.reply(socks.FAILURE)),
    (HELLO + V4[:-2] + b"\x00\x00", b"\x05\x00" + socks.reply(socks.FAILURE)),  # port 0
])
def test_what_is_refused(sent: bytes, answer: bytes) -> None:
    handshake, said = talk(sent)
    assert (handshake.over, handshake.place, said) == (True, None, answer)


def test_noise_never_breaks_it() -> None:
    seed = 20261128
    source = random.Random(seed)
    for _ in range(3000):
        noise = HELLO * source.randint(0, 1) + source.randbytes(source.randint(0, 40))
        handshake, said = talk(noise)
        assert len(said) <= 12, (seed, noise)
        if handshake.place:
            assert 0 < handshake.place[1] < 65536


@pytest.mark.parametrize(("code", "number"), [
    ("ECONNREFUSED", 5), ("EHOSTUNREACH", 4), ("ENETUNREACH", 3), ("EAI_NONAME", 4), ("ETIMEDOUT", 6), ("EIO", 1),
    ("", 1),
])
def test_errors_have_their_replies(code: str, number: int) -> None:
    assert socks.failure(code) == bytes((5, number, 0, 1)) + bytes(6)
