"""What the agent tells is taken apart with distrust, and who answered is worked out from it."""

from __future__ import annotations

from typing import Any

import pytest

from netbridge.bridge.trace import there


def answer(who: str, name: str, *addresses: str, rcode: str = "NOERROR") -> dict[str, Any]:
    return {"who": who, "server": "127.0.0.53" if who == "own" else "198.18.0.1", "name": name, "rcode": rcode,
            "addresses": list(addresses), "seconds": 0.01, "error": ""}  # fmt: skip


def message(host: str, addresses: list[str], *answers: dict[str, Any], **more: Any) -> dict[str, Any]:
    system = {"addresses": addresses, "error": "", "code": "", "seconds": 0.02}
    return {"type": "traced", "host": host, "system": system, "answers": list(answers), "hosts": [], **more}


@pytest.mark.parametrize(("name", "mode", "who"), [
    ("www.public", "auto", "own"), ("db.corp", "auto", "bridge"), ("corp", "auto", "bridge"),
    ("www.public", "all", "bridge"), ("xcorp", "auto", "own"),
])
def test_who_is_asked_first_gave_the_answer_that_both_have(name: str, mode: str, who: str) -> None:
    both = message(name, ["10.0.0.1"], answer("own", name, "10.0.0.1"), answer("bridge", name, "10.0.0.1"))
    assert there.names(both, ["corp"], mode).who == who


def test_who_alone_knows_the_addresses_gave_them() -> None:
    found = there.names(message("db.corp", ["10.0.0.1"], answer("bridge", "db.corp", "10.9.9.9"),
                                answer("own", "db.corp", "10.0.0.1")), ["corp"], "auto")  # fmt: skip
    assert (found.who, found.server, found.name) == ("own", "127.0.0.53", "db.corp")


def test_a_short_name_has_the_full_one_that_is_tried_first() -> None:
    found = there.names(message("www", ["10.0.0.1"], answer("own", "www.a", rcode="NXDOMAIN"),
                                answer("bridge", "www.corp", "10.0.0.1"), answer("bridge", "www", "10.0.0.1")),
                        ["corp"], "auto")  # fmt: skip
    assert found.name == "www.corp"


def test_hosts_file_literal_and_nobody_in_particular() -> None:
    assert there.names(message("db", ["10.0.0.1"], hosts=["10.0.0.1"]), [], "auto").who == "hosts"
    assert there.names(message("fd00::1", ["fd00::1"]), [], "auto").who == "literal"
    assert there.names(message("db", ["10.0.0.1"]), [], "auto").who == "system"


@pytest.mark.parametrize("nonsense", [
    {}, {"system": 7}, {"system": {"addresses": "10.0.0.1"}}, {"system": {"addresses": [None, {}, "x", "1.2.3.4.5"]}},
    {"answers": [None, 3, {"addresses": 1, "seconds": "soon", "who": ["x"]}]}, {"addresses": {"a": 1}},
    {"addresses": [{"address": "10.0.0.1", "connect": 3}, {"address": "nonsense"}, 5]},
    {"system": {"addresses": ["10.0.0.1"], "seconds": float("nan"), "error": {"a": "\x1b"}}},
])
def test_nonsense_is_nothing(nonsense: dict[str, Any]) -> None:
    found = there.names(nonsense, ["corp"], "auto")
    assert all(isinstance(address, str) for address in found.addresses)
    assert "\x1b" not in repr(found)
    there.ways(nonsense)


def test_much_is_cut() -> None:
    flood = message("x", [f"10.0.{number >> 8}.{number & 255}" for number in range(5000)],
                    *[answer("own", "x" * 100_000, rcode="\x1b[2J" * 100)] * 500)  # fmt: skip
    found = there.names(flood, [], "auto")
    assert len(found.addresses) == len(found.answers) == there.MOST
    assert len(found.answers[0].name) <= 300
    assert "\x1b" not in found.answers[0].rcode


def test_ways_have_zones_dropped_and_connects() -> None:
    ways = there.ways({"addresses": [
        {"address": "fe80::1%eth0", "interface": "eth0", "route": "fe80::/64", "kind": "unicast",
         "connect": {"code": "ECONNREFUSED", "error": "refused", "seconds": 0.1}},
        {"address": "10.0.0.1", "interface": "nb0", "connect": None},
    ]})  # fmt: skip
    way, connect = ways["fe80::1"]
    assert (way.interface, way.route) == ("eth0", "fe80::/64")
    assert connect is not None
    assert connect.code == "ECONNREFUSED"
    assert ways["10.0.0.1"][1] is None
