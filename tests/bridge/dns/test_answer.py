"""Answers: what is accepted as one, how long it lives, how it ages and is cut."""

from __future__ import annotations

import struct

import dnslib
import pytest
from dnslib import QTYPE, RR

from netbridge.bridge.dns.answer import MAX_LIFETIME, MAX_NEGATIVE_LIFETIME, Answer, parse_answer
from netbridge.bridge.dns.message import MessageError, Query, parse_query

SOA = "example. 3600 IN SOA ns.example. admin.example. 1 2 3 4 {minimum}"


def ask(name: str = "host.example", rtype: str = "A", *, edns: bool = False, id_: int = 1) -> Query:
    record = dnslib.DNSRecord.question(name, rtype)
    record.header.id = id_
    if edns:
        record.add_ar(dnslib.EDNS0(udp_len=4096))
    return parse_query(bytes(record.pack()))


def reply(
    name: str = "host.example", rtype: str = "A", *, answers: str = "", authorities: str = "", rcode: int = 0
) -> dnslib.DNSRecord:
    record = dnslib.DNSRecord.question(name, rtype).reply()
    record.header.id = 99
    record.header.rcode = rcode
    if answers:
        record.add_answer(*RR.fromZone(answers))
    if authorities:
        record.add_auth(*RR.fromZone(authorities))
    return record


def parse(record: dnslib.DNSRecord, query: Query | None = None) -> Answer:
    return parse_answer(bytes(record.pack()), 99, query or ask())


def test_ttls_are_counted_down_and_never_below_zero() -> None:
    answer = parse(reply(answers="host.example 60 IN CNAME x.example\nx.example 5 IN A 192.0.2.1"))
    for age, ttls in ((0, [60, 5]), (3, [57, 2]), (7, [53, 0]), (3, [57, 2])):
        message = dnslib.DNSRecord.parse(answer.render(ask(), age))
        assert [each.ttl for each in message.rr] == ttls
        assert [str(each.rdata) for each in message.rr] == ["x.example.", "192.0.2.1"]
    assert answer.lifetime == 5


def test_the_client_gets_its_own_id_and_spelling() -> None:
    answer = parse(reply(answers="host.example 60 IN A 192.0.2.1"))
    message = answer.render(ask("HoSt.eXample", id_=0xBEEF))
    assert message[:2] == b"\xbe\xef"
    assert b"\4HoSt\7eXample\0" in message
    assert str(dnslib.DNSRecord.parse(message).rr[0].rname) == "HoSt.eXample."


@pytest.mark.parametrize(
    ("record", "lifetime"),
    [
        (reply(answers="host.example 60 IN A 192.0.2.1"), 60),
        (reply(answers="host.example 0 IN A 192.0.2.1"), 0),
        (reply(answers="host.example 99999 IN A 192.0.2.1"), MAX_LIFETIME),
        (reply(authorities=SOA.format(minimum=20)), 20),  # NODATA
        (reply(authorities=SOA.format(minimum=600)), MAX_NEGATIVE_LIFETIME),
        (reply(rcode=3, authorities=SOA.format(minimum=7)), 7),
        (reply(rcode=3, authorities=SOA.format(minimum=7).replace("3600", "4")), 4),
        (reply(rcode=3), 0),  # no SOA: nobody said for how long (RFC 2308 section 5)
        (reply(), 0),
        (reply(rcode=2), 0),
        (reply(rcode=5), 0),
        (reply(answers="host.example 600 IN CNAME y.example", authorities=SOA.format(minimum=9)), 9),
    ],
)
def test_how_long_it_may_be_kept(record: dnslib.DNSRecord, lifetime: int) -> None:
    assert parse(record).lifetime == lifetime


def test_a_ttl_with_the_top_bit_means_zero() -> None:
    raw = bytearray(reply(answers="host.example 1 IN A 192.0.2.1").pack())
    struct.pack_into(">I", raw, len(raw) - 10, 0x80000001)
    assert parse_answer(bytes(raw), 99, ask()).lifetime == 0


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        bytes(reply().pack())[:11],
        b"\0\1" + bytes(reply().pack())[2:],  # another id
        bytes(dnslib.DNSRecord.question("host.example").pack()),  # no response
        bytes(reply("other.example").pack()),
        bytes(reply(rtype="AAAA").pack()),
        bytes(reply(answers="host.example 60 IN A 192.0.2.1").pack())[:-1],
        bytes(reply(answers="host.example 60 IN A 192.0.2.1").pack())[:-8],
        bytes(reply().pack())[:6] + b"\0\1\0\0\0\0" + bytes(reply().pack())[12:],  # an answer that is not there
        b"\0\x63\x80\0\0\0\0\0\0\0\0\0",  # NOERROR without a question
        b"\0\x63\x80\0\0\0\0\1\0\0\0\0" + b"\0\0\1\0\1\0\0\0\1\0\4abcd",
    ],
    ids=range(11),  # the questions' ids are random, and names of tests are not
)
def test_what_is_no_answer_to_our_question(wrong: bytes) -> None:
    with pytest.raises(MessageError):
        parse_answer(wrong, 99, ask())


def test_a_refusal_without_question_is_one() -> None:
    assert parse_answer(b"\0\x63\x80\1\0\0\0\0\0\0\0\0", 99, ask()).rcode == 1


def test_types_nobody_knows_stay_untouched() -> None:
    data = bytes(range(256)) * 3
    record = dnslib.DNSRecord.question("host.example", "A").reply()
    record.header.id = 99
    record.q.qtype = 65400
    record.add_answer(RR("host.example", 65400, ttl=33, rdata=dnslib.RD(data)))
    query = ask()
    raw = bytearray(ask().question)
    query = parse_query(b"\0\1\1\0\0\1\0\0\0\0\0\0" + bytes(raw[:-4]) + struct.pack(">HH", 65400, 1))
    assert data in parse_answer(bytes(record.pack()), 99, query).render(query, 5)
    assert QTYPE.forward.get(65400) is None


def test_too_long_for_the_client_is_cut_to_the_tc_bit() -> None:
    answer = parse(reply(answers="\n".join(f"host.example 60 IN A 192.0.2.{n}" for n in range(100))))
    for edns in (False, True):
        query = ask(edns=edns)
        cut = dnslib.DNSRecord.parse(answer.render(query, 0, query.limit))
        assert cut.header.tc
        assert not cut.rr
        assert len(cut.ar) == edns
        assert len(dnslib.DNSRecord.parse(answer.render(query)).rr) == 100


def test_a_client_with_edns_gets_an_opt_record_even_if_the_nameserver_knows_none() -> None:
    answer = parse(reply(answers="host.example 60 IN A 192.0.2.1"))
    assert [each.rtype for each in dnslib.DNSRecord.parse(answer.render(ask(edns=True))).ar] == [41]
    assert not dnslib.DNSRecord.parse(answer.render(ask())).ar


def test_the_opt_record_of_the_nameserver_passes_and_does_not_age() -> None:
    record = reply(answers="host.example 60 IN A 192.0.2.1")
    record.add_ar(dnslib.EDNS0(udp_len=1232, flags="do"))
    message = dnslib.DNSRecord.parse(parse(record).render(ask(edns=True), 30))
    assert message.rr[0].ttl == 30
    assert [(each.rtype, each.ttl) for each in message.ar] == [(41, 0x8000)]


def test_a_message_cut_anywhere_by_the_nameserver_is_known_as_truncated() -> None:
    record = reply(answers="host.example 60 IN A 192.0.2.1")
    record.header.tc = 1
    answer = parse_answer(bytes(record.pack())[:-3], 99, ask())
    assert answer.truncated
    assert answer.lifetime == 0
    assert dnslib.DNSRecord.parse(answer.render(ask())).header.tc
