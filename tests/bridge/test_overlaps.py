"""Which networks both sides have, and what lies in them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from netbridge.bridge.overlaps import MOST_OWN, Overlaps
from netbridge.bridge.routes import Capture, Captured


def choice(*wanted: str, excluded: tuple[str, ...] = ()) -> Capture:
    return Capture(
        tuple(Captured(ip_network(text), "by tun0") for text in wanted),
        tuple(Captured(ip_network(text), "asked for by --exclude") for text in excluded),
    )


def overlaps(wanted: str, own: str, installed: tuple[str, ...] = (), excluded: tuple[str, ...] = ()) -> Overlaps:
    return Overlaps(choice(wanted, excluded=excluded), [own], installed)


@pytest.mark.parametrize(
    ("wanted", "own", "network", "words"),
    [
        ("10.0.0.0/16", "10.0.0.0/16", "10.0.0.0/16", "target's own, too"),
        ("10.0.3.0/24", "10.0.0.0/16", "10.0.3.0/24", "lies in 10.0.0.0/16"),
        ("10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/16", "inside of 10.0.0.0/8"),
        ("0.0.0.0/0", "172.17.0.0/16", "172.17.0.0/16", "inside of 0.0.0.0/0"),
        ("fc00::/7", "fd00:7::/64", "fd00:7::/64", "inside of fc00::/7"),
    ],
)
def test_each_way_networks_may_lie(wanted: str, own: str, network: str, words: str) -> None:
    found = overlaps(wanted, own)
    (one,) = found.all
    assert str(one.network) == network
    assert words in one.reason
    assert "by tun0" in one.reason
    assert found.holding(one.network[1].packed) is one


@pytest.mark.parametrize(("wanted", "own"), [("10.1.0.0/16", "10.0.0.0/16"), ("fd00::/16", "10.0.0.0/16")])
def test_networks_beside_each_other(wanted: str, own: str) -> None:
    assert overlaps(wanted, own).all == ()


def test_what_is_captured_or_excluded_or_elsewhere_wants_no_route() -> None:
    found = overlaps("10.0.0.0/8", "10.0.0.0/16", ("10.1.0.0/16", "10.0.3.7/32"), ("10.0.9.0/24",))
    for text, wants in {
        "10.0.3.6": True, "10.0.3.7": False, "10.0.9.1": False, "10.1.0.1": False, "192.0.2.1": False, "fd00::1": False,
    }.items():  # fmt: skip
        assert (found.holding(ip_address(text).packed) is not None) == wants, text


def test_the_longest_prefix_decides_what_is_captured() -> None:
    found = overlaps("10.0.0.0/8", "10.0.0.0/16", ("10.0.0.0/8", "10.0.3.0/24"))
    for text, is_captured in {"10.1.0.1": True, "10.0.0.1": False, "10.0.3.1": True, "192.0.2.1": False}.items():
        assert found.captures(ip_address(text)) == is_captured, text
    assert found.holding(ip_address("10.0.0.1").packed) is found.all[0]
    assert str(found.wanted(ip_address("10.0.0.1"))) == "10.0.0.0/8"


def test_what_the_target_says_is_bounded_and_not_believed() -> None:
    own = ["nonsense", "10.0.0.1/8", *(f"10.{number >> 8}.{number & 255}.0/24" for number in range(1000))]
    found = Overlaps(choice("10.0.0.0/8"), own)
    assert len(found.all) == MOST_OWN
    assert Overlaps().holding(ip_address("10.0.0.1").packed) is None
