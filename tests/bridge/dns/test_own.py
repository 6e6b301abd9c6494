"""The bridge's own names: answered here, asked nowhere."""

from __future__ import annotations

from ipaddress import ip_address

import dnslib
import pytest

from netbridge.bridge.dns.message import parse_query
from netbridge.bridge.dns.own import OwnNames

NAMES = OwnNames({"host.netbridge.internal": [ip_address("198.18.0.4"), ip_address("fd6e:6272::4")]})


def answer(name: str, kind: str, names: OwnNames = NAMES) -> dnslib.DNSRecord | None:
    query = parse_query(bytes(dnslib.DNSRecord.question(name, kind).pack()))
    found = names.answer(query)
    return None if found is None else dnslib.DNSRecord.parse(found.render(query, 0, 1232))


@pytest.mark.parametrize("name", ["host.netbridge.internal", "HOST.Netbridge.INTERNAL."])
def test_addresses(name: str) -> None:
    for kind, expected in (("A", "198.18.0.4"), ("AAAA", "fd6e:6272::4")):
        said = answer(name, kind)
        assert said is not None
        assert [str(record.rdata) for record in said.rr] == [expected]


@pytest.mark.parametrize(("name", "kind"), [
    ("host.netbridge.internal", "TXT"), ("host.netbridge.internal", "ANY"), ("netbridge.internal", "A"),
])
def test_names_without_such_a_record(name: str, kind: str) -> None:
    said = answer(name, kind)
    assert said is not None
    assert (said.header.rcode, said.rr) == (0, [])


def test_a_family_that_has_no_address_is_no_lacking_name() -> None:
    said = answer("host.netbridge.internal", "AAAA", OwnNames({"host.netbridge.internal": [ip_address("198.18.0.4")]}))
    assert said is not None
    assert (said.header.rcode, said.rr) == (0, [])


@pytest.mark.parametrize("name", ["other.netbridge.internal", "a.host.netbridge.internal"])
def test_other_names_of_the_zone_do_not_exist(name: str) -> None:
    for names in (NAMES, OwnNames()):
        said = answer(name, "A", names)
        assert said is not None
        assert said.header.rcode == 3


def test_without_an_alias_its_name_does_not_exist() -> None:
    said = answer("host.netbridge.internal", "A", OwnNames())
    assert said is not None
    assert said.header.rcode == 3


@pytest.mark.parametrize("name", [
    "www.corp.test", "xnetbridge.internal", "host.xnetbridge.internal", "internal", "netbridge.internal.corp.test",
])
def test_other_zones_are_none_of_ours(name: str) -> None:
    assert answer(name, "A") is None


def test_a_label_that_only_ends_like_the_zone() -> None:
    """One label of the bytes `x` 9 `netbridge`: on the wire its end looks like ours."""
    label = b"x\x09netbridge"
    question = bytes((len(label),)) + label + b"\x08internal\0\0\1\0\1"
    query = parse_query(b"\0\1\1\0\0\1\0\0\0\0\0\0" + question)
    assert NAMES.answer(query) is None


def test_reverse() -> None:
    said = answer("4.0.18.198.in-addr.arpa", "PTR")
    assert said is not None
    assert str(said.rr[0].rdata) == "host.netbridge.internal."
    assert answer("5.0.18.198.in-addr.arpa", "PTR") is None
    assert answer("4.0.18.198.in-addr.arpa", "PTR", OwnNames()) is None
