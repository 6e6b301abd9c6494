"""Conversations with the DNS stub: what forged or broken messages cannot do."""

from __future__ import annotations

import struct
from collections.abc import Callable

import dnslib
import pytest
from dnslib import QTYPE, DNSRecord

from netbridge.bridge.agent.loop import READ

from .stub_world import OTHER, OWN, SERVICE, Behaviour, World, addresses, says, silent

pytestmark = pytest.mark.net


def _forged(change: Callable[[DNSRecord], None]) -> Behaviour:
    """A forged answer, then the true one."""

    def behave(query: DNSRecord) -> list[bytes]:
        forged = DNSRecord.parse(says("6.6.6.6")(query))
        change(forged)
        return [forged.pack(), b"", b"\x00", says("1.1.1.1")(query)]

    return behave


def _wrong_id(reply: DNSRecord) -> None:
    reply.header.id ^= 0x5555


def _wrong_name(reply: DNSRecord) -> None:
    reply.questions[0] = dnslib.DNSQuestion("evil.example.org")


def _wrong_type(reply: DNSRecord) -> None:
    reply.questions[0].qtype = QTYPE.MX


def _no_reply(reply: DNSRecord) -> None:
    reply.header.qr = 0


def _no_question(reply: DNSRecord) -> None:
    reply.questions.clear()


@pytest.mark.parametrize("change", [_wrong_id, _wrong_name, _wrong_type, _no_reply, _no_question])
def test_forged_answers_are_ignored(play: Callable[..., None], change: Callable[[DNSRecord], None]) -> None:
    def conversation(world: World) -> None:
        world.server(OWN, _forged(change))
        world.server(SERVICE, says("2.2.2.2"))
        world.start()
        assert addresses(world.ask()) == ["1.1.1.1"]

    play(conversation)


def test_an_answer_from_another_source_is_ignored(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        own, evil = world.server(OWN, silent), world.server(OTHER, silent)

        def attack(_events: int) -> None:
            data, client = own.datagrams.recvfrom(65535)
            evil.datagrams.sendto(says("6.6.6.6")(DNSRecord.parse(data)), client)  # type: ignore[arg-type]

        world.loop.watch(own.datagrams.fileno(), READ, attack)
        world.server(SERVICE, says("2.2.2.2"))
        world.start()
        assert addresses(world.ask()) == ["2.2.2.2"]

    play(conversation)


def test_ids_and_ports_are_random(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        seen: set[tuple[int, int]] = set()
        own = world.server(OWN, silent)

        def note(_events: int) -> None:
            data, client = own.datagrams.recvfrom(65535)
            seen.add((struct.unpack_from(">H", data)[0], client[1]))
            own.datagrams.sendto(says("1.1.1.1")(DNSRecord.parse(data)), client)  # type: ignore[arg-type]

        world.loop.watch(own.datagrams.fileno(), READ, note)
        world.start()
        for number in range(40):
            world.ask(f"n{number}.example.org")
        assert len({ident for ident, _ in seen}) > 35
        assert len({port for _, port in seen}) > 20

    play(conversation)


@pytest.mark.parametrize(
    "junk",
    [
        b"", b"\x00" * 11, b"\xff" * 12, bytes(12), b"\x00\x01\x01\x00\x00\x01" + b"\xc0" * 30,
        b"\x00\x01\x81\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01",
    ],
)  # fmt: skip
def test_what_is_no_question_gets_no_answer(play: Callable[..., None], junk: bytes) -> None:
    def conversation(world: World) -> None:
        own = world.server(OWN, says("1.1.1.1"))
        world.start()
        client = world.client()
        client.send(junk)
        assert world.replies(client, 1, 0.05) == []
        assert addresses(world.ask()) == ["1.1.1.1"]
        assert len(own.asked) == 1

    play(conversation)
