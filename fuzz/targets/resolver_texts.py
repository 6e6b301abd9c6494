"""Any resolv.conf, hosts file, nsswitch.conf and answer of scutil or busctl is read as far as it is one.

What the agent puts into resolv.conf is found by both readers and taken out again to the byte, whatever stood there.
"""

from __future__ import annotations

import ipaddress

from fuzz.shown import harmless, printed_by
from netbridge.bridge.agent import leading, resolvconf, tracing
from netbridge.bridge.agent import names as agent_names
from netbridge.bridge.dns import linkdomains, nsswitch, scutil
from netbridge.bridge.dns.hosts import Hosts
from netbridge.bridge.dns.resolvconf import MAX_NAMESERVERS, MAX_SEARCH, parse_resolv_conf, socket_address
from netbridge.bridge.dns.systemnames import SystemNames

STUB = "127.83.0.1"
HALVES = (b"# netbridge:", b"#netbridge#")
"""Half a block of ours, which nobody wrote, may be completed by another edit, and then goes with it."""


def run(data: bytes) -> object:
    text = printed_by(data)
    return _edited(data), _read(text), nsswitch.knows_more(text), _hosts(text), *_system(text)


def _edited(data: bytes) -> object:
    """What the agent does to such a file."""
    resolver = resolvconf.parse(data)
    original = resolvconf.undo(data)
    assert resolvconf.undo(original) == original
    for alone in (False, True):
        for search in ([], ["corp.internal", "a.b"]):
            edited = resolvconf.edit(original, STUB, search, alone=alone)
            found = resolvconf.parse(edited)
            assert found.nameservers[:1] == [STUB]
            assert not alone or found.nameservers == [STUB]
            assert resolvconf.undo(edited) == original or any(mark in original for mark in HALVES)
            if search and not alone:
                assert set(search) <= set(found.search)
            assert parse_resolv_conf(edited.decode("utf-8", "replace")).nameservers[:1] == (STUB,)
    assert 0 <= tracing.ndots(data) <= 15
    assert len(tracing.candidates("db", resolver.search, tracing.ndots(data))) <= tracing.NAMES
    for server in resolver.nameservers:
        leading.is_loopback(server)
    leading.nameservers(resolver.nameservers, alone=resolver.rotate)
    agent_names._alone(resolver)
    return min(len(resolver.nameservers), 4), min(len(resolver.search), 4), resolver.rotate, original == data


def _read(text: str) -> object:
    config = parse_resolv_conf(text)
    assert len(config.nameservers) <= MAX_NAMESERVERS
    assert len(config.search) <= MAX_SEARCH
    for server in config.nameservers:
        ipaddress.ip_address(server)
        try:
            _, (host, port, *_) = socket_address(server, 53)
        except OSError:  # its scope is no interface of ours
            continue
        assert port == 53
        ipaddress.ip_address(host)
    assert agent_names.texts(config.search) == list(config.search)
    return len(config.nameservers)


def _hosts(text: str) -> int:
    hosts = Hosts(text)
    for name, addresses in hosts.addresses.items():
        assert name == name.lower()
        assert len(set(addresses)) == len(addresses)
    return min(len(hosts.addresses), 3)


def _system(text: str) -> tuple[int, ...]:
    counted = []
    for found in (scutil.parse(text), linkdomains.parse(text)):
        assert isinstance(found, SystemNames)
        for name in (*found.search, *found.routing, *(each.domain for each in found.resolvers)):
            assert harmless(name), name
            assert " " not in name
        for each in found.resolvers:
            assert each.nameservers
            found.resolvers_for(b"\4corp\0")
        counted += [min(len(found.search), 3), min(len(found.routing), 3), min(len(found.resolvers), 3)]
    return tuple(counted)
