"""0x20: questions go out in a random case, which the answer must repeat; the client always sees its own spelling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dnslib
import pytest

from netbridge.bridge.dns.answer import OtherCaseError, parse_answer
from netbridge.bridge.dns.exchange import mixed_case
from netbridge.bridge.dns.message import Query, parse_query
from tests.bridge.dns.conftest import answer_a

NAME = "A-long-Name.with.Many-Letters.example"


def query(name: str = NAME, rtype: str = "A") -> Query:
    return parse_query(bytes(dnslib.DNSRecord.question(name, rtype).pack()))


def spelling(message: bytes) -> bytes:
    return message[12 : 12 + len(query().question)]


def lowered(message: bytes) -> bytes:
    """What a nameserver makes of a question that keeps no case."""
    end = 12 + len(query().question)
    return message[:12] + message[12:end].lower() + message[end:]


def uncompressed(message: bytes) -> bytes:
    """An answer that repeats the asked name in full, as servers that do not compress do."""
    name = spelling(message)[:-4]
    return message[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + spelling(message) + name + b"\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"


def test_only_letters_change_and_all_of_them_may() -> None:
    asked = query("a1-z\\.b." + "x" * 63).question
    seen = {mixed_case(asked) for _ in range(200)}
    assert len(seen) > 190
    assert {each.lower() for each in seen} == {asked.lower()}
    assert {each[-4:] for each in seen} == {asked[-4:]}
    assert mixed_case(query(".").question) == query(".").question
    kana = b"\x04\xc3\xa4\xe0\x60\x00\x00\x01\x00\x01"
    assert mixed_case(kana) == kana


async def test_each_question_has_a_spelling_of_its_own_and_the_client_sees_his(world: Any) -> None:
    server = await world.nameserver()
    upstream = world.upstream()
    asked = query()
    for _ in range(10):
        answer, _ = await upstream.ask(asked)
        assert spelling(answer.render(asked)) == asked.question
    assert len({spelling(each) for each in server.queries}) == 10
    assert upstream.counters.other_case == 0


async def test_the_asked_name_in_a_record_has_the_clients_spelling_too(world: Any) -> None:
    server = await world.nameserver()
    server.behave = lambda message: [uncompressed(message)]
    asked = query()
    answer, _ = await world.upstream().ask(asked)
    assert answer.render(asked).count(asked.question[:-4]) == 2
    assert str(dnslib.DNSRecord.parse(answer.render(asked)).rr[0].rname) == f"{NAME}."


def test_data_that_only_look_like_the_asked_name_are_left_alone() -> None:
    """A name of one letter is three bytes, which any data may hold."""
    asked = query("a", "TXT")
    sent = b"\1A\0" + asked.question[-4:]
    message = b"\0\7\x81\x80\0\1\0\1\0\0\0\0" + sent + b"\xc0\x0c\0\x10\0\1\0\0\0\x3c\0\4\3\1A\0"
    assert parse_answer(message, 7, asked, sent).tail.endswith(b"\3\1A\0")


async def test_a_nameserver_that_keeps_no_case_is_asked_once_more_and_then_plainly(world: Any) -> None:
    server = await world.nameserver()
    server.behave = lambda message: [answer_a(lowered(message))]
    upstream = world.upstream()
    asked = query()
    for _ in range(3):
        answer, _ = await upstream.ask(asked)
        assert answer.answers == 1
    assert len(server.queries) == 4  # one retry in all
    assert [spelling(each) == asked.question for each in server.queries] == [False, True, True, True]
    assert upstream.counters.other_case == 1
    assert upstream.counters.timeouts == 0
    world.now += 301
    await upstream.ask(asked)
    assert spelling(server.queries[4]) != asked.question  # it is tried again now and then


async def test_a_forger_who_does_not_know_the_case_changes_nothing_but_the_way_of_asking(world: Any) -> None:
    """He guessed id and port; the answer comes to the question that is asked again."""
    server = await world.nameserver()

    def behave(message: bytes) -> list[bytes]:
        forged = answer_a(lowered(message), "192.0.2.66")
        return [forged, answer_a(message)] if len(server.queries) == 1 else [answer_a(message)]

    server.behave = behave
    asked = query()
    answer, _ = await world.upstream().ask(asked)
    assert [str(each.rdata) for each in dnslib.DNSRecord.parse(answer.render(asked)).rr] == ["192.0.2.1"]


async def test_over_tcp_the_client_is_quoted(world: Any) -> None:
    server = await world.nameserver()
    server.behave = lambda message: [answer_a(message, tc=1)]
    asked = query()
    await world.upstream().ask(asked)
    assert spelling(server.tcp_queries[0]) == asked.question


@pytest.mark.parametrize("change", [bytes.upper, bytes.swapcase], ids=["upper", "swapped"])
def test_an_answer_in_another_case_is_told_from_one_to_another_question(change: Callable[[bytes], bytes]) -> None:
    asked = query()
    sent = asked.question[:-4].lower() + asked.question[-4:]
    message = b"\0\7\x81\x80\0\1\0\0\0\0\0\0"
    assert parse_answer(message + sent, 7, asked, sent).rcode == 0
    with pytest.raises(OtherCaseError):
        parse_answer(message + change(sent[:-4]) + sent[-4:], 7, asked, sent)
