"""The DNS service, asked over UDP and TCP on loopback sockets."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import dnslib
import pytest
from dnslib import RR

from netbridge.bridge.dns import DnsService, OwnNames, streams
from netbridge.bridge.dns import service as service_module


def ask(name: str = "host.example", rtype: str = "A", *, id_: int = 7, edns: int = 0) -> bytes:
    record = dnslib.DNSRecord.question(name, rtype)
    record.header.id = id_
    if edns:
        record.add_ar(dnslib.EDNS0(udp_len=edns))
    return bytes(record.pack())


def zone(text: str, rcode: int = 0, authority: str = "") -> Callable[[bytes], list[bytes]]:
    """A nameserver's behaviour: these records."""

    def behave(query: bytes) -> list[bytes]:
        record = dnslib.DNSRecord.parse(query).reply()
        record.header.rcode = rcode
        if text:
            record.add_answer(*RR.fromZone(text))
        if authority:
            record.add_auth(*RR.fromZone(authority))
        return [bytes(record.pack())]

    return behave


MANY = "\n".join(f"host.example 60 IN A 10.0.0.{number}" for number in range(80))
"""About 1,300 bytes of answer."""


async def test_udp_and_tcp_answer_and_the_second_time_from_the_cache(world: Any) -> None:
    server = await world.nameserver()
    service = await world.service()
    server.behave = zone("host.example 60 IN A 10.0.0.1")
    first = dnslib.DNSRecord.parse(await world.ask(ask(id_=1)))
    world.now += 20
    second = dnslib.DNSRecord.parse(await world.ask(ask("HOST.example", id_=2)))
    (third,) = await world.ask_tcp(ask(id_=3))
    assert [each.header.id for each in (first, second, dnslib.DNSRecord.parse(third))] == [1, 2, 3]
    assert (first.rr[0].ttl, second.rr[0].ttl) == (60, 40)
    assert str(second.q.qname) == "HOST.example."
    assert len(server.queries) == 1
    assert [told[1:] for told in world.told] == [("A", 0, "127.100.0.1"), ("A", 0, "cache"), ("A", 0, "cache")]
    assert service.counters.cache_hits == 2
    world.now += 40
    await world.ask(ask())
    assert len(server.queries) == 2  # its time was over


async def test_no_such_name_is_kept_for_as_long_as_the_soa_says(world: Any) -> None:
    server = await world.nameserver()
    await world.service()
    server.behave = zone("", 3, "example 3600 IN SOA ns.example. a.example. 1 2 3 4 10")
    for now, asked in ((0.0, 1), (9.0, 1), (10.0, 2)):
        world.now = 1000.0 + now
        assert dnslib.DNSRecord.parse(await world.ask(ask())).header.rcode == 3
        assert len(server.queries) == asked


async def test_a_changed_resolv_conf_empties_the_cache(world: Any) -> None:
    first, second = await world.nameserver(1), await world.nameserver(2)
    world.use(first.address)
    await world.service()
    first.behave, second.behave = zone("host.example 60 IN A 10.0.0.1"), zone("host.example 60 IN A 10.0.0.2")
    assert str(dnslib.DNSRecord.parse(await world.ask(ask())).rr[0].rdata) == "10.0.0.1"
    world.use(second.address)
    world.now += 1
    assert str(dnslib.DNSRecord.parse(await world.ask(ask())).rr[0].rdata) == "10.0.0.2"


async def test_an_answer_of_the_old_resolver_is_not_kept_beyond_the_change(world: Any) -> None:
    first, second = await world.nameserver(1), await world.nameserver(2)
    world.use(first.address)
    service = await world.service(attempt_timeout=1, total_timeout=2)
    first.gate = asyncio.Event()
    first.behave, second.behave = zone("host.example 60 IN A 10.0.0.1"), zone("host.example 60 IN A 10.0.0.2")
    asking = asyncio.ensure_future(world.ask(ask()))
    while not first.queries:
        await asyncio.sleep(0.001)
    world.use(second.address)
    world.now += 1
    await world.ask(ask("other.example"))  # sees the change
    first.gate.set()
    assert str(dnslib.DNSRecord.parse(await asking).rr[0].rdata) == "10.0.0.1"
    assert str(dnslib.DNSRecord.parse(await world.ask(ask())).rr[0].rdata) == "10.0.0.2"
    assert service.cache.flushes == 1


async def test_answers_that_do_not_fit_are_truncated_and_fit_over_tcp(world: Any) -> None:
    server = await world.nameserver()
    server.behave = zone(MANY)
    service = await world.service()
    for message, most in ((ask(), 512), (ask(edns=600), 600), (ask(edns=4096), 1232)):
        answer = await world.ask(message)
        assert len(answer) <= most
        parsed = dnslib.DNSRecord.parse(answer)
        assert parsed.header.tc
        assert not parsed.rr
        (whole,) = await world.ask_tcp(message)
        assert len(whole) > 1232
        assert len(dnslib.DNSRecord.parse(whole).rr) == 80
    assert service.counters.truncated == 3


async def test_an_answer_of_700_bytes_fits_a_client_that_says_so(world: Any) -> None:
    server = await world.nameserver()
    server.behave = zone("\n".join(f"host.example 60 IN A 10.0.0.{number}" for number in range(40)))
    await world.service()
    assert dnslib.DNSRecord.parse(await world.ask(ask())).header.tc
    assert len(dnslib.DNSRecord.parse(await world.ask(ask(edns=1232))).rr) == 40


async def test_the_same_question_at_the_same_time_is_asked_once(world: Any) -> None:
    server = await world.nameserver()
    server.gate = asyncio.Event()
    service = await world.service(attempt_timeout=1, total_timeout=2)
    names = ["h.example", "H.example"] * 10
    asking = [asyncio.ensure_future(world.ask(ask(name, id_=number))) for number, name in enumerate(names)]
    while service.counters.udp_queries < 20:
        await asyncio.sleep(0)
    server.gate.set()
    answers = await asyncio.gather(*asking)
    assert len(server.queries) == 1
    assert [dnslib.DNSRecord.parse(each).header.id for each in answers] == list(range(20))
    assert service.counters.joined == 19
    assert service.counters.asked == 1


async def test_too_many_questions_get_servfail_at_once_and_later_ones_are_served(world: Any) -> None:
    server = await world.nameserver()
    server.gate = asyncio.Event()
    service = await world.service(max_questions=5, attempt_timeout=2, total_timeout=3)
    asking = [asyncio.ensure_future(world.ask(ask(f"h{n}.example"))) for n in range(5)]
    while len(server.queries) < 5:
        await asyncio.sleep(0)
    assert dnslib.DNSRecord.parse(await world.ask(ask("one-more.example"))).header.rcode == 2
    server.gate.set()
    assert all(dnslib.DNSRecord.parse(each).header.rcode == 0 for each in await asyncio.gather(*asking))
    assert dnslib.DNSRecord.parse(await world.ask(ask("one-more.example"))).header.rcode == 0
    assert service.counters.overload == 1
    assert not service._waiting
    assert service._waiting_count == 0


async def test_who_has_waited_for_a_second_gives_way(world: Any) -> None:
    """Names whose nameservers are silent must not keep others from asking."""
    server = await world.nameserver()
    server.gate = asyncio.Event()
    service = await world.service(max_questions=4, attempt_timeout=30, total_timeout=60)
    silent = [asyncio.ensure_future(world.ask(ask(f"x{number}.silent.example"))) for number in range(4)]
    while len(server.queries) < 4:
        await asyncio.sleep(0.001)
    again = asyncio.ensure_future(world.ask(ask("x0.silent.example", id_=8)))
    while service.counters.joined < 1:
        await asyncio.sleep(0.001)
    world.now += service_module.GIVES_WAY
    honest = asyncio.ensure_future(world.ask(ask("honest.example")))
    assert [dnslib.DNSRecord.parse(await each).header.rcode for each in (silent[0], again)] == [2, 2]
    assert (service.counters.given_up, service.counters.overload) == (1, 0)
    once_more = asyncio.ensure_future(world.ask(ask("x0.silent.example")))  # in the place of x1
    assert dnslib.DNSRecord.parse(await silent[1]).header.rcode == 2
    server.gate.set()
    found = await asyncio.gather(honest, once_more, *silent[2:])
    assert [dnslib.DNSRecord.parse(each).header.rcode for each in found] == [0] * 4
    assert (service.under_way, service._waiting_count, service._tasks) == (0, 0, {})


async def test_a_resolver_that_is_down_means_servfail_in_time(world: Any) -> None:
    server = await world.nameserver()
    server.behave = lambda _: []
    service = await world.service()
    started = time.monotonic()
    answer = dnslib.DNSRecord.parse(await world.ask(ask(edns=1232)))
    assert answer.header.rcode == 2
    assert time.monotonic() - started < 1
    assert world.told == [("host.example", "A", 2, "none")]
    assert service.counters.failed == 1
    server.behave = zone("host.example 60 IN A 10.0.0.1")
    assert dnslib.DNSRecord.parse(await world.ask(ask(edns=1232))).header.rcode == 0  # the failure was not kept


@pytest.mark.parametrize(
    ("message", "rcode"),
    [
        (b"\0\1\x29\0\0\1\0\0\0\0\0\0\0\0\1\0\1", 4),
        (b"\0\1\1\0\0\2\0\0\0\0\0\0\0\0\1\0\1\0\0\1\0\1", 1),
        (b"\0\1\1\0\0\1\0\0\0\0\0\0\0\0\xfc\0\1", 5),
    ],
)
async def test_wrong_queries_are_told_so(world: Any, message: bytes, rcode: int) -> None:
    service = await world.service()
    for answer in (await world.ask(message), *await world.ask_tcp(message)):
        assert answer[:2] == b"\0\1"
        assert answer[3] & 15 == rcode
    assert service.counters.malformed == 2


async def test_responses_and_runts_get_no_answer(world: Any) -> None:
    server = await world.nameserver()
    service = await world.service()
    for message in (b"", b"\0", b"\0\1\x81\x80\0\1\0\0\0\0\0\0\0\0\1\0\1"):
        with pytest.raises(TimeoutError):
            await world.ask(message, timeout=0.05)
    assert await world.ask_tcp(b"", b"x", ask(id_=9)) == [await world.ask(ask(id_=9))]
    assert service.counters.dropped == 5
    assert len(server.queries) == 1


async def test_many_questions_on_one_connection_are_answered_as_they_come(world: Any) -> None:
    server = await world.nameserver()
    held: list[bytes] = []

    def behave(query: bytes) -> list[bytes]:
        if b"slow" in query.lower():
            held.append(query)
            return []
        return answered(query)

    answered = zone("host.example 60 IN A 10.0.0.1")
    server.behave = behave
    await world.service(attempt_timeout=0.3, total_timeout=0.3)
    answers = await world.ask_tcp(ask("slow.example", "TXT", id_=1), ask(id_=2), ask("b.example", id_=3))
    assert [dnslib.DNSRecord.parse(each).header.id for each in answers] == [2, 3, 1]


async def test_more_questions_than_fit_on_a_connection_wait_in_its_socket(world: Any) -> None:
    server = await world.nameserver()
    server.gate = asyncio.Event()
    service = await world.service(attempt_timeout=2, total_timeout=3)
    asking = asyncio.ensure_future(world.ask_tcp(*[ask(f"h{n}.example", id_=n) for n in range(50)]))
    while len(server.queries) < streams.MAX_UNDER_WAY:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    assert service.counters.tcp_queries == streams.MAX_UNDER_WAY
    server.gate.set()
    answers: list[bytes] = await asking
    assert len(answers) == 50


async def test_messages_in_single_bytes_and_broken_connections(world: Any) -> None:
    await world.nameserver()
    service = await world.service()
    reader, writer = await asyncio.open_connection("127.100.0.100", world.port)
    for byte in struct.pack(">H", len(ask())) + ask():
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    (length,) = struct.unpack(">H", await reader.readexactly(2))
    assert len(await reader.readexactly(length)) == length
    writer.transport.abort()
    for partial in (b"\0", b"\0\xff" + b"x", b"\0\0" * 20):
        _, writer = await asyncio.open_connection("127.100.0.100", world.port)
        writer.write(partial)
        writer.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        await writer.drain()
        writer.transport.abort()
    while service._streams._open:
        await asyncio.sleep(0.001)
    assert dnslib.DNSRecord.parse((await world.ask_tcp(ask()))[0]).header.rcode == 0


async def test_an_idle_connection_is_closed(world: Any) -> None:
    service = await world.service()
    service._streams.idle = 0.05
    reader, writer = await asyncio.open_connection("127.100.0.100", world.port)
    async with asyncio.timeout(2):
        assert await reader.read() == b""
    writer.close()


async def test_connections_are_bounded(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_CONNECTIONS", 2)
    await world.nameserver()
    service = await world.service()
    open_ones = [await asyncio.open_connection("127.100.0.100", world.port) for _ in range(2)]
    while len(service._streams._open) < 2:
        await asyncio.sleep(0)
    with pytest.raises(OSError):
        await world.ask_tcp(ask())
        raise ConnectionResetError
    assert service.counters.tcp_refused == 1
    for _, writer in open_ones:
        writer.close()
    while service._streams._open:
        await asyncio.sleep(0.001)
    assert await world.ask_tcp(ask())


async def test_waiting_clients_are_bounded(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "MAX_WAITING", 3)
    server = await world.nameserver()
    server.gate = asyncio.Event()
    service = await world.service(attempt_timeout=2, total_timeout=3)
    asking = [asyncio.ensure_future(world.ask(ask())) for _ in range(3)]
    while service.counters.udp_queries < 3:
        await asyncio.sleep(0)
    assert dnslib.DNSRecord.parse(await world.ask(ask())).header.rcode == 2
    server.gate.set()
    await asyncio.gather(*asking)


async def test_an_observer_that_fails_does_no_harm(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    await world.nameserver()
    service = await world.service()


    def fail(*_: object) -> None:
        raise ZeroDivisionError

    service.on_answer = fail
    for _ in range(2):
        assert dnslib.DNSRecord.parse(await world.ask(ask())).header.rcode == 0
    assert caplog.text.count("the DNS observer failed") == 1


async def test_nothing_is_logged_for_a_query_at_info(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await world.service()
    assert dnslib.DNSRecord.parse(await world.ask(ask())).header.rcode == 2
    assert not caplog.records


async def test_leaving_while_questions_are_under_way_ends_promptly(world: Any) -> None:
    server = await world.nameserver()
    server.behave = lambda _: []
    service = await world.service(attempt_timeout=20, total_timeout=30)
    _, writer = await asyncio.open_connection("127.100.0.100", world.port)
    writer.write(struct.pack(">H", len(ask())) + ask())
    asking = asyncio.ensure_future(world.ask(ask("b.example"), timeout=1))
    while service.counters.asked < 2:
        await asyncio.sleep(0.001)
    async with asyncio.timeout(1):
        await world.exits.aclose()
    assert not service._tasks
    assert (service.under_way, service._waiting_count) == (0, 0)
    assert (service.counters.asked, service.counters.failed) == (2, 2)
    writer.close()
    asking.cancel()
    await asyncio.wait([asking])


async def test_an_address_that_cannot_be_listened_on_leaves_nothing_behind(world: Any) -> None:
    class Host:
        async def create_datagram_endpoint(self, factory: Any, local_addr: Any = None, remote_addr: Any = None) -> Any:
            if local_addr[0] == "203.0.113.7":
                raise OSError("203.0.113.7 is not an address of this machine")
            return await asyncio.get_running_loop().create_datagram_endpoint(factory, local_addr=local_addr)

        async def start_server(self, callback: Any, host: str, port: int) -> Any:
            return await asyncio.start_server(callback, host, port)

    with pytest.raises(OSError, match=r"203\.0\.113\.7"):
        async with DnsService(Host(), ["127.100.0.100", "203.0.113.7"], world.upstream(), port=world.port):
            pytest.fail("it listens at an address this machine does not have")
    await world.service()  # the first address is free again


async def test_own_names_are_answered_here_and_never_asked(world: Any) -> None:
    server = await world.nameserver()
    own = OwnNames({"host.netbridge.internal": [ipaddress.ip_address("198.18.0.4")]})
    service = await world.service(own=own)
    message = await world.ask(ask("host.netbridge.internal"))
    assert [str(each.rdata) for each in dnslib.DNSRecord.parse(message).rr] == ["198.18.0.4"]
    (message,) = await world.ask_tcp(ask("nobody.netbridge.internal"))
    assert dnslib.DNSRecord.parse(message).header.rcode == 3
    assert server.queries == []
    assert service.counters.own == 2
    assert world.told[-1][3] == "bridge"


class Ways:
    """Lacks what the test says, and makes it when it is told to."""

    def __init__(self) -> None:
        self.lacking = True
        self.seen: list[list[tuple[bytes, int]]] = []
        self.made = asyncio.Event()

    def lacks(self, query: Any, answer: Any, age: int = 0) -> bool:
        self.seen.append(list(answer.addresses()))
        return self.lacking

    async def make(self) -> None:
        await self.made.wait()
        self.lacking = False


async def test_an_answer_waits_for_its_way_and_a_kept_one_whose_way_is_gone_is_asked_anew(world: Any) -> None:
    server = await world.nameserver()
    ways = Ways()
    service = await world.service(ways=ways)
    server.behave = zone("host.example 60 IN CNAME other.example\nother.example 30 IN A 10.0.0.1")
    first = asyncio.create_task(world.ask(ask()))
    async with asyncio.timeout(5):
        while not ways.seen:
            await asyncio.sleep(0.001)
    assert not first.done()
    assert service.counters.positive == 0
    ways.made.set()
    assert dnslib.DNSRecord.parse(await first).header.rcode == 0
    assert ways.seen == [[(bytes((10, 0, 0, 1)), 30)]]
    await world.ask(ask())
    assert len(server.queries) == 1
    ways.lacking = True
    await world.ask(ask())
    assert len(server.queries) == 2


async def test_who_asks_twice_while_a_way_is_made_is_answered_twice(world: Any) -> None:
    await world.nameserver()
    ways = Ways()
    service = await world.service(ways=ways)
    both = [asyncio.create_task(world.ask(ask(id_=number))) for number in (1, 2)]
    async with asyncio.timeout(5):
        while service.counters.joined < 1:
            await asyncio.sleep(0.001)
    ways.made.set()
    assert sorted([dnslib.DNSRecord.parse(await each).header.id for each in both]) == [1, 2]
