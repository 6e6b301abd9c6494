"""Whatever bytes come from the codespace or from a nameserver, nothing is raised and nothing is answered wrongly."""

from __future__ import annotations

import struct
from typing import Any

import dnslib
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netbridge.bridge.dns.answer import Answer, parse_answer
from netbridge.bridge.dns.hosts import Hosts
from netbridge.bridge.dns.message import HEADER, MessageError, Query, name_text, parse_query, skip_name, type_text
from netbridge.bridge.dns.resolvconf import parse_resolv_conf
from netbridge.bridge.dns.service import DnsService
from netbridge.bridge.dns.synthesis import host_name, reverse_address
from netbridge.bridge.dns.upstream import Upstream

SEEDS = [
    bytes(dnslib.DNSRecord.question("host.example", "A").pack()),
    bytes(dnslib.DNSRecord(q=dnslib.DNSQuestion("a.b", 65), ar=[dnslib.EDNS0(udp_len=4096, flags="do")]).pack()),
    bytes(dnslib.DNSRecord.question("host.example").reply().pack()),
]


@st.composite
def nearly_messages(draw: st.DrawFn) -> bytes:
    """Good messages with some bytes changed, cut or grown."""
    message = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        message[draw(st.integers(0, len(message) - 1))] = draw(st.integers(0, 255))
    return bytes(message[: draw(st.integers(0, len(message)))] if draw(st.booleans()) else message) + draw(
        st.binary(max_size=30)
    )


anything = st.one_of(st.binary(max_size=600), nearly_messages())


def make_service() -> DnsService:
    service = DnsService(None, [], Upstream(resolv_conf="/nonexistent", hosts="/nonexistent"))  # type: ignore[arg-type]

    def join(query: Query, now: float, deliver: Any) -> None:
        """In place of asking: deliver a failure at once."""
        deliver(query, None)

    service._join = join  # type: ignore[method-assign]
    return service


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(anything)
def test_the_service_takes_any_bytes_and_answers_only_what_was_asked(data: bytes) -> None:
    service = make_service()
    delivered: list[bytes] = []
    answer = service.ask(data, lambda query, got: delivered.append(service.fit(query, got)), None)
    for message in [answer, *delivered]:
        if message:
            _, flags, questions, *_ = HEADER.unpack_from(message)
            assert message[:2] == data[:2]
            assert flags & 0x8000
            assert questions in (0, 1)
            assert len(message) <= len(data) + 23  # nothing to amplify
            if questions:
                end = skip_name(message, 12) + 4
                assert message[12:end] == data[12:end]
    assert bool(answer) + len(delivered) <= 1
    counters = service.counters
    assert counters.dropped + counters.malformed + len(delivered) == 1


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(anything, st.integers(0, 100_000), st.integers(12, 2000))
def test_an_answer_is_refused_or_can_be_given_to_a_client(data: bytes, age: int, limit: int) -> None:
    query = parse_query(SEEDS[0])
    data = data[:2] + bytes([data[2] | 0x80]) + data[3:] if len(data) > 2 else data
    try:
        answer = parse_answer(data, struct.unpack_from(">H", data + b"\0\0")[0], query)
    except MessageError:
        return
    message = answer.render(query, age, limit)
    assert len(message) <= max(limit, 12 + len(query.question))
    assert message[:2] == SEEDS[0][:2]
    assert message[12 : 12 + len(query.question)] == query.question
    again = parse_answer(message, query.id, query)
    assert isinstance(again, Answer)
    assert 0 <= answer.lifetime <= 300


@given(anything)
def test_names_of_any_query_can_be_shown_and_judged(data: bytes) -> None:
    try:
        query = parse_query(data)
    except MessageError:
        return
    assert name_text(query.name).isprintable()
    assert type_text(query.rtype)
    assert host_name(query) is None or host_name(query) == name_text(query.name)
    reverse_address(query)
    assert repr(query)


@given(st.text(max_size=400))
def test_any_text_is_a_hosts_file_and_a_resolv_conf(text: str) -> None:
    Hosts(text)
    config = parse_resolv_conf(text)
    assert len(config.nameservers) <= 3
