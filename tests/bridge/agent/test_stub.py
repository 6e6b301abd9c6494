"""Conversations with the DNS stub: who is asked, what is told, and what forged or broken messages cannot do.

Everything runs on one agent loop in one private network namespace: clients, the stub, and fake nameservers on 127.x
port 53. The times the stub waits are a tenth of the real ones.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import dnslib
import pytest
from dnslib import AAAA, QTYPE, RCODE, RR, A, DNSRecord

from netbridge.bridge.agent import asking, dnsmsg, stub
from netbridge.bridge.agent.loop import READ, Loop
from netbridge.bridge.agent.netlink import Netlink
from netbridge.bridge.agent.stub import Stub, StubError
from netbridge.bridge.agent.upstream import Attempt

pytestmark = pytest.mark.net

OWN, OTHER, SERVICE = "127.99.0.1", "127.99.0.2", "127.98.0.1"
Behaviour = Callable[[DNSRecord], "bytes | list[bytes] | None"]


def says(address: str = "", rcode: int = 0, *, truncated: bool = False) -> Behaviour:
    """Answers with one A record, or with nothing but an rcode."""

    def behave(query: DNSRecord) -> bytes:
        reply = query.reply()
        reply.header.rcode = rcode
        reply.header.tc = truncated
        if address and query.q.qtype == QTYPE.A:
            reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A(address), ttl=60))
        elif address and query.q.qtype == QTYPE.AAAA:
            reply.add_answer(RR(query.q.qname, QTYPE.AAAA, rdata=AAAA("::" + address), ttl=60))
        return bytes(reply.pack())

    return behave


def silent(query: DNSRecord) -> None:
    return None


class Server:
    """A fake nameserver, on UDP and TCP."""

    def __init__(self, world: World, address: str, behave: Behaviour) -> None:
        self.asked: list[str] = []
        self.behave = behave
        self.world = world
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.open: list[socket.socket] = [self.datagrams, self.listener]
        for own in self.open:
            own.bind((address, 53))
        self.listener.listen()
        world.loop.watch(self.datagrams.fileno(), READ, self._datagram)
        world.loop.watch(self.listener.fileno(), READ, self._connection)

    def _note(self, data: bytes, kind: str) -> list[bytes]:
        query = DNSRecord.parse(data)
        self.asked.append(f"{kind} {str(query.q.qname).rstrip('.').lower()} {QTYPE[query.q.qtype]}")
        reply = self.behave(query)
        return reply if isinstance(reply, list) else [reply] if reply else []

    def _datagram(self, _events: int) -> None:
        data, client = self.datagrams.recvfrom(65535)
        for reply in self._note(data, "udp"):
            self.datagrams.sendto(reply, client)

    def _connection(self, _events: int) -> None:
        connection, _ = self.listener.accept()
        self.open.append(connection)

        def readable(_events: int) -> None:
            data = connection.recv(65535)
            if data:
                for reply in self._note(data[2:], "tcp"):
                    for byte in struct.pack(">H", len(reply)) + reply:
                        connection.send(bytes([byte]))
            else:
                self.world.loop.unwatch(connection.fileno())

        self.world.loop.watch(connection.fileno(), READ, readable)

    def close(self) -> None:
        for own in self.open:
            self.world.loop.unwatch(own.fileno())
            own.close()


class World:
    """The loop, the stub and its surroundings."""

    def __init__(self) -> None:
        netlink = Netlink()
        for link in netlink.links():
            if link.name == "lo":
                netlink.set_link(link.interface, up=True)
        netlink.close()
        self.loop = Loop()
        self.closing: list[Any] = []
        self.stub: Stub | None = None

    def server(self, address: str, behave: Behaviour) -> Server:
        server = Server(self, address, behave)
        self.closing.append(server)
        return server

    def start(self, mode: str = "auto", own: tuple[str, ...] = (OWN,), service: tuple[str, ...] = (SERVICE,)) -> Stub:
        self.stub = Stub(self.loop, mode, service, own, ["corp.example", ".168.192.in-addr.arpa"])
        self.closing.append(self.stub)
        return self.stub

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Serve for so long, or until something is the case."""
        deadline = time.monotonic() + seconds

        def look() -> None:
            if until() or time.monotonic() >= deadline:
                self.loop.stop()
            else:
                self.loop.call_later(0.002, look)

        self.loop._running = True
        look()
        self.loop.run()

    def ask(self, name: str = "www.example.org", kind: str = "A", *, seconds: float = 3.0) -> DNSRecord:
        """The stub's answer to a question over UDP."""
        client = self.client()
        query = DNSRecord.question(name, kind)
        client.send(query.pack())
        replies = self.replies(client, 1, seconds)
        assert replies, "no answer"
        assert replies[0].header.id == query.header.id
        assert replies[0].q.qname == query.q.qname
        return replies[0]

    def client(self) -> socket.socket:
        assert self.stub is not None
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect((self.stub.address, 53))
        self.closing.append(client)
        return client

    def replies(self, client: socket.socket, count: int, seconds: float) -> list[DNSRecord]:
        found: list[DNSRecord] = []
        self.loop.watch(client.fileno(), READ, lambda _events: found.append(DNSRecord.parse(client.recv(65535))))
        self.run(seconds, lambda: len(found) >= count)
        self.loop.unwatch(client.fileno())
        return found

    def close(self) -> None:
        for thing in reversed(self.closing):
            thing.close()
        self.loop.close()


@pytest.fixture
def play(in_network: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Run a conversation in a world of its own."""
    monkeypatch.setattr(stub, "FIRST_WAIT", 0.2)
    monkeypatch.setattr(stub, "LAST_WAIT", 0.8)
    monkeypatch.setattr(stub, "CIRCLE_WAIT", 0.1)

    def run(conversation: Callable[[World], None]) -> None:
        def body() -> None:
            world = World()
            try:
                conversation(world)
            finally:
                world.close()

        in_network(body)

    yield run


def addresses(reply: DNSRecord) -> list[str]:
    return [str(answer.rdata) for answer in reply.rr]


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


@pytest.mark.parametrize(
    ("service", "told"), [(silent, RCODE.SERVFAIL), (says(rcode=RCODE.REFUSED), RCODE.NXDOMAIN)]
)
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


class Circle:
    """A nameserver that passes every question on to the stub; `change` is what it does to it."""

    def __init__(self, world: World, address: str, change: Callable[[bytes], bytes] = lambda data: data) -> None:
        self.passed = 0
        self._server = world.server(address, silent)
        self._clients: dict[bytes, tuple[Any, bytes]] = {}
        self._change = change
        assert world.stub is not None
        self._back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._back.bind((address, 0))
        self._back.connect((world.stub.address, 53))
        world.closing.append(self._back)
        world.loop.watch(self._server.datagrams.fileno(), READ, self._forward)
        world.loop.watch(self._back.fileno(), READ, self._backward)

    def _forward(self, _events: int) -> None:
        data, client = self._server.datagrams.recvfrom(65535)
        self.passed += 1
        ident = struct.pack(">H", 0x7700 + self.passed)
        self._clients[ident] = (client, data)
        self._back.send(ident + self._change(data[2:]))

    def _backward(self, _events: int) -> None:
        reply = self._back.recv(65535)
        client, data = self._clients[reply[:2]]
        end = 12 + len(dnsmsg.parse(data).question.section)  # type: ignore[union-attr]
        self._server.datagrams.sendto(data[:2] + reply[2:12] + data[12:end] + reply[end:], client)


@pytest.mark.parametrize("own", [OWN, "127.99.7.7"])
def test_a_circle_through_the_own_server_ends_at_the_service(play: Callable[..., None], own: str) -> None:
    def conversation(world: World) -> None:
        service = world.server(SERVICE, says("2.2.2.2"))
        world.start(own=(own,))
        circle = Circle(world, own)
        began = time.monotonic()
        assert addresses(world.ask()) == ["2.2.2.2"]
        assert time.monotonic() - began < 0.15  # nobody waited for himself
        assert circle.passed == 1
        assert service.asked == ["udp www.example.org A"]
        service.behave = says(rcode=RCODE.NXDOMAIN)
        assert world.ask("unknown.example.org").header.rcode == RCODE.NXDOMAIN
        assert circle.passed == 2

    play(conversation)


def test_a_circle_that_loses_the_spelling_waits_and_asks_nobody_again(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        service = world.server(SERVICE, says("2.2.2.2"))
        running = world.start()
        circle = Circle(world, OWN, lambda data: data[:10] + data[10:].lower())
        assert addresses(world.ask()) == ["2.2.2.2"]
        assert circle.passed == 1
        assert service.asked == ["udp www.example.org A"]
        assert running._running == {}

    play(conversation)


def test_a_server_of_the_circle_that_puts_equal_questions_together(play: Callable[..., None]) -> None:
    """As dnsmasq does: asked by itself, it never answers what the stub asks it back."""

    def conversation(world: World) -> None:
        own = world.server(OWN, silent)
        service = world.server(SERVICE, says(rcode=RCODE.NXDOMAIN))
        running = world.start()
        running._circle_until = time.monotonic() + 60  # it was seen to ask us
        began = time.monotonic()
        assert world.ask("unknown.example.org").header.rcode == RCODE.NXDOMAIN
        assert 0.09 < time.monotonic() - began < 0.18
        assert len(own.asked) == len(service.asked) == 1

    play(conversation)


@pytest.mark.parametrize("mode", ["auto", "all"])
def test_a_circle_through_the_service(play: Callable[..., None], mode: str) -> None:
    """This machine's resolver asks the codespace: what comes back is SERVFAIL at once, or what the others said."""

    def conversation(world: World) -> None:
        own = world.server(OWN, says(rcode=RCODE.NXDOMAIN))
        world.start(mode)
        circle = Circle(world, SERVICE)
        began = time.monotonic()
        told = RCODE.NXDOMAIN if mode == "auto" else RCODE.SERVFAIL
        assert world.ask().header.rcode == told
        assert time.monotonic() - began < 0.15
        assert circle.passed == 1
        assert len(own.asked) == (mode == "auto")
        assert world.ask("db.corp.example").header.rcode == told  # here the service is first, and the own are left
        assert circle.passed == 2
        assert len(own.asked) == (3 if mode == "auto" else 0)

    play(conversation)


def test_two_circles_at_once(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        world.start()
        circles = Circle(world, OWN), Circle(world, SERVICE)
        for number in range(5):
            assert world.ask(f"n{number}.example.org").header.rcode == RCODE.SERVFAIL
        assert sum(circle.passed for circle in circles) <= 5 * 4
        assert world.stub is not None
        assert world.stub._running == world.stub._sent == {}

    play(conversation)


def test_a_name_without_letters_has_one_spelling_and_is_answered(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        own = world.server(OWN, says("1.1.1.1"))
        world.start()
        assert addresses(world.ask("1.2.3")) == ["1.1.1.1"]
        assert world.ask(".", "NS").header.rcode == RCODE.NOERROR
        assert own.asked == ["udp 1.2.3 A", "udp  NS"]

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
