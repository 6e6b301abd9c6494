"""The client of the local resolver, in conversation with nameservers that behave well and badly."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import time
from collections.abc import Callable
from typing import Any

import dnslib
import pytest

from netbridge.bridge.dns.answer import Answer
from netbridge.bridge.dns.message import NXDOMAIN, Query, parse_query
from netbridge.bridge.dns.nameserver import DEAF, UpstreamError
from netbridge.bridge.dns.nss import NameService
from netbridge.bridge.dns.synthesis import answer_addresses, answer_no_name
from netbridge.bridge.dns.upstream import Upstream


def ask(name: str = "host.example", rtype: str = "A", *, edns: bool = False, dnssec: bool = False) -> Query:
    record = dnslib.DNSRecord.question(name, rtype)
    if edns:
        record.add_ar(dnslib.EDNS0(udp_len=4096, flags="do" if dnssec else ""))
    return parse_query(bytes(record.pack()))


def addresses(answer: Answer, query: Query | None = None) -> list[str]:
    return [str(each.rdata) for each in dnslib.DNSRecord.parse(answer.render(query or ask())).rr]


def reply(query: bytes, address: str = "192.0.2.1", **header: int) -> bytes:
    record = dnslib.DNSRecord.parse(query).reply()
    for key, value in header.items():
        setattr(record.header, key, value)
    if not record.header.rcode and not record.header.tc:
        record.add_answer(dnslib.RR(record.q.qname, 1, 1, 60, dnslib.A(address)))
    return bytes(record.pack())


def refuse(rcode: int) -> Callable[[bytes], list[bytes]]:
    return lambda query: [reply(query, rcode=rcode)]


def silent(_: bytes) -> list[bytes]:
    return []


async def test_one_nameserver_answers(world: Any) -> None:
    server = await world.nameserver()
    answer, source = await world.upstream().ask(ask())
    assert addresses(answer) == ["192.0.2.1"]
    assert source == "127.100.0.1"
    assert len(server.queries) == 1


async def test_each_question_has_its_own_id_and_port(world: Any) -> None:
    server = await world.nameserver()
    upstream = world.upstream()
    for _ in range(20):
        await upstream.ask(ask())
    assert len({query[:2] for query in server.queries}) > 15
    assert len({port for _, port in server.peers}) > 15


async def test_answers_with_a_wrong_id_or_question_or_none_are_ignored(world: Any) -> None:
    server = await world.nameserver()

    def wrong_id(query: bytes) -> bytes:
        return bytes([query[0] ^ 1]) + reply(query, "192.0.2.66")[1:]

    server.behave = lambda query: [
        wrong_id(query), reply(bytes(dnslib.DNSRecord.question("evil.example").pack()), "192.0.2.66"),
        query, b"garbage", reply(query, "192.0.2.66")[:-1], reply(query, "192.0.2.1"),
    ]
    upstream = world.upstream()
    answer, _ = await upstream.ask(ask())
    assert addresses(answer) == ["192.0.2.1"]
    assert upstream.counters.ignored == 5


async def test_an_answer_from_another_source_is_never_seen(world: Any) -> None:
    server = await world.nameserver()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as liar:
        liar.bind(("127.100.0.66", world.port))

        def behave(query: bytes) -> list[bytes]:
            liar.sendto(reply(query, "192.0.2.66"), server.peers[-1])
            return [reply(query, "192.0.2.1")]

        server.behave = behave
        answer, _ = await world.upstream().ask(ask())
        assert addresses(answer) == ["192.0.2.1"]


async def test_a_guesser_of_ids_is_not_listened_to_for_ever(world: Any) -> None:
    server = await world.nameserver()
    server.behave = lambda query: [b"\0" * 20] * 40
    upstream = world.upstream()
    with pytest.raises(UpstreamError):
        await upstream.ask(ask())
    assert upstream.counters.ignored <= 32 * 3


@pytest.mark.parametrize("rcode", [1, 2, 4, 5])
async def test_after_a_failure_the_next_nameserver_is_asked(world: Any, rcode: int) -> None:
    first, second = await world.nameserver(1), await world.nameserver(2)
    first.behave = refuse(rcode)
    answer, source = await world.upstream().ask(ask())
    assert (addresses(answer), source) == (["192.0.2.1"], "127.100.0.2")
    assert len(second.queries) == 1


async def test_no_such_name_is_final(world: Any) -> None:
    first, second = await world.nameserver(1), await world.nameserver(2)
    first.behave = refuse(3)
    answer, _ = await world.upstream().ask(ask())
    assert answer.rcode == NXDOMAIN
    assert not second.queries
    assert not world.name_service.asked


async def test_no_data_stays_no_data(world: Any) -> None:
    first = await world.nameserver(1)
    first.behave = lambda query: [bytes(dnslib.DNSRecord.parse(query).reply().pack())]
    query = ask(rtype="AAAA")
    answer, _ = await world.upstream().ask(query)
    assert (answer.rcode, answer.answers) == (0, 0)
    assert not world.name_service.asked


async def test_a_failure_everywhere_is_passed_on(world: Any) -> None:
    for number in (1, 2):
        (await world.nameserver(number)).behave = refuse(5)
    started = time.monotonic()
    answer, source = await world.upstream(total_timeout=3).ask(ask(rtype="TXT"))
    assert (answer.rcode, source) == (5, "127.100.0.1")
    assert time.monotonic() - started < 1  # nobody is left, so nobody is waited for


async def test_a_silent_nameserver_is_waited_for_a_while_then_the_next_is_asked(world: Any) -> None:
    first, second = await world.nameserver(1), await world.nameserver(2)
    first.behave = silent
    upstream = world.upstream()
    _, source = await upstream.ask(ask())
    assert source == "127.100.0.2"
    assert len(first.queries) == len(second.queries) == 1
    assert upstream.counters.timeouts == 1


async def test_a_late_answer_is_an_answer(world: Any) -> None:
    first, second = await world.nameserver(1), await world.nameserver(2)
    second.behave = silent
    first.gate = asyncio.Event()

    def open_gate(_: bytes) -> list[bytes]:
        first.gate.set()
        return []

    second.behave = open_gate
    _, source = await world.upstream().ask(ask())
    assert source == "127.100.0.1"


async def test_nobody_answers_in_time(world: Any) -> None:
    server = await world.nameserver()
    server.behave = silent
    upstream = world.upstream()
    started = time.monotonic()
    with pytest.raises(UpstreamError, match="no answer within"):
        await upstream.ask(ask(rtype="TXT"))
    assert 0.35 < time.monotonic() - started < 2
    assert len(server.queries) == 3  # asked again each time its time was up


async def test_the_default_time_limit_is_below_the_five_seconds_of_a_client() -> None:
    assert Upstream().total_timeout < 5


async def test_a_nameserver_that_is_down_is_skipped_at_once(world: Any) -> None:
    await world.nameserver(2)
    started = time.monotonic()
    upstream = world.upstream(attempt_timeout=2, total_timeout=4)
    _, source = await upstream.ask(ask())
    assert source == "127.100.0.2"
    assert time.monotonic() - started < 1  # port unreachable, no waiting
    assert upstream.counters.refused == 1


async def test_nobody_there_fails_at_once(world: Any) -> None:
    world.use("127.100.0.7")
    started = time.monotonic()
    with pytest.raises(UpstreamError, match="no nameserver could answer"):
        await world.upstream(attempt_timeout=2, total_timeout=4).ask(ask())
    assert time.monotonic() - started < 1


async def test_a_deaf_nameserver_is_asked_last_until_it_is_tried_again(world: Any) -> None:
    first, second = await world.nameserver(1), await world.nameserver(2)
    first.behave = silent
    upstream = world.upstream(attempt_timeout=0.03)
    for _ in range(DEAF):
        assert upstream.nameservers == ["127.100.0.1", "127.100.0.2"]
        await upstream.ask(ask())
    assert upstream.nameservers == ["127.100.0.2", "127.100.0.1"]
    await upstream.ask(ask())
    assert len(first.queries) == DEAF
    world.now += 20
    assert upstream.nameservers == ["127.100.0.1", "127.100.0.2"]
    first.behave = second.behave
    _, source = await upstream.ask(ask())
    assert source == "127.100.0.1"


async def test_truncated_over_udp_is_asked_over_tcp(world: Any) -> None:
    server = await world.nameserver()
    server.behave = lambda query: [reply(query, tc=1)]
    server.behave_tcp = lambda query: [reply(query, "192.0.2.9")]
    upstream = world.upstream()
    answer, _ = await upstream.ask(ask())
    assert addresses(answer) == ["192.0.2.9"]
    assert not answer.truncated
    assert upstream.counters.sent_tcp == 1


@pytest.mark.parametrize(
    "over_tcp", [lambda query: [], lambda query: [b"short"], lambda query: [b"\0\0" + reply(query)[2:]]]
)
async def test_when_tcp_fails_the_truncated_answer_is_better_than_none(world: Any, over_tcp: Any) -> None:
    server = await world.nameserver()
    server.behave = lambda query: [reply(query, tc=1)]
    server.behave_tcp = over_tcp
    answer, _ = await world.upstream().ask(ask())
    assert answer.truncated
    assert answer.lifetime == 0


async def test_edns_passes_and_is_ours(world: Any) -> None:
    server = await world.nameserver()
    upstream = world.upstream()
    await upstream.ask(ask(edns=True, dnssec=True))
    await upstream.ask(ask())
    with_edns, without = (dnslib.DNSRecord.parse(query) for query in server.queries)
    assert [(each.rtype, each.rclass, each.ttl) for each in with_edns.ar] == [(41, 1232, 0x8000)]
    assert not without.ar


async def test_a_nameserver_without_edns_is_asked_without_and_remembered(world: Any) -> None:
    server = await world.nameserver()
    server.behave = lambda query: (
        [query[:2] + b"\x80\1\0\0\0\0\0\0\0\0"] if query[11] else [reply(query)]
    )
    upstream = world.upstream()
    for _ in range(2):
        answer, _ = await upstream.ask(ask(edns=True))
        assert addresses(answer) == ["192.0.2.1"]
    assert [query[11] for query in server.queries] == [1, 0, 0]
    assert upstream.counters.without_edns == 1


async def test_a_path_that_drops_edns_is_overcome_by_the_second_turn(world: Any) -> None:
    server = await world.nameserver()
    server.behave = lambda query: [] if query[11] else [reply(query)]
    answer, _ = await world.upstream().ask(ask(edns=True))
    assert addresses(answer) == ["192.0.2.1"]


async def test_own_addresses_are_never_asked(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = await world.nameserver(1)
    world.use("127.100.0.1", "::ffff:127.100.0.1", "fd6e:6272:0::1")
    upstream = world.upstream(own_addresses=["127.100.0.1/30", "fd6e:6272::1/64"])
    assert upstream.nameservers == []
    with pytest.raises(UpstreamError, match="no nameserver is configured"):
        await upstream.ask(ask())
    assert not server.queries
    assert caplog.text.count("not asked (a loop)") == 2  # said once for each, not once a question


async def test_hosts_come_first(world: Any) -> None:
    server = await world.nameserver()
    world.hosts.write_text("10.1.2.3 db.corp.example db\nfd00::3 db.corp.example\n10.9.9.9 v4only\n")
    upstream = world.upstream()
    for query, expected in (
        (ask("DB.corp.example"), ["10.1.2.3"]), (ask("db.corp.example", "AAAA"), ["fd00::3"]),
        (ask("db"), ["10.1.2.3"]), (ask("v4only", "AAAA"), []),
        (ask("3.2.1.10.in-addr.arpa", "PTR"), ["db.corp.example."]),
        (ask(ipaddress.ip_address("fd00::3").reverse_pointer, "PTR"), ["db.corp.example."]),
    ):
        answer, source = await upstream.ask(query)
        assert (addresses(answer, query), source, answer.rcode) == (expected, "hosts", 0)
    assert not server.queries
    await upstream.ask(ask("db.corp.example", "MX"))  # of other types the hosts file knows nothing
    assert len(server.queries) == 1


async def test_changed_files_are_used_by_the_next_question(world: Any) -> None:
    first, second = await world.nameserver(1), await world.nameserver(2)
    world.use(first.address)
    upstream = world.upstream()
    await upstream.ask(ask())
    world.use(second.address)
    world.hosts.write_text("10.1.2.3 new.example\n")
    upstream.generation()  # which the service looks at with each question
    _, source = await upstream.ask(ask())
    assert source == second.address
    assert (await upstream.ask(ask("new.example")))[1] == "hosts"


async def test_without_nameservers_the_system_is_asked(world: Any) -> None:
    world.name_service.answers = lambda query: answer_addresses(query, [ipaddress.ip_address("10.5.5.5")])
    answer, source = await world.upstream().ask(ask())
    assert (addresses(answer), source) == (["10.5.5.5"], "system")
    with pytest.raises(UpstreamError):  # of MX the system's name service knows nothing
        await world.upstream().ask(ask(rtype="MX"))


async def test_silent_nameservers_and_the_system_knows(world: Any) -> None:
    (await world.nameserver()).behave = silent
    world.name_service.answers = lambda query: answer_addresses(query, [ipaddress.ip_address("10.5.5.5")])
    _, source = await world.upstream().ask(ask())
    assert source == "system"


@pytest.mark.parametrize(("name", "asked"), [("printer", 1), ("printer.local", 1), ("printer.example", 0)])
async def test_the_system_is_asked_for_denied_names_that_neighbours_have(world: Any, name: str, asked: int) -> None:
    (await world.nameserver()).behave = refuse(3)
    answer, source = await world.upstream().ask(ask(name))
    assert (answer.rcode, source) == (3, "127.100.0.1")
    world.name_service.answers = answer_no_name
    assert (await world.upstream().ask(ask(name)))[1] == "127.100.0.1"
    world.name_service.answers = lambda query: answer_addresses(query, [ipaddress.ip_address("10.5.5.5")])
    assert (await world.upstream().ask(ask(name)))[1] == ("system" if asked else "127.100.0.1")
    assert len(world.name_service.asked) == 3 * asked


async def test_sockets_are_closed_whatever_happens(world: Any) -> None:
    first, second = await world.nameserver(1), await world.nameserver(2)
    first.behave = silent
    upstream = world.upstream(attempt_timeout=0.05)
    before = _descriptors()
    await upstream.ask(ask())
    second.behave = silent
    for _ in range(3):
        with pytest.raises(UpstreamError):
            await upstream.ask(ask(rtype="TXT"))
    task = asyncio.ensure_future(upstream.ask(ask()))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert _descriptors() == before


def _descriptors() -> int:
    import os

    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    "name", ["127.1", "1", "0x7f000001", "2130706433", "10.0.0.0x1", "-n.example", "a b.example", "ä.example"]
)
def test_names_that_getaddrinfo_takes_for_addresses_or_cannot_take_never_reach_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("asked"))
    record = dnslib.DNSRecord.question("x")
    record.q.qname = dnslib.DNSLabel([part.encode() for part in name.split(".")])
    assert NameService().look_up(parse_query(bytes(record.pack()))) is None


def test_the_name_service_maps_what_getaddrinfo_says(monkeypatch: pytest.MonkeyPatch) -> None:
    service = NameService()
    found = [(2, 2, 17, "", (address, 0)) for address in ("10.0.0.1", "127.0.1.1", "fe80::1%eth0")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    four, six = ask("laptop"), ask("laptop", "AAAA")
    answer, nodata = service.look_up(four), service.look_up(six)
    assert answer is not None
    assert addresses(answer) == ["10.0.0.1"]
    assert nodata is not None
    assert (nodata.rcode, nodata.answers) == (0, 0)  # the name exists

    def fail(code: int) -> Any:
        def getaddrinfo(*_: Any, **__: Any) -> None:
            raise socket.gaierror(code, "")

        return getaddrinfo

    monkeypatch.setattr(socket, "getaddrinfo", fail(socket.EAI_NONAME))
    denied = service.look_up(four)
    assert denied is not None
    assert denied.rcode == NXDOMAIN
    monkeypatch.setattr(socket, "getaddrinfo", fail(socket.EAI_AGAIN))
    assert service.look_up(four) is None


def test_names_of_this_machines_loopback_mean_nothing_over_there() -> None:
    answer = NameService().look_up(ask("localhost"))
    assert answer is not None
    assert answer.rcode == NXDOMAIN


async def test_a_hanging_name_service_takes_no_more_than_its_threads() -> None:
    import threading

    class Hanging(NameService):
        def look_up(self, query: Query) -> Answer | None:
            release.wait(5)
            return None

    release = threading.Event()
    service = Hanging(threads=2)
    hanging = [asyncio.ensure_future(service.ask(ask())) for _ in range(2)]
    await asyncio.sleep(0)
    assert await service.ask(ask()) is None  # at once
    release.set()
    assert await asyncio.gather(*hanging) == [None, None]
    assert service._free == 2


async def test_questions_share_a_number_of_sockets(world: Any) -> None:
    """Beyond it a question is refused at once, and asked again later it is answered."""
    server = await world.nameserver()
    server.behave = silent
    upstream = world.upstream(max_sockets=2, total_timeout=0.3)
    waiting = [asyncio.ensure_future(upstream.ask(ask(f"h{number}.example", "TXT"))) for number in range(2)]
    await asyncio.sleep(0.02)
    assert upstream.sockets.open == 2
    begun = time.monotonic()
    with pytest.raises(UpstreamError):
        await upstream.ask(ask("third.example", "TXT"))
    assert time.monotonic() - begun < 0.1
    assert upstream.counters.no_socket >= 1
    for each in waiting:
        with pytest.raises(UpstreamError):
            await each
    assert upstream.sockets.open == 0
    server.behave = lambda query: [reply(query)]
    answer, _ = await upstream.ask(ask("third.example"))
    assert addresses(answer) == ["192.0.2.1"]
    assert upstream.sockets.open == 0


async def test_a_question_over_tcp_gives_its_socket_back(world: Any) -> None:
    server = await world.nameserver()
    server.behave = lambda query: [reply(query, tc=1)]
    server.behave_tcp = lambda query: [reply(query)]
    upstream = world.upstream(max_sockets=2)
    answer, _ = await upstream.ask(ask())
    assert addresses(answer) == ["192.0.2.1"]
    assert upstream.sockets.open == 0


async def test_a_question_that_no_socket_can_be_opened_for(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.nameserver()
    upstream = world.upstream()

    def exhausted(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("netbridge.bridge.dns.exchange.socket.socket", exhausted)
    with pytest.raises(UpstreamError):
        await upstream.ask(ask(rtype="TXT"))
    assert upstream.counters.no_socket >= 1
    assert upstream.sockets.open == 0


@pytest.mark.parametrize(("hosts", "server", "asked"), [
    ("hosts: files dns", "127.100.0.1", 0),
    ("hosts: files mdns4_minimal [NOTFOUND=return] dns myhostname", "127.100.0.1", 0),
    ("# hosts: files ldap\npasswd: files ldap", "127.100.0.1", 0),
    ("hosts: files sss dns", "127.100.0.1", 1),
    ("passwd: files\nhosts:\tmymachines resolve [!UNAVAIL=return] files dns # usual", "127.100.0.1", 1),
    ("hosts: files mdns4 dns", "127.100.0.1", 1),
])
async def test_other_sources_of_names_are_asked_for_what_nameservers_deny(
    world: Any, hosts: str, server: str, asked: int,
) -> None:
    nameserver = await world.nameserver()
    nameserver.behave = refuse(NXDOMAIN)
    world.nsswitch.write_text(hosts)
    world.name_service.answers = lambda query: answer_addresses(query, [ipaddress.ip_address("10.5.5.5")])
    answer, source = await world.upstream().ask(ask("wiki.split.example"))
    assert len(world.name_service.asked) == asked
    assert (source, addresses(answer)) == (("system", ["10.5.5.5"]) if asked else (server, []))


async def test_a_changed_nsswitch_conf_is_seen(world: Any) -> None:
    nameserver = await world.nameserver()
    nameserver.behave = refuse(NXDOMAIN)
    world.name_service.answers = lambda query: answer_addresses(query, [ipaddress.ip_address("10.5.5.5")])
    upstream = world.upstream()
    before = upstream.generation()
    assert (await upstream.ask(ask("wiki.split.example")))[1] == "127.100.0.1"
    world.nsswitch.write_text("hosts: files sss dns")
    world.now += 1
    assert upstream.generation() > before, "the cache must not keep the old answer"
    assert (await upstream.ask(ask("wiki.split.example")))[1] == "system"
