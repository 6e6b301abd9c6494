"""What is captured of what was found, and what the user says about it."""

from __future__ import annotations

import ipaddress
import sys

import pytest

from netbridge.bridge.routes import (
    Capture,
    Interface,
    LocalNetworksError,
    Route,
    Snapshot,
    choose,
    local_networks,
)
from netbridge.bridge.routes.reachable import reachable


def route(network: str, interface: str = "eth0", gateway: str | None = None, table: str = "main") -> Route:
    return Route(
        ipaddress.ip_network(network), interface, ipaddress.ip_address(gateway) if gateway else None, table
    )


def machine(*routes: Route) -> Snapshot:
    interfaces = (
        Interface("lo", loopback=True), Interface("eth0", addresses=(ipaddress.ip_address("192.168.7.10"),)),
        Interface("tun0", tunnel=True), Interface("tap0", tunnel=True),
    )
    return Snapshot(interfaces, routes)


LAN = (route("192.168.7.0/24"), route("0.0.0.0/0", gateway="192.168.7.1"))


def test_neighbours_are_joined_and_keep_their_reasons() -> None:
    capture = choose(machine(route("10.0.0.0/25", "tun0"), route("10.0.0.128/25", "tun0", "10.8.0.1"), *LAN))
    assert capture.routes == ["10.0.0.0/24", "192.168.7.0/24"]
    assert capture.captured[0].reason == "connected to tun0; routed by 10.8.0.1 on tun0"
    assert str(capture.captured[1]) == "192.168.7.0/24 (connected to eth0)"


def test_a_network_inside_another_vanishes_in_it() -> None:
    capture = choose(machine(*LAN), routes=["192.168.0.0/16", "fd00::/8"])
    assert capture.routes == ["192.168.0.0/16", "fd00::/8"]
    assert capture.captured[0].reason == "asked for by --route"


def test_more_reasons_than_fit_are_counted() -> None:
    several = [route(f"10.0.{number}.0/24", f"vlan{number}") for number in range(8)]
    (captured,) = choose(machine(*several)).captured
    assert captured.reason == "connected to vlan0; connected to vlan1; connected to vlan2; and 5 more"


def test_all_is_both_default_routes_and_the_exclusions_stay() -> None:
    capture = choose(machine(*LAN), everything=True, exclude=["10.0.0.0/8"])
    assert capture.routes == ["0.0.0.0/0", "::/0"]
    assert {"10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "168.63.129.16/32"} <= set(
        capture.exclude
    )


def test_excluded_networks_and_the_tunnel_itself() -> None:
    capture = choose(
        machine(*LAN, route("10.1.0.0/16", "tun0"), route("10.2.3.0/24", "tun0")),
        exclude=["10.2.0.0/16", "192.168.7.9"], peers=["192.168.7.4", "fe80::1%eth0", "dev.example"],
        own=["198.18.0.0/30", "fd6e:6272:0::/64"],
    )
    assert capture.routes == ["10.1.0.0/16", "192.168.7.0/24"]
    reasons = {str(each.network): each.reason for each in capture.excluded}
    assert reasons["10.2.0.0/16"] == reasons["192.168.7.9/32"] == "asked for by --exclude"
    assert reasons["192.168.7.4/32"] == reasons["fe80::1/128"] == "carries the tunnel"
    assert reasons["198.18.0.0/30"] == "the bridge's own network"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.1.2.3", "captured: 10.1.0.0/16 (connected to tun0)"),
        ("192.168.7.4", "not captured: 192.168.7.4/32 (carries the tunnel)"),
        ("127.0.0.1", "not captured: 127.0.0.0/8 (loopback)"),
        ("9.9.9.9", "not captured: no captured network holds it"),
        ("fd00::1", "not captured: no captured network holds it"),
    ],
)
def test_why(address: str, why: str) -> None:
    assert choose(machine(*LAN, route("10.1.0.0/16", "tun0")), peers=["192.168.7.4"]).why(address) == why


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.1.2.3/16", r"10\.1\.2\.3/16 has bits set behind its prefix; the network is 10\.1\.0\.0/16"),
        ("fd00::1/64", "the network is fd00::/64"),
        ("corp", "'corp' is no network"),
        ("10.1.0.0/33", "is no network"),
        ("", "is no network"),
        ("127.0.0.0/8", "it is loopback"),
        ("169.254.169.254", "it is link-local"),
        ("::ffff:10.0.0.0/104", "it is loopback"),
        ("ff02::/16", "it is multicast"),
    ],
)
def test_routes_that_cannot_be(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        choose(machine(*LAN), routes=[text])


def test_an_exclusion_must_be_a_network_too() -> None:
    with pytest.raises(ValueError, match="the network is"):
        choose(None, exclude=["10.1.2.3/16"])


def test_without_a_picture_only_what_was_asked_for() -> None:
    assert choose(None).routes == []
    assert choose(None, routes=["10.0.0.0/8"]).routes == ["10.0.0.0/8"]
    assert isinstance(choose(None), Capture)


def test_a_single_public_address_by_the_default_gateway_is_a_vpn_clients_pin() -> None:
    found = reachable(machine(
        *LAN, route("8.8.4.4/32", gateway="192.168.7.1"), route("8.8.8.8/32", gateway="192.168.7.2"),
        route("10.1.1.1/32", gateway="192.168.7.1"), route("192.168.7.10/32"),
    ))
    assert [str(each.network) for each in found] == ["192.168.7.0/24", "8.8.8.8/32", "10.1.1.1/32"]


@pytest.mark.parametrize("interface", ["tun0", "tap0"])
def test_full_tunnels(interface: str) -> None:
    tunnel = machine(route("0.0.0.0/0", interface, "10.8.0.1", "51820"), *LAN, route("::/0", gateway="fe80::1"))
    assert choose(tunnel).routes == ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
    both = machine(route("0.0.0.0/1", interface), route("128.0.0.0/1", interface), *LAN, route("2000::/3", interface))
    assert choose(both).routes == ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]


def test_other_systems_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "plan9")
    with pytest.raises(LocalNetworksError, match="name the networks by --route"):
        local_networks()
