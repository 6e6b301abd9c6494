"""The host alias: what its name is answered, and which packed address stands for which."""

from __future__ import annotations

import pytest

from netbridge.bridge.addresses import Addresses
from netbridge.bridge.forward.policy import Policy
from netbridge.bridge.hostalias import HostAlias
from netbridge.stack.packet import TCP
from tests.bridge.forward.fakes import packed

ADDRESSES = Addresses(7)
FOUR, SIX = "198.18.7.4", "fd6e:6272:7::4"


def policy(*allow: str, deny: tuple[str, ...] = ()) -> Policy:
    alias = HostAlias(ADDRESSES, on=True)
    return Policy(allow, deny, aliases=alias.mapping, own=ADDRESSES.everything)


@pytest.mark.parametrize(("allow", "expected"), [
    ((), [FOUR]),
    (("10.0.0.0/8",), [FOUR]),
    (("127.0.0.1:80",), [FOUR]),
    (("127.0.0.0/8",), [FOUR]),
    (("[::1]:80",), [SIX]),
    (("127.0.0.1:80", "::1"), [FOUR, SIX]),
    (("127.0.0.2:80", "::1"), [SIX]),
    (("::/0", "127.0.0.1"), [FOUR]),
])
def test_answers_are_what_rules_open(allow: tuple[str, ...], expected: list[str]) -> None:
    alias = HostAlias(ADDRESSES, on=True)
    assert list(map(str, alias.answers(policy(*allow)))) == expected


def test_rules_are_those_that_open_something() -> None:
    """0.0.0.0/0 holds 127.0.0.1 too, but opens nothing that is closed."""
    rules = policy("0.0.0.0/0", "127.0.0.0/8", "10.0.0.0/8", "127.0.0.1:80", "127.0.0.2:81", "[::1]:80", "::/0")
    assert HostAlias.rules(rules) == ("127.0.0.0/8", "127.0.0.1:80", "[::1]:80")


def test_off_there_is_nothing() -> None:
    alias = HostAlias(ADDRESSES, on=False)
    assert (alias.mapping, alias.routes, alias.answers(policy())) == ({}, [], ())


def test_the_address_is_the_bridges_and_must_be_free() -> None:
    assert HostAlias(ADDRESSES, on=True).routes == [f"{FOUR}/32"]
    assert not ADDRESSES.fits([f"{FOUR}/32"])
    assert ADDRESSES.fits(["198.18.7.8/30"])


def test_the_final_address_is_judged() -> None:
    rules = policy("127.0.0.1:80", deny=("127.0.0.1:81",))
    me = packed("198.18.7.2")
    assert rules.final(packed(FOUR)) == packed("127.0.0.1")
    assert rules.admit((me, 1, packed(FOUR), 80), TCP) == packed("127.0.0.1")
    assert rules.admit((me, 1, packed(FOUR), 81), TCP) is None
    assert rules.admit((me, 1, packed(SIX), 80), TCP) is None
    # A rule about the alias itself says nothing: what it stands for is judged.
    assert policy(FOUR).admit((me, 1, packed(FOUR), 80), TCP) is None
