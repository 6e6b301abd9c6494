"""Where nameservers cannot answer, getaddrinfo and getnameinfo are asked: for A, AAAA and PTR, and for nothing else."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import dnslib
import pytest

from netbridge.bridge.dns.answer import Answer
from netbridge.bridge.dns.message import PTR, Query, parse_query
from netbridge.bridge.dns.nameserver import UpstreamError
from netbridge.bridge.dns.nss import NameService
from netbridge.bridge.dns.synthesis import answer_addresses, answer_names
from tests.bridge.dns.conftest import answer_a

KNOWN = {"A": ("host.example", "10.1.2.3"), "AAAA": ("host.example", "fd00::3"),
         "PTR": ("3.2.1.10.in-addr.arpa", "host.example.")}  # fmt: skip


def query(name: str, rtype: str) -> Query:
    return parse_query(bytes(dnslib.DNSRecord.question(name, rtype).pack()))


def said(answer: Answer, asked: Query) -> list[str]:
    return [str(each.rdata) for each in dnslib.DNSRecord.parse(answer.render(asked)).rr]


def system(asked: Query) -> Answer:
    if asked.rtype == PTR:
        return answer_names(asked, ["host.example"])
    return answer_addresses(asked, [ipaddress.ip_address("10.1.2.3"), ipaddress.ip_address("fd00::3")])


@pytest.mark.parametrize("rtype", KNOWN)
@pytest.mark.parametrize("trouble", ["SERVFAIL", "REFUSED", "silence", "closed port", "no nameserver"])
async def test_where_no_nameserver_can_answer_the_name_service_does(world: Any, trouble: str, rtype: str) -> None:
    server = await world.nameserver()
    rcode = {"SERVFAIL": 2, "REFUSED": 5}.get(trouble)
    server.behave = lambda message: [answer_a(message, rcode=rcode)] if rcode else []
    if trouble == "no nameserver":
        world.use()
    if trouble == "closed port":
        world.use("127.100.0.9")
    world.name_service.answers = system
    asked = query(KNOWN[rtype][0], rtype)
    answer, source = await world.upstream().ask(asked)
    assert (said(answer, asked), source) == ([KNOWN[rtype][1]], "system")


async def test_of_other_types_it_knows_nothing_and_is_not_asked(world: Any) -> None:
    world.name_service.answers = system
    for rtype in ("MX", "TXT", "SRV"):
        with pytest.raises(UpstreamError):
            await world.upstream().ask(query("host.example", rtype))
    assert world.name_service.asked == []


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (("db.corp.example", "0"), ["db.corp.example."]),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), []),
        (socket.gaierror(socket.EAI_AGAIN, "later"), None),
        (OSError(5, "broken"), None),
    ],
    ids=["known", "unknown", "later", "broken"],
)
@pytest.mark.parametrize("address", ["10.1.2.3", "fd00::3"])
def test_what_getnameinfo_says(
    monkeypatch: pytest.MonkeyPatch, address: str, outcome: Any, expected: list[str] | None
) -> None:
    def getnameinfo(asked: tuple[str, int], flags: int) -> Any:
        assert asked == (address, 0)
        assert flags == socket.NI_NAMEREQD  # a name, or none: never the address itself
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    monkeypatch.setattr(socket, "getnameinfo", getnameinfo)
    asked = query(ipaddress.ip_address(address).reverse_pointer, "PTR")
    answer = NameService().look_up(asked)
    assert (None if answer is None else said(answer, asked)) == expected
    assert answer is None or answer.rcode == (0 if expected else 3)
