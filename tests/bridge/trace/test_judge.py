"""The first thing that stops a destination: each kind of trouble alone, and which of two comes first."""

from __future__ import annotations

from typing import Any

import pytest

from netbridge.bridge.errors import TargetUnreachableError
from netbridge.bridge.trace.found import Answer, Captured, Connect, Names, Target, Trace, Way
from netbridge.bridge.trace.judge import settle

HOST = "db.corp"
GONE = TargetUnreachableError("No bridge is running.", "None was started.", "Start it with netbridge up.")


def target(**fields: Any) -> Target:
    """An address that works, but for what the fields say."""
    usual: dict[str, Any] = {
        "address": "10.1.2.3", "seen": ["there", "here"], "captured": Captured("captured", "10.0.0.0/8", "by tun0"),
        "way_there": Way("nb0", "10.0.0.0/8"), "connect_there": None, "final": "10.1.2.3", "allowed": True, "rule": "",
        "way_here": Way("tun0", "10.0.0.0/8"), "connect_here": Connect(),
    }
    return Target(**{**usual, **fields})


def trace(*targets: Target, there: Names | None = None, here: Names | None = None, port: int = 80) -> Trace:
    addresses = [it.address for it in targets if "there" in it.seen]
    own = [it.address for it in targets if "here" in it.seen]
    return Trace(
        HOST, port, {"target": "t", "dns": True}, there or Names(addresses=addresses), here or Names(addresses=own),
        list(targets),
    )


def problem(found: Trace, **more: Any) -> dict[str, str]:
    settle(found, **more)
    assert found.works is (found.problem is None)
    return found.problem or {}


def test_all_is_well() -> None:
    assert problem(trace(target())) == {}


@pytest.mark.parametrize(("code", "what"), [
    ("ECONNREFUSED", "10.1.2.3 refuses port 80."), ("ETIMEDOUT", "10.1.2.3 does not answer on port 80."),
    ("EHOSTUNREACH", "10.1.2.3 is not reached."), ("EIO", "10.1.2.3 is not reached."),
])
def test_a_connect_that_failed(code: str, what: str) -> None:
    assert problem(trace(target(connect_here=Connect(code, "odd"))))["what"] == what


def test_policy_comes_before_the_connect() -> None:
    found = problem(trace(target(allowed=False, rule="denied by the rule 10.0.0.0/8", connect_here=None)))
    assert found["what"] == "The policy denies 10.1.2.3 port 80."
    assert "--deny" in found["todo"]
    found = problem(trace(target(allowed=False, rule="link-local, denied unless --allow names it", connect_here=None)))
    assert "--allow 10.1.2.3:80" in found["todo"]


def test_one_address_that_works_is_enough() -> None:
    dead = target(address="fd00::1", final="fd00::1", connect_here=Connect("ETIMEDOUT"))
    found = trace(dead, target())
    assert problem(found) == {}
    assert [it.works for it in found.targets] == [False, True]


def test_an_address_that_only_this_side_knows_helps_nobody() -> None:
    found = trace(target(seen=["here"]), there=Names(answers=[Answer("own", "127.0.0.53", HOST, "NXDOMAIN", [], 0.1)]))
    told = problem(found)
    assert told["what"] == "db.corp resolves here (10.1.2.3) and not over there."
    assert "NXDOMAIN" in told["why"]
    found.bridge = {"target": "t", "dns": False}
    assert "--dns off" in problem(found)["todo"]


def test_a_name_that_nobody_knows() -> None:
    assert problem(trace(there=Names(error="not known"), here=Names(error="NXDOMAIN")))["what"] == (
        "db.corp does not resolve, neither over there nor here."
    )


@pytest.mark.parametrize(("captured", "words"), [
    (Captured("excluded", "10.1.0.0/16", "asked for by --exclude"), "without that --exclude"),
    (Captured("overlap", "10.0.0.0/8", "over there 10.1.0.0/16 on eth0"), "--route 10.1.2.3/32"),
    (Captured("left out", "10.1.2.3", "it is the target's own nameserver"), "another address"),
    (Captured("not wanted", "", "no captured network holds it"), "--route 10.1.2.3"),
])
def test_what_does_not_come_through(captured: Captured, words: str) -> None:
    """And fails over there: the reason is that it does not come here. Where it works over there, all is well."""
    away = Way("eth0", "0.0.0.0/0")
    failed = target(captured=captured, way_there=away, connect_there=Connect("ETIMEDOUT"))
    assert words in problem(trace(failed))["todo"]
    assert problem(trace(target(captured=captured, way_there=away, connect_there=Connect()))) == {}


def test_route_is_no_advice_where_this_machine_has_no_way_either() -> None:
    lost = target(
        captured=Captured("not wanted", "", "no captured network holds it"), way_there=Way("eth0", "0.0.0.0/0"),
        connect_there=Connect("ETIMEDOUT"), way_here=Way(error="Network is unreachable"),
    )
    assert "nor has this machine a way to it" in problem(trace(lost))["todo"]


def test_loopback_leads_to_the_alias() -> None:
    lo = target(address="127.0.0.1", final="127.0.0.1", captured=Captured("never", "127.0.0.0/8", "loopback"),
                way_there=Way("lo"), connect_there=Connect("ECONNREFUSED"), allowed=False, rule="loopback")  # fmt: skip
    assert "--host-alias --allow 127.0.0.1:80" in problem(trace(lo))["todo"]


def test_no_bridge_is_told_unless_something_else_stops_it_anyway() -> None:
    works = trace(target(captured=Captured("wanted", "10.0.0.0/8", "by tun0"), way_there=None))
    works.there = works.bridge = None
    assert problem(works, reason=GONE)["what"] == "No bridge is running."
    refused = trace(target(captured=Captured("wanted", "10.0.0.0/8", "by tun0"), connect_here=Connect("ECONNREFUSED")))
    refused.there = refused.bridge = None
    assert problem(refused, reason=GONE)["what"] == "10.1.2.3 refuses port 80."


def test_a_connection_that_is_down_comes_first() -> None:
    assert problem(trace(target(connect_here=Connect("ECONNREFUSED"))), reason=GONE)["what"] == "No bridge is running."
