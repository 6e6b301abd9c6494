"""What is captured: everything wanted but the holes, and nothing else; and never what must stay."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbridge.bridge.agent import routes
from netbridge.bridge.agent.routes import hosts, never_captured, plan, subtract


@st.composite
def small_networks(draw: st.DrawFn) -> IPv4Network:
    """Inside 10.0.0.0/24, so that every address can be looked at."""
    length = draw(st.integers(24, 32))
    number = draw(st.integers(0, 255))
    return IPv4Network((int(IPv4Address("10.0.0.0")) + number, length), strict=False)


@given(st.lists(small_networks(), max_size=6), st.lists(small_networks(), max_size=6))
def test_subtract_is_set_difference(wanted: list[IPv4Network], holes: list[IPv4Network]) -> None:
    left = subtract(wanted, holes)
    for number in range(256):
        address = IPv4Address("10.0.0.0") + number
        expected = any(address in network for network in wanted) and not any(address in hole for hole in holes)
        assert any(address in network for network in left) == expected


def planned(wanted: list[str], exclude: list[str] | None = None, on_link: list[str] | None = None) -> routes.Plan:
    return plan(wanted, exclude or [], [ip_network(text) for text in on_link or []], never_captured())


def test_overlapping_wishes_become_one_route() -> None:
    assert planned(["10.0.0.0/9", "10.1.0.0/16", "10.128.0.0/9", "10.1.0.0/16"]).install == [ip_network("10.0.0.0/8")]


def test_the_versions_do_not_mix() -> None:
    found = planned(["0.0.0.0/0", "::/0"], ["10.0.0.0/8", "2001:db8::/32"])
    for hole in (
        "10.1.2.3", "2001:db8::1", "127.0.0.1", "::1", "169.254.169.254", "fe80::1", "168.63.129.16", "224.0.0.251",
        "ff02::1", "255.255.255.255", "0.0.0.1", "::",
    ):  # fmt: skip
        assert not any(ip_address(hole) in network for network in found.install), hole
    for inside in ("11.0.0.1", "2001:db9::1", "1.1.1.1", "168.63.129.15", "168.63.129.17"):
        assert any(ip_address(inside) in network for network in found.install), inside
    assert found.skipped == []


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ("10.0.0.0/16", "the target's own, too"), ("10.0.5.7/32", "inside 10.0.0.0/16"),
        ("10.0.5.7", "inside 10.0.0.0/16"),
        ("127.0.0.1/32", "loopback"), ("169.254.169.254", "link-local"), ("168.63.129.16/32", "Azure"),
        ("fe80::/64", "link-local"), ("224.0.0.0/24", "multicast"), ("0.0.0.0/8", "this host"), ("::1", "loopback"),
        ("no network", "not a network"), ("10.0.0.0/33", "not a network"), ("192.168.7.0/25", "excluded"),
    ],
)  # fmt: skip
def test_skipped_with_a_reason(wish: str, reason: str) -> None:
    found = planned([wish, "172.16.0.0/12"], ["192.168.7.0/24"], ["10.0.0.0/16"])
    assert found.install == [ip_network("172.16.0.0/12")]
    (skipped,) = found.skipped
    assert skipped["route"] == wish
    assert reason in skipped["reason"]


def test_a_network_around_an_on_link_one_is_captured_whole() -> None:
    # The kernel's own route to 10.0.0.0/16 is longer and wins.
    assert planned(["10.0.0.0/8"], [], ["10.0.0.0/16"]).install == [ip_network("10.0.0.0/8")]


def test_an_exclusion_that_is_none_is_told() -> None:
    assert planned(["10.0.0.0/8"], ["nonsense"]).skipped == [
        {"route": "nonsense", "reason": "the exclusion is not a network"}
    ]


def test_hosts_drop_zones_and_nonsense_and_unmap() -> None:
    found = [str(item.network) for item in hosts(["fe80::1%eth0", "", "name", "::ffff:10.1.2.3", "10.0.0.1"], "x")]
    assert found == ["fe80::1/128", "10.1.2.3/32", "10.0.0.1/32"]


def test_the_ssh_peer_is_cut_out() -> None:
    found = plan(["203.0.113.0/24"], [], [], hosts(["203.0.113.9"], "peer"))
    assert all(IPv4Address("203.0.113.9") not in network for network in found.install)
    assert sum(network.num_addresses for network in found.install) == 255


def test_holes_do_not_make_routes_that_cut_off_neighbours() -> None:
    """10.0.0.0/8 without the gateway 10.0.0.1 is, among others, 10.0.0.2/31, which is longer than 10.0.0.0/16."""
    own = IPv4Network("10.0.0.0/16")
    found = plan(["10.0.0.0/8"], [], [own], hosts(["10.0.0.1"], "gateway"))
    assert not any(network.subnet_of(own) for network in found.install if isinstance(network, IPv4Network))
    for inside in ("10.1.0.0", "10.255.255.255", "10.128.0.1"):
        assert any(ip_address(inside) in network for network in found.install), inside
    six = ip_network("fd00:7::/64")
    everything = plan(["0.0.0.0/0", "::/0"], [], [own, six], hosts(["10.0.0.1", "fd00:7::1"], "gateway"))
    for text in ("10.0.0.2", "10.0.200.1", "fd00:7::2"):
        assert not any(ip_address(text) in network for network in everything.install), text


def test_a_named_host_of_an_own_network_is_captured_beside_holes() -> None:
    own = ip_network("10.0.0.0/16")
    found = plan(["10.0.0.0/8"], [], [own], hosts(["10.0.0.1"], "gateway"), ["10.0.3.0/24"])
    assert [network for network in found.install if network.overlaps(own)] == [ip_network("10.0.3.0/24")]
