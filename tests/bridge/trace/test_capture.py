"""Whether an address comes through the bridge: the decision made here against the route that is really taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from netbridge.bridge.trace.capture import Pair, Situation
from netbridge.bridge.trace.found import Way
from netbridge.bridge.trace.run import _situation

SITUATION = Situation(
    captured=[Pair("10.0.0.0/8", "routed on tun0"), Pair("10.9.0.0/16", "by --route"), Pair("fd00::/8", "ula")],
    excluded=[Pair("10.97.0.0/24", "asked for by --exclude"), Pair("127.0.0.0/8", "loopback")],
    skipped=[Pair("172.17.0.0/16", "it is the target's own, too")],
    installed=["10.0.0.0/8"], tun="nb0", own={"10.0.0.53": "it is the target's own nameserver"},
)
BRIDGE, OTHER = Way(interface="nb0", route="10.0.0.0/8"), Way(interface="eth0", route="10.1.0.0/16")


@pytest.mark.parametrize(("address", "way", "state", "network"), [
    ("10.1.2.3", BRIDGE, "captured", "10.0.0.0/8"),
    ("10.9.2.3", BRIDGE, "captured", "10.9.0.0/16"),
    ("203.0.113.9", BRIDGE, "captured", "10.0.0.0/8"),  # by a route of its own, for an answer of the resolver
    ("10.1.2.3", OTHER, "overlap", "10.0.0.0/8"),
    ("10.97.0.1", OTHER, "excluded", "10.97.0.0/24"),
    ("172.17.0.9", OTHER, "overlap", "172.17.0.0/16"),
    ("10.0.0.53", OTHER, "left out", "10.0.0.53"),
    ("127.0.0.1", Way(interface="lo"), "never", "127.0.0.0/8"),
    ("fe80::1", OTHER, "never", "fe80::/10"),
    ("203.0.113.9", OTHER, "not wanted", ""),
    ("fd00::7", Way(error="Network is unreachable"), "overlap", "fd00::/8"),
])
def test_by_the_route_over_there(address: str, way: Way, state: str, network: str) -> None:
    captured = SITUATION.of(address, way)
    assert (captured.state, captured.network) == (state, network)
    assert captured.reason


def test_without_a_tun_the_captured_networks_tell() -> None:
    packets = Situation(SITUATION.captured, installed=["10.0.0.0/8"])
    assert packets.of("10.1.2.3", OTHER).state == "captured"
    assert packets.of("fd00::1", OTHER).state == "overlap"


def test_without_a_bridge_it_would_be() -> None:
    alone = Situation(SITUATION.captured, SITUATION.excluded)
    assert alone.of("10.1.2.3", None).state == "wanted"
    assert alone.of("10.97.0.1", None).state == "excluded"
    assert alone.of("192.0.2.1", None).state == "not wanted"


@pytest.mark.parametrize("nonsense", [None, 7, "x", {}, [[]], ["10.0.0.53"] * 100_000])
def test_nameservers_that_the_target_tells_are_not_believed_to_be_a_list(nonsense: Any) -> None:
    session: Any = SimpleNamespace(capturing=None, agent=SimpleNamespace(hello={"facts": {"nameservers": nonsense}}))
    assert len(_situation(session, {}).own) <= 1
