"""Questions for people: answers made readable, names of addresses, and what hostile answers can do (nothing)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from dnslib import RR, DNSRecord

from netbridge.bridge.dns.answer import Answer, parse_answer
from netbridge.bridge.dns.message import Query, parse_query
from netbridge.bridge.dns.questions import NAMES, REMEMBERED, Questions, readable


def asked(name: str = "db.corp.internal", rtype: str = "A") -> Query:
    return parse_query(DNSRecord.question(name, rtype).pack())


def answered(query: Query, *zone: str, rcode: int = 0) -> Answer:
    """The answer whose records are these lines of a zone file."""
    record = DNSRecord.parse(b"\0\0\1\0\0\1\0\0\0\0\0\0" + query.question).reply()
    record.header.id, record.header.rcode = query.id, rcode
    for line in zone:
        record.add_answer(*RR.fromZone(line))
    return parse_answer(record.pack(), query.id, query)


@pytest.mark.parametrize(("rtype", "zone", "said"), [
    ("A", ["db.corp.internal 60 A 10.0.0.1"], ["10.0.0.1"]),
    ("AAAA", ["db.corp.internal 60 AAAA fd00::1"], ["fd00::1"]),
    ("A", ["db.corp.internal 60 CNAME x.corp.internal", "x.corp.internal 30 A 10.0.0.2"],
     ["CNAME x.corp.internal", "10.0.0.2"]),
    ("MX", ["db.corp.internal 60 MX 10 mail.corp.internal"], ["MX mail.corp.internal"]),
    ("SRV", ["db.corp.internal 60 SRV 1 2 3 host.corp.internal"], ["SRV host.corp.internal"]),
    ("TXT", ['db.corp.internal 60 TXT "hello there"'], ["TXT hello there"]),
    ("CAA", ['db.corp.internal 60 CAA 0 issue "ca.example"'], ["CAA"]),
])
def test_records_are_readable(rtype: str, zone: list[str], said: list[str]) -> None:
    query = asked(rtype=rtype)
    assert readable(query, answered(query, *zone)) == (said, min(int(line.split()[1]) for line in zone))


def test_many_records_are_counted() -> None:
    query = asked()
    shown, _ = readable(query, answered(query, *[f"db.corp.internal 9 A 10.0.0.{number}" for number in range(1, 10)]))
    assert shown == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "and 5 more"]


def test_the_ring_tells_what_is_new_and_stays_small() -> None:
    questions, query = Questions(), asked()
    answer = answered(query, "db.corp.internal 60 A 10.0.0.1")
    for _ in range(REMEMBERED + 10):
        questions.told(query, answer, 0, 0.5, "192.0.2.53", 0)
    questions.told(query, answer, 0, 0.0, "cache", 20)
    questions.told(query, None, 2, 0.1, "none", 0)
    hit, failed = questions.since(REMEMBERED + 10, 100)
    assert (hit["name"], hit["type"], hit["answer"], hit["ttl"], hit["source"]) == (
        "db.corp.internal", "A", "10.0.0.1", 40, "cache",
    )
    assert (failed["rcode"], failed["answer"], failed["number"]) == ("SERVFAIL", "", REMEMBERED + 11)
    assert len(questions.since(0, 10_000)) == REMEMBERED
    assert [one["number"] for one in questions.since(0, 2)] == [REMEMBERED + 10, REMEMBERED + 11]
    assert questions.total == REMEMBERED + 12


def test_an_address_has_the_name_it_was_last_the_answer_to() -> None:
    questions = Questions()
    for name in ("old.example", "new.example"):
        query = asked(name)
        questions.told(query, answered(query, f"{name} 60 A 10.0.0.1", f"{name} 60 A 10.0.0.2"), 0, 0.0, "system", 0)
    assert questions.name(bytes((10, 0, 0, 2))) == "new.example"
    assert questions.name(bytes((10, 0, 0, 3))) == ""
    for number in range(NAMES):
        query = asked("many.example")
        answer = answered(query, f"many.example 60 A 11.0.{number >> 8}.{number & 255}") if number < 3 else None
        questions.told(query, answer, 0, 0.0, "system", 0)
    assert len(questions._names) <= NAMES


def test_whatever_an_answer_holds_it_is_only_text() -> None:
    """Answers whose bytes were changed at random, as far as they pass the service's own check."""
    chance = random.Random(7)
    query = asked(rtype="MX")
    good = DNSRecord.parse(b"\0\0\1\0\0\1\0\0\0\0\0\0" + query.question).reply()
    good.header.id = query.id
    good.add_answer(*RR.fromZone("db.corp.internal 60 MX 10 mail.db.corp.internal"))
    good.add_answer(*RR.fromZone("db.corp.internal 60 CNAME x.corp.internal"))
    whole = good.pack()
    passed = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(12 + len(query.question), len(data))] = chance.randrange(256)
        try:
            answer: Any = parse_answer(bytes(data), query.id, query)
        except ValueError:
            continue
        passed += 1
        shown, ttl = readable(query, answer)
        assert all(len(text) < 1100 for text in shown)
        assert ttl >= 0
    assert passed > 100
