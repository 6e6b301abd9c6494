"""Conversations with the DNS stub: clients over TCP, many that ask the same, and floods."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from dnslib import QTYPE, DNSRecord

from netbridge.bridge.agent import asking, stub
from netbridge.bridge.agent.loop import READ

from .stub_world import OWN, SERVICE, World, addresses, says, silent

pytestmark = pytest.mark.net


def test_a_truncated_answer_is_passed_on_and_tcp_is_relayed_over_tcp(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        own = world.server(OWN, says(truncated=True))
        address = world.start().address
        assert world.ask().header.tc == 1
        own.behave = says("1.1.1.1")
        client = socket.create_connection((address, 53))
        world.closing.append(client)
        queries = [DNSRecord.question(f"{name}.example.org") for name in "ab"]
        wire = b"".join(struct.pack(">H", len(query.pack())) + query.pack() for query in queries)
        received = bytearray()

        def dribble(_events: int) -> None:
            received.extend(client.recv(65535))

        world.loop.watch(client.fileno(), READ, dribble)
        for byte in wire:  # both questions, a byte at a time
            client.send(bytes([byte]))
            world.run(0.001)
        world.run(2, lambda: len(received) >= 2 and received.count(b"\x01\x01\x01\x01") >= 2)
        world.loop.unwatch(client.fileno())
        assert sorted(own.asked[1:]) == ["tcp a.example.org A", "tcp b.example.org A"]
        first = DNSRecord.parse(bytes(received[2 : 2 + struct.unpack_from(">H", received)[0]]))
        assert first.header.id in {query.header.id for query in queries}

    play(conversation)


def test_a_tcp_client_that_closes_its_sending_side_still_gets_its_answer(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        world.server(OWN, says("1.1.1.1"))
        client = socket.create_connection((world.start().address, 53))
        world.closing.append(client)
        query = DNSRecord.question("www.example.org").pack()
        client.send(struct.pack(">H", len(query)) + query)
        client.shutdown(socket.SHUT_WR)
        received = bytearray()
        ends: list[bool] = []

        def read(_events: int) -> None:
            data = client.recv(65535)
            received.extend(data)
            if not data:
                ends.append(True)
                world.loop.unwatch(client.fileno())

        world.loop.watch(client.fileno(), READ, read)
        world.run(2, lambda: bool(ends))
        assert b"\x01\x01\x01\x01" in received
        assert ends == [True]

    play(conversation)


def test_clients_that_connect_and_do_nothing_do_not_keep_others_out(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        world.server(OWN, says("1.1.1.1"))
        address = world.start().address
        for _ in range(100):
            world.closing.append(socket.create_connection((address, 53)))
            world.run(0.002)
        query = DNSRecord.question("www.example.org").pack()
        client = socket.create_connection((address, 53))
        world.closing.append(client)
        client.send(struct.pack(">H", len(query)) + query)
        received = bytearray()
        world.loop.watch(client.fileno(), READ, lambda _events: received.extend(client.recv(65535)))
        world.run(2, lambda: b"\x01\x01\x01\x01" in received)
        world.loop.unwatch(client.fileno())
        assert b"\x01\x01\x01\x01" in received

    play(conversation)


def test_asking_again_does_not_ask_twice(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        own = world.server(OWN, silent)
        world.start()
        client, query = world.client(), DNSRecord.question("www.example.org").pack()
        for _ in range(5):
            client.send(query)
        world.run(0.05)
        assert own.asked == ["udp www.example.org A"]

    play(conversation)


def spelled(reply: DNSRecord) -> tuple[str, str]:
    """The name in the question, and of the first answer."""
    return str(reply.q.qname), str(reply.rr[0].rname)


@pytest.mark.parametrize("private", [False, True])
def test_the_same_asked_by_many_at_once_is_asked_once(play: Callable[..., None], *, private: bool) -> None:
    """Of the own nameservers as of the service; each gets its id and its spelling back."""

    def conversation(world: World) -> None:
        asked: list[tuple[bytes, Any]] = []
        server = world.server(SERVICE if private else OWN, silent)

        def keep(_events: int) -> None:
            asked.append(server.datagrams.recvfrom(65535))

        world.loop.watch(server.datagrams.fileno(), READ, keep)
        world.start()
        names = [f"{name}.corp.example" if private else f"{name}.example.org" for name in ("www", "WWW", "wWw", "www")]
        clients = [world.client() for _ in names]
        queries = [DNSRecord.question(name) for name in names]
        for client, query in zip(clients, queries, strict=True):
            client.send(query.pack())
        world.client().send(DNSRecord.question(names[0], "AAAA").pack())
        world.run(0.05)
        assert len(asked) == 2  # A and AAAA
        data, place = next(item for item in asked if DNSRecord.parse(item[0]).q.qtype == QTYPE.A)
        server.datagrams.sendto(says("1.1.1.1")(DNSRecord.parse(data)), place)  # type: ignore[arg-type]
        for client, query, name in zip(clients, queries, names, strict=True):
            (reply,) = world.replies(client, 1, 1)
            assert reply.header.id == query.header.id
            assert spelled(reply) == (f"{name}.", f"{name}.")
            assert addresses(reply) == ["1.1.1.1"]
        assert len(asked) == 2

    play(conversation)


def test_what_differs_in_anything_but_id_and_spelling_is_asked_apart(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        own = world.server(OWN, silent)
        world.start()
        plain = DNSRecord.question("www.example.org").pack()
        checking = plain[:3] + bytes([plain[3] | 0x10]) + plain[4:]  # CD, RFC 4035 section 3.2.2
        extended = plain[:11] + b"\1" + plain[12:] + b"\0\0\x29\x04\xd0" + bytes(6)
        for query in (plain, checking, extended):
            world.client().send(query)
        world.run(0.05)
        assert len(own.asked) == 3

    play(conversation)


def test_one_of_two_tcp_clients_goes_away_and_the_other_is_answered(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        own = world.server(OWN, silent)
        waiting: list[socket.socket] = []
        world.loop.watch(own.listener.fileno(), READ, lambda _events: waiting.append(own.listener.accept()[0]))
        running = world.start()
        clients = [socket.create_connection((running.address, 53)) for _ in range(2)]
        query = DNSRecord.question("www.example.org").pack()
        for client in clients:
            client.send(struct.pack(">H", len(query)) + query)
        world.run(0.05)
        assert len(waiting) == 1
        own.open += waiting
        clients[0].close()
        world.run(0.05)
        assert len(running._running) == 1
        data = waiting[0].recv(65535)
        reply = says("1.1.1.1")(DNSRecord.parse(data[2:]))
        assert isinstance(reply, bytes)
        waiting[0].send(struct.pack(">H", len(reply)) + reply)
        world.run(0.05)
        assert addresses(DNSRecord.parse(clients[1].recv(65535)[2:])) == ["1.1.1.1"]
        clients[1].close()

    play(conversation)


def test_when_the_last_client_goes_away_nothing_more_is_asked(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        world.server(OWN, silent)
        service = world.server(SERVICE, says("2.2.2.2"))
        running = world.start()
        client = socket.create_connection((running.address, 53))
        query = DNSRecord.question("www.example.org").pack()
        client.send(struct.pack(">H", len(query)) + query)
        world.run(0.05)
        assert len(running._running) == 1
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no half-close, but a reset
        client.close()
        world.run(0.05)
        assert running._running == {}
        assert running._sent == {}
        world.run(0.3)
        assert service.asked == []

    play(conversation)


def test_more_clients_of_one_question_than_are_heard(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        own = world.server(OWN, silent)
        running = world.start()
        client = world.client()
        for number in range(3 * asking.ASKERS):
            client.send(struct.pack(">H", number) + DNSRecord.question("www.example.org").pack()[2:])
            if number % 32 == 31:
                world.run(0.01)
        assert len(own.asked) == 1
        (exchange,) = running._running.values()
        assert len(exchange._askers) == asking.ASKERS

    play(conversation)


def test_one_slow_name_does_not_send_the_others_elsewhere(play: Callable[..., None]) -> None:
    """A nameserver that waits for somebody else's nameserver is still the one to ask first."""

    def conversation(world: World) -> None:
        own = world.server(OWN, lambda query: None if b"slow" in query.pack().lower() else says("1.1.1.1")(query))
        service = world.server(SERVICE, says("2.2.2.2"))
        world.start()
        slow = world.client()
        slow.send(DNSRecord.question("slow.example.org").pack())
        assert addresses(world.ask("www.example.org")) == ["1.1.1.1"]
        assert addresses(world.replies(slow, 1, 2)[0]) == ["2.2.2.2"]
        assert addresses(world.ask("another.example.org")) == ["1.1.1.1"]
        assert service.asked == ["udp slow.example.org A"]
        assert len(own.asked) == 3

    play(conversation)


@pytest.mark.alone
def test_a_flood_of_names_nobody_knows_is_bounded_and_blocks_nobody(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        own = world.server(OWN, lambda query: says("1.1.1.1")(query) if "good" in str(query.q.qname).lower() else None)
        world.server(SERVICE, silent)
        running = world.start()
        client = world.client()
        for number in range(1000):
            client.send(DNSRecord.question(f"x{number}.example.org").pack())
            if number % 50 == 49:
                world.run(0.03)
        assert len(running._running) <= stub.IN_FLIGHT
        assert addresses(world.ask("good.example.org")) == ["1.1.1.1"]
        world.run(1.5)
        assert running._running == {}
        assert len(own.asked) >= 500

    play(conversation)
