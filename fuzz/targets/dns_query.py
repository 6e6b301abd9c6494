"""Whatever the codespace asks is dropped, or answered once: its id, its question to the letter, nothing amplified."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from netbridge.bridge.dns.answer import Answer
from netbridge.bridge.dns.exchange import encode, mixed_case
from netbridge.bridge.dns.message import EDNS_SIZE, HEADER, Query, name_text, skip_name, type_text
from netbridge.bridge.dns.own import OwnNames
from netbridge.bridge.dns.service import DnsService
from netbridge.bridge.dns.synthesis import host_name, reverse_address
from netbridge.bridge.dns.systemnames import DomainResolver, SystemNames
from netbridge.bridge.dns.upstream import Upstream

OUR_OPT = 11
"""Bytes of the OPT record with which one is answered."""


class _Service(DnsService):
    """One that has nobody to ask."""

    def __init__(self) -> None:
        nowhere: dict[str, Any] = dict.fromkeys(("resolv_conf", "hosts", "nsswitch", "uplinks"), "/nonexistent")
        super().__init__(None, [], Upstream(**nowhere), own=OwnNames())  # type: ignore[arg-type]  # no stack
        self.joined: list[tuple[Query, Callable[[Query, Answer | None], None]]] = []

    def _join(self, query: Query, now: float, deliver: Any) -> None:
        self.joined.append((query, deliver))


SERVICE = _Service()
SYSTEM = SystemNames(resolvers=(DomainResolver("corp.example", ("192.0.2.1",)),))


def run(data: bytes) -> object:
    delivered: list[bytes] = []
    SERVICE.joined.clear()
    answer = SERVICE.ask(data, lambda query, got: delivered.append(SERVICE.fit(query, got)), None)
    for query, deliver in SERVICE.joined:
        deliver(query, None)
        _asked(query)
    assert bool(answer) + len(delivered) <= 1
    for message in filter(None, [answer, *delivered]):
        flags, questions = HEADER.unpack_from(message)[1:3]
        assert message[:2] == data[:2]
        assert flags & 0x8000
        assert len(message) <= min(EDNS_SIZE, len(data) + OUR_OPT)
        if questions:
            end = skip_name(message, HEADER.size) + 4
            assert message[HEADER.size : end] == data[HEADER.size : end]
        return flags & 0xF, bool(delivered), questions, len(message) > len(data)
    return "no answer"


def _asked(query: Query) -> None:
    """What would be done with it before a nameserver has it."""
    spelt = mixed_case(query.question)
    assert spelt.lower()[:-4] == query.name
    assert encode(query, 7, spelt, edns=bool(query.edns_size))[12 : 12 + len(spelt)] == spelt
    assert name_text(query.name).isprintable()
    assert type_text(query.rtype)
    assert host_name(query) in {None, name_text(query.name)}
    reverse_address(query)
    for resolver in SYSTEM.resolvers_for(query.name):
        assert name_text(query.name).endswith(resolver.domain)
