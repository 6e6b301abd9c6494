"""Conversations with the DNS stub: who is asked, and what is told."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from dnslib import RCODE, DNSRecord

from netbridge.bridge.agent import dnsmsg
from netbridge.bridge.agent.loop import READ
from netbridge.bridge.agent.stub import StubError
from netbridge.bridge.agent.upstream import Attempt

from .stub_world import OTHER, OWN, SERVICE, World, addresses, says, silent

pytestmark = pytest.mark.net


def test_auto_public_names_are_the_own_servers(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        own, service = world.server(OWN, says("1.1.1.1")), world.server(SERVICE, says("2.2.2.2"))
        assert world.start().address == "127.83.0.1"
        assert addresses(world.ask()) == ["1.1.1.1"]
        assert own.asked == ["udp www.example.org A"]
        assert service.asked == []

    play(conversation)


@pytest.mark.parametrize("rcode", [RCODE.NXDOMAIN, RCODE.SERVFAIL, RCODE.REFUSED, RCODE.NOTIMP, RCODE.FORMERR])
def test_auto_what_they_cannot_resolve_goes_to_the_service(play: Callable[..., None], rcode: int) -> None:
    def conversation(world: World) -> None:
        own, service = world.server(OWN, says(rcode=rcode)), world.server(SERVICE, says("2.2.2.2"))
        world.start()
        assert addresses(world.ask("git.internal")) == ["2.2.2.2"]
        assert own.asked == service.asked == ["udp git.internal A"]

    play(conversation)


@pytest.mark.parametrize("name", ["db.corp.example", "CORP.Example", "5.1.168.192.in-addr.arpa"])
def test_auto_private_suffixes_are_the_services_first(play: Callable[..., None], name: str) -> None:
    def conversation(world: World) -> None:
        own, service = world.server(OWN, says("1.1.1.1")), world.server(SERVICE, says("2.2.2.2"))
        world.start()
        assert addresses(world.ask(name)) == ["2.2.2.2"]
        assert own.asked == []
        service.behave = says(rcode=RCODE.NXDOMAIN)
        assert addresses(world.ask(name)) == ["1.1.1.1"]

    play(conversation)


@pytest.mark.parametrize("name", ["notcorp.example", "corp.example.org"])
def test_a_suffix_is_whole_labels(play: Callable[..., None], name: str) -> None:
    def conversation(world: World) -> None:
        world.server(OWN, says("1.1.1.1"))
        world.server(SERVICE, says("2.2.2.2"))
        world.start()
        assert addresses(world.ask(name)) == ["1.1.1.1"]

    play(conversation)


def test_an_empty_answer_is_an_answer(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        own, service = world.server(OWN, says()), world.server(SERVICE, says("2.2.2.2"))
        world.start()
        reply = world.ask("v4only.example.org", "AAAA")
        assert reply.header.rcode == RCODE.NOERROR
        assert reply.rr == []
        assert len(own.asked) == 1
        assert service.asked == []

    play(conversation)


def test_mode_all_asks_nobody_but_the_service(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        own, service = world.server(OWN, says("1.1.1.1")), world.server(SERVICE, says(rcode=RCODE.NXDOMAIN))
        world.start("all")
        assert world.ask().header.rcode == RCODE.NXDOMAIN
        service.behave = silent
        assert world.ask().header.rcode == RCODE.SERVFAIL
        assert own.asked == []

    play(conversation)


def test_without_own_servers_the_service_is_asked(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        world.server(SERVICE, says("2.2.2.2"))
        world.start(own=("nonsense", SERVICE, "127.83.0.4"))
        assert addresses(world.ask()) == ["2.2.2.2"]

    play(conversation)


def test_silence_costs_one_wait_and_then_none_for_a_while(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        own, service = world.server(OWN, silent), world.server(SERVICE, says("2.2.2.2"))
        world.start()
        began = time.monotonic()
        assert addresses(world.ask()) == ["2.2.2.2"]
        assert 0.18 < time.monotonic() - began < 1
        began = time.monotonic()
        assert addresses(world.ask("two.example.org")) == ["2.2.2.2"]
        assert time.monotonic() - began < 0.1
        assert own.asked == ["udp www.example.org A"]
        own.behave = says("1.1.1.1")  # once it answers it is asked first again
        service.behave = says(rcode=RCODE.SERVFAIL)
        assert addresses(world.ask("three.example.org")) == ["1.1.1.1"]
        service.behave = says("2.2.2.2")
        assert addresses(world.ask("four.example.org")) == ["1.1.1.1"]

    play(conversation)


def test_a_late_answer_counts_while_the_service_still_thinks(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        waiting: list[bytes] = []
        own = world.server(OWN, silent)
        clients: list[Any] = []

        def keep(_events: int) -> None:
            data, client = own.datagrams.recvfrom(65535)
            waiting.append(data)
            clients.append(client)

        world.loop.watch(own.datagrams.fileno(), READ, keep)
        world.server(SERVICE, silent)
        world.start()

        def late() -> None:
            own.datagrams.sendto(says("1.1.1.1")(DNSRecord.parse(waiting[0])), clients[0])  # type: ignore[arg-type]

        world.loop.call_later(0.4, late)
        assert addresses(world.ask()) == ["1.1.1.1"]

    play(conversation)


def test_nobody_there_is_servfail_at_once(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        world.start()
        began = time.monotonic()
        reply = world.ask()
        assert reply.header.rcode == RCODE.SERVFAIL
        assert reply.header.ra
        assert time.monotonic() - began < 0.15  # loopback refuses; nothing waits

    play(conversation)


def test_nobody_answers_is_servfail_in_the_end(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        world.server(OWN, silent)
        world.server(SERVICE, silent)
        world.start()
        began = time.monotonic()
        assert world.ask().header.rcode == RCODE.SERVFAIL
        assert 0.9 < time.monotonic() - began < 2

    play(conversation)


@pytest.mark.parametrize(
    ("own", "service", "told"),
    [(RCODE.NXDOMAIN, RCODE.SERVFAIL, RCODE.NXDOMAIN), (RCODE.SERVFAIL, RCODE.NXDOMAIN, RCODE.NXDOMAIN),
     (RCODE.NXDOMAIN, None, RCODE.NXDOMAIN), (RCODE.REFUSED, RCODE.SERVFAIL, RCODE.REFUSED)],
)  # fmt: skip
def test_of_two_failures_the_better(play: Callable[..., None], own: int, service: int | None, told: int) -> None:
    def conversation(world: World) -> None:
        world.server(OWN, says(rcode=own))
        world.server(SERVICE, silent if service is None else says(rcode=service))
        world.start()
        assert world.ask().header.rcode == told

    play(conversation)


@pytest.mark.parametrize(("service", "told"), [(silent, RCODE.SERVFAIL), (says(rcode=RCODE.REFUSED), RCODE.NXDOMAIN)])
def test_who_denies_a_private_name_without_knowing_it(play: Callable[..., None], service: Any, told: int) -> None:
    """While the link is cut or the machine sleeps nobody else can say that the name does not exist."""

    def conversation(world: World) -> None:
        world.server(OWN, says(rcode=RCODE.NXDOMAIN))
        world.server(SERVICE, service)
        world.start()
        assert world.ask("db.corp.example").header.rcode == told

    play(conversation)


@pytest.mark.parametrize("rcode", [RCODE.NOERROR, RCODE.NXDOMAIN, RCODE.REFUSED])
def test_who_knows_a_private_name_is_waited_for(play: Callable[..., None], rcode: int) -> None:
    """A machine that stood still for three seconds answers then, and what it says counts."""

    def conversation(world: World) -> None:
        waiting: list[tuple[bytes, Any]] = []
        own, service = world.server(OWN, says(rcode=RCODE.NXDOMAIN)), world.server(SERVICE, silent)
        world.loop.watch(
            service.datagrams.fileno(), READ, lambda _events: waiting.append(service.datagrams.recvfrom(65535))
        )
        world.start()

        def late() -> None:
            assert own.asked
            query, client = waiting[0]
            late = says(rcode=rcode)(DNSRecord.parse(query))
            assert isinstance(late, bytes)
            service.datagrams.sendto(late, client)

        world.loop.call_later(0.5, late)
        began = time.monotonic()
        assert world.ask("db.corp.example").header.rcode == (RCODE.NOERROR if rcode == 0 else RCODE.NXDOMAIN)
        assert 0.4 < time.monotonic() - began < 0.75

    play(conversation)


def test_who_knows_a_private_name_is_asked_once_more(play: Callable[..., None]) -> None:
    """The first datagram may have been lost, where a link was full."""

    def conversation(world: World) -> None:
        own, service = world.server(OWN, says(rcode=RCODE.NXDOMAIN)), world.server(SERVICE, silent)
        answer = says("2.2.2.2")
        service.behave = lambda query: answer(query) if own.asked else None
        world.start()
        assert addresses(world.ask("db.corp.example")) == ["2.2.2.2"]
        assert len(service.asked) == 2

    play(conversation)


def test_the_second_own_server_is_asked_when_the_first_is_broken(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        first, second = world.server(OWN, silent), world.server(OTHER, says("3.3.3.3"))
        service = world.server(SERVICE, says("2.2.2.2"))
        world.start(own=(OWN, OTHER))
        assert addresses(world.ask()) == ["3.3.3.3"]
        first.behave = says(rcode=RCODE.SERVFAIL)
        assert addresses(world.ask()) == ["3.3.3.3"]
        first.behave = says(rcode=RCODE.NXDOMAIN)  # the second one would say the same
        assert addresses(world.ask()) == ["2.2.2.2"]
        assert len(second.asked) == 2
        assert len(service.asked) == 1

    play(conversation)


def test_suffixes_change_while_it_runs(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        world.server(OWN, says("1.1.1.1"))
        world.server(SERVICE, says("2.2.2.2"))
        running = world.start()
        assert addresses(world.ask("wiki.vpn.example")) == ["1.1.1.1"]
        running.change_suffixes(["VPN.example."])
        assert addresses(world.ask("wiki.vpn.example")) == ["2.2.2.2"]
        assert addresses(world.ask("db.corp.example")) == ["1.1.1.1"]

    play(conversation)


def test_the_next_address_is_taken_when_one_is_in_use(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        world.server("127.83.0.1", silent)
        assert world.start().address == "127.83.0.2"
        wild = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        world.closing.append(wild)
        world.stub.close()  # type: ignore[union-attr]
        world.closing.remove(world.stub)
        world.closing.pop(0).close()
        wild.bind(("0.0.0.0", 53))
        with pytest.raises(StubError, match="port 53 is free on none of"):
            world.start()

    play(conversation)


def test_a_question_over_tcp_to_a_server_that_is_not_there(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        ends: list[tuple[bytes, object]] = []
        query = DNSRecord.question("www.example.org").pack()
        message = dnsmsg.parse(query)
        assert message is not None
        assert message.question is not None
        attempt = Attempt(
            world.loop, OWN, query, message.question, stream=True, mark=0,
            done=lambda _attempt, reply, told: ends.append((reply, told)),
        )  # fmt: skip
        if attempt.start():
            world.run(1, lambda: bool(ends))
            assert ends == [(b"", None)]

    play(conversation)


def test_respelling_changes_nothing_but_the_name() -> None:
    query = DNSRecord.question("a-1.Example.ORG", "AAAA").pack() + b"ABCabc"
    message = dnsmsg.parse(query)
    assert message is not None
    assert message.question is not None
    seen = set()
    for _ in range(50):
        other = dnsmsg.respelled(query, message.question)
        assert other != query
        assert other.lower() == query.lower()
        assert other[-10:] == query[-10:]
        assert dnsmsg.addressed(other, query, message.question) == query
        seen.add(other)
    assert len(seen) > 40


def test_parsing_questions() -> None:
    query = DNSRecord.question("WwW.Example.ORG", "AAAA").pack()
    message = dnsmsg.parse(query)
    assert message is not None
    assert message.question is not None
    assert message.question.name == "www.example.org"
    assert message.question.section == query[12:].lower()
    root = dnsmsg.parse(DNSRecord.question(".", "NS").pack())
    assert root is not None
    assert root.question is not None
    assert root.question.name == ""
    for cut in range(len(query)):
        assert dnsmsg.parse(query[:cut]) is None
    long = b"".join(bytes([60]) + b"a" * 60 for _ in range(5)) + b"\x00\x00\x01\x00\x01"
    assert dnsmsg.parse(query[:12] + long) is None
    two = bytearray(query)
    two[5] = 2
    assert dnsmsg.parse(bytes(two)) is None
