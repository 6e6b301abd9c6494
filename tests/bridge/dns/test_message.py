"""Queries: what is read from them, and what is wrong with wrong ones."""

from __future__ import annotations

import struct

import dnslib
import pytest

from netbridge.bridge.dns.message import (
    BADVERS,
    FORMERR,
    NOTIMP,
    REFUSED,
    MessageError,
    bare_failure,
    failure,
    name_text,
    parse_query,
    skip_name,
    type_text,
)


def question(name: str = "Db.Corp.example", rtype: str = "A", id_: int = 0x1234) -> dnslib.DNSRecord:
    record = dnslib.DNSRecord.question(name, rtype)
    record.header.id = id_
    return record


def with_opt(
    record: dnslib.DNSRecord, size: int = 4096, flags: str = "", version: int = 0, options: bytes = b""
) -> bytes:
    record.header.ar = 0
    raw = bytearray(record.pack())
    struct.pack_into(">H", raw, 10, 1)
    ttl = version << 16 | (0x8000 if flags == "do" else 0)
    return bytes(raw) + struct.pack(">BHHIH", 0, 41, size, ttl, len(options)) + options


def test_a_plain_query() -> None:
    query = parse_query(bytes(question().pack()))
    assert query.id == 0x1234
    assert name_text(query.name) == "db.corp.example"
    assert query.question == b"\x02Db\x04Corp\x07example\0\0\x01\0\x01"
    assert (query.rtype, query.rclass, query.edns_size, query.limit) == (1, 1, 0, 512)


@pytest.mark.parametrize(
    ("size", "limit"), [(0, 512), (511, 512), (512, 512), (1200, 1200), (1232, 1232), (4096, 1232)]
)
def test_the_size_a_client_takes_is_between_512_and_1232(size: int, limit: int) -> None:
    assert parse_query(with_opt(question(), size)).limit == limit


def test_keys_differ_where_answers_do() -> None:
    plain = bytes(question().pack())
    other_case = bytes(question("dB.cORP.EXAMPLE", id_=7).pack())
    assert parse_query(plain).key == parse_query(other_case).key
    no_rd = bytearray(plain)
    no_rd[2] &= 0xFE
    keys = {
        parse_query(message).key
        for message in (
            plain, bytes(no_rd), with_opt(question()), with_opt(question(), flags="do"),
            bytes(question(rtype="AAAA").pack()), bytes(question("db.corp.example2").pack()),
            with_opt(question(), options=b"\0\3\0\0"),
        )
    }
    assert len(keys) == 7


def test_types_whose_number_is_an_upper_case_letter_keep_it() -> None:
    """HTTPS is type 65, 'A': lowering the whole question would ask for type 97."""
    assert parse_query(bytes(question(rtype="HTTPS").pack())).key != parse_query(
        bytes(question(rtype="HTTPS").pack()).replace(b"\0\x41\0\x01", b"\0\x61\0\x01")
    ).key


def test_cookies_and_padding_stay_on_their_hop() -> None:
    cookie = struct.pack(">HH", 10, 8) + b"12345678"
    subnet = struct.pack(">HH", 8, 4) + b"\0\1\0\0"
    padding = struct.pack(">HH", 12, 3) + b"\0\0\0"
    query = parse_query(with_opt(question(), options=cookie + subnet + padding))
    assert query.options == subnet
    assert parse_query(with_opt(question(), options=cookie)).key == parse_query(with_opt(question())).key


@pytest.mark.parametrize(
    ("message", "rcode"),
    [
        (b"", None),
        (b"\0" * 11, None),
        (b"\0\1\x80\0\0\1\0\0\0\0\0\0\0\0\1\0\1", None),  # QR set
        (b"\0\1\x28\0\0\1\0\0\0\0\0\0\0\0\1\0\1", NOTIMP),  # UPDATE
        (b"\0\1\x10\0\0\0\0\0\0\0\0\0", NOTIMP),  # STATUS
        (b"\0\1\1\0\0\0\0\0\0\0\0\0", FORMERR),  # no question
        (b"\0\1\1\0\0\2\0\0\0\0\0\0\0\0\1\0\1\0\0\1\0\1", FORMERR),  # two questions
        (b"\0\1\1\0\0\1\0\1\0\0\0\0\0\0\1\0\1\0\0\1\0\1\0\0\0\0\0\0", FORMERR),  # an answer in a query
        (b"\0\1\1\0\0\1\0\0\0\0\0\0", FORMERR),  # question missing
        (b"\0\1\1\0\0\1\0\0\0\0\0\0\3ab", FORMERR),  # name cut off
        (b"\0\1\1\0\0\1\0\0\0\0\0\0\0\0\1\0", FORMERR),  # class cut off
        (b"\0\1\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", FORMERR),  # a pointer to itself
        (b"\0\1\1\0\0\1\0\0\0\0\0\0\x40\0\0\1\0\1", FORMERR),  # a label kind nobody uses
        (b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\x3f" + b"a" * 63 + (b"\x3f" + b"a" * 63) * 3 + b"\0\0\1\0\1", FORMERR),
        (b"\0\1\1\0\0\1\0\0\0\0\0\0\0\0\1\0\1!", FORMERR),  # trailing bytes
        (b"\0\1\1\0\0\1\0\0\0\0\0\1\0\0\1\0\1", FORMERR),  # the additional record is missing
        (b"\0\1\1\0\0\1\0\0\0\0\xff\xff\0\0\1\0\1", FORMERR),  # 65,535 additional records
        (b"\0\1\1\0\0\1\0\0\0\0\0\0\0\0\xfc\0\1", REFUSED),  # AXFR
        (b"\0\1\1\0\0\1\0\0\0\0\0\0\0\0\xfb\0\1", REFUSED),  # IXFR
    ],
)
def test_wrong_messages(message: bytes, rcode: int | None) -> None:
    with pytest.raises(MessageError) as caught:
        parse_query(message)
    assert caught.value.rcode == rcode


@pytest.mark.parametrize(
    ("message", "rcode"),
    [
        (with_opt(question(), version=1), BADVERS),
        (with_opt(question(), options=b"\0\3\0\1"), FORMERR),  # an option longer than the record
        (with_opt(question(), options=b"\0"), FORMERR),
        (with_opt(question())[:-1], FORMERR),
        (with_opt(question())[:10] + b"\0\2" + with_opt(question())[12:] + with_opt(question())[-11:], FORMERR),
    ],
)
def test_wrong_edns(message: bytes, rcode: int) -> None:
    with pytest.raises(MessageError) as caught:
        parse_query(message)
    assert caught.value.rcode == rcode
    assert caught.value.query is not None  # so the answer can repeat the question


def test_an_unknown_additional_record_is_stepped_over() -> None:
    record = question()
    record.add_ar(dnslib.RR("key.example", 250, 255, 0, dnslib.RD(b"x" * 20)))
    assert parse_query(bytes(record.pack())).edns_size == 0


def test_failures_read_back() -> None:
    query = parse_query(with_opt(question(), flags="do"))
    answer = dnslib.DNSRecord.parse(failure(query, BADVERS))
    assert answer.header.id == 0x1234
    assert answer.header.qr
    assert str(answer.q.qname) == "Db.Corp.example."
    opt = answer.ar[0]
    assert opt.rtype == 41
    assert opt.rclass == 1232
    assert opt.ttl >> 24 == 1  # BADVERS is 16: its upper bits stand in the OPT record
    assert opt.ttl & 0x8000
    bare = bare_failure(b"\0\7\x29\0\0\0\0\0\0\0\0\0", NOTIMP)
    assert bare == b"\0\7\xa9\x84\0\0\0\0\0\0\0\0"


def test_names_in_text() -> None:
    assert name_text(b"\0") == "."
    assert name_text(b"\3a.b\2\0c\0") == r"a\.b.\000c"
    assert name_text(b"\2\xc3\xa4\0") == r"\195\164"
    assert type_text(33) == "SRV"
    assert type_text(65400) == "TYPE65400"


def test_skip_name_steps_over_pointers_without_following_them() -> None:
    assert skip_name(b"\1a\xc0\0\xff", 0) == 4
    assert skip_name(b"\0", 0) == 1
    for broken in (b"", b"\5ab", b"\xc0", b"\x80a\0"):
        with pytest.raises(MessageError):
            skip_name(broken, 0)
