"""Nameservers for single domains, as macOS has them: who is asked, where, for how long, and who is not."""

from __future__ import annotations

import ipaddress
from typing import Any

import dnslib
import pytest

from netbridge.bridge.dns.message import Query, parse_query
from netbridge.bridge.dns.nameserver import UpstreamError
from netbridge.bridge.dns.synthesis import answer_addresses
from netbridge.bridge.dns.systemnames import DomainResolver, SystemNames
from tests.bridge.dns.conftest import answer_a


def query(name: str) -> Query:
    return parse_query(bytes(dnslib.DNSRecord.question(name).pack()))


def domain(world: Any, number: int, *, name: str = "corp.example", **options: Any) -> SystemNames:
    resolver = DomainResolver(name, (f"127.100.0.{number}",), port=options.pop("port", world.port), **options)
    return SystemNames((), (name,), (resolver,))


async def test_a_question_below_a_domain_with_its_own_resolver_is_asked_there(world: Any) -> None:
    usual, corps = await world.nameserver(1), await world.nameserver(2)
    world.use(usual.address)
    upstream = world.upstream()
    upstream.learn(domain(world, 2))
    for name, asked in (("x.corp.example", corps), ("corp.example", corps), ("corp.example.org", usual)):
        assert (await upstream.ask(query(name)))[1] == asked.address
    upstream.learn(SystemNames())
    assert (await upstream.ask(query("x.corp.example")))[1] == usual.address


async def test_its_port_and_its_time(world: Any) -> None:
    usual, corps = await world.nameserver(1), await world.nameserver(2)
    corps.behave = lambda message: []
    world.use(usual.address)
    upstream = world.upstream(total_timeout=2, attempt_timeout=1)
    upstream.learn(domain(world, 2, timeout=0.05))
    with pytest.raises(UpstreamError, match="no answer within 2 s"):
        await upstream.ask(query("x.corp.example"))
    assert len(corps.queries) == 3  # a second each, one after the other, would be two
    assert usual.queries == []  # a private name is nobody else's business
    upstream.learn(domain(world, 2, port=world.port - 1))
    with pytest.raises(UpstreamError, match="no nameserver could answer"):
        await upstream.ask(query("x.corp.example"))
    assert upstream.counters.refused >= 1


async def test_where_it_cannot_answer_the_name_service_is_asked(world: Any) -> None:
    corps = await world.nameserver(2)
    corps.behave = lambda message: [answer_a(message, rcode=2)]
    world.use()
    world.name_service.answers = lambda asked: answer_addresses(asked, [ipaddress.ip_address("10.1.2.3")])
    upstream = world.upstream()
    upstream.learn(domain(world, 2))
    assert (await upstream.ask(query("x.corp.example")))[1] == "system"


async def test_the_bridges_own_addresses_are_no_resolver_of_a_domain(world: Any) -> None:
    await world.nameserver(2)
    upstream = world.upstream(own_addresses=["127.100.0.2/30"])
    upstream.learn(domain(world, 2))
    with pytest.raises(UpstreamError, match="no nameserver is configured"):
        await upstream.ask(query("x.corp.example"))


async def test_answers_of_the_resolver_before_are_forgotten(world: Any) -> None:
    usual, corps = await world.nameserver(1), await world.nameserver(2)
    corps.behave = lambda message: [answer_a(message, "192.0.2.2")]
    world.use(usual.address)
    service = await world.service()
    message = bytes(dnslib.DNSRecord.question("x.corp.example").pack())

    async def address() -> str:
        return str(dnslib.DNSRecord.parse(await world.ask(message)).rr[0].rdata)

    assert [await address(), await address()] == ["192.0.2.1", "192.0.2.1"]
    service.upstream.learn(domain(world, 2))
    assert await address() == "192.0.2.2"
    service.upstream.network_changed()  # another Wi-Fi: the same question is asked again
    assert await address() == "192.0.2.2"
    assert len(corps.queries) == 2
