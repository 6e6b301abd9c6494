"""Netlink against the `ip` command: what we set it shows, what it sets we see."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from netbridge.bridge.agent import facts
from netbridge.bridge.agent.netlink import Netlink
from netbridge.bridge.agent.routes import Plan, Routes
from netbridge.bridge.agent.tun import TunError, open_tun

pytestmark = pytest.mark.net


def ip(*words: str) -> Any:
    done = subprocess.run(["ip", "-j", "-d", *words], check=True, capture_output=True, text=True)
    return json.loads(done.stdout) if done.stdout.strip() else None


def text(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def with_tun() -> tuple[Netlink, int, int]:
    netlink = Netlink()
    descriptor, name, offload = open_tun("nb%d")
    assert name == "nb0"
    assert offload
    return netlink, descriptor, next(link.interface for link in netlink.links() if link.name == name)


def test_a_tun_with_addresses_and_routes_is_what_ip_shows(in_network: Callable[..., Any]) -> None:
    def body() -> None:
        netlink, descriptor, index = with_tun()
        netlink.no_link_local(index)
        netlink.set_link(index, mtu=1400, queue=77)
        netlink.add_address(index, ip_interface("198.18.5.2/30"))
        netlink.add_address(index, ip_interface("fd6e:6272:5::2/64"))
        netlink.set_link(index, up=True)
        netlink.add_route(index, ip_network("10.0.0.0/8"), source=ip_address("198.18.5.2"), rto_min_ms=2000)
        netlink.add_route(index, ip_network("fd00:9::/32"), rto_min_ms=1500)
        (shown,) = ip("addr", "show", "nb0")
        assert shown["mtu"] == 1400
        assert shown["txqlen"] == 77
        assert "UP" in shown["flags"]
        assert ip("link", "show", "nb0")[0]["inet6_addr_gen_mode"] == "none"
        assert [(a["local"], a["prefixlen"]) for a in shown["addr_info"]] == [
            ("198.18.5.2", 30), ("fd6e:6272:5::2", 64),
        ]  # fmt: skip
        assert shown["addr_info"][1]["nodad"] is True
        (route,) = ip("route", "show", "10.0.0.0/8")
        assert route["dev"] == "nb0"
        assert route["prefsrc"] == "198.18.5.2"
        assert "rto_min lock 2s" in text("route", "show", "10.0.0.0/8")
        assert "rto_min lock 1.5s" in text("-6", "route", "show", "fd00:9::/32")
        netlink.delete_route(index, ip_network("10.0.0.0/8"))
        netlink.delete_route(index, ip_network("10.0.0.0/8"))
        assert ip("route", "show", "10.0.0.0/8") in (None, [])
        os.close(descriptor)
        assert all(link["ifname"] != "nb0" for link in ip("link", "show"))
        assert ip("-6", "route", "show", "fd00:9::/32") in (None, [])
        netlink.close()

    in_network(body)


def test_what_ip_sets_is_listed(in_network: Callable[..., Any]) -> None:
    def body() -> None:
        for command in (
            "link set lo up", "link add eth0 type bridge", "addr add 10.0.0.85/16 dev eth0",
            "link set eth0 up mtu 1450",
            "addr add fd00:1::5/64 dev eth0 nodad", "route add default via 10.0.0.1", "link add ppp0 type bridge",
            "addr add 192.0.2.1 peer 192.0.2.9/32 dev ppp0", "link set ppp0 up", "route add 172.20.0.0/16 via 10.0.0.9",
            "route add blackhole 172.30.0.0/16", "-6 route add default via fd00:1::1",
        ):  # fmt: skip
            subprocess.run(["ip", *command.split()], check=True)
        netlink = Netlink()
        links = {link.name: link for link in netlink.links()}
        assert links["eth0"].mtu == 1450
        assert links["eth0"].up
        assert {link.name for link in netlink.links()} == {link["ifname"] for link in ip("link", "show")}
        theirs = {address["local"] for link in ip("addr", "show") for address in link["addr_info"]}
        assert {str(info.address) for info in netlink.addresses()} == theirs
        assert sorted(map(str, facts.on_link(netlink))) == ["10.0.0.0/16", "192.0.2.9/32", "fd00:1::/64"]
        without = facts.on_link(netlink, without=links["eth0"].interface)
        assert [str(network) for network in without] == ["192.0.2.9/32"]
        assert sorted(facts.gateways(netlink)) == ["10.0.0.1", "10.0.0.9", "fd00:1::1"]
        routed = {str(route.network) for route in netlink.routes()}
        assert {"0.0.0.0/0", "10.0.0.0/16", "172.20.0.0/16", "::/0", "fd00:1::/64"} <= routed
        assert "172.30.0.0/16" not in routed
        netlink.close()

    in_network(body)


def test_the_kernels_errors_come_as_oserror(in_network: Callable[..., Any]) -> None:
    def body() -> None:
        netlink, descriptor, index = with_tun()
        netlink.add_address(index, ip_interface("198.18.5.2/30"))
        with pytest.raises(OSError, match=os.strerror(errno.EEXIST)):
            netlink.add_address(index, ip_interface("198.18.5.2/30"))
        with pytest.raises(OSError, match=os.strerror(errno.ENODEV)):
            netlink.add_route(9999, ip_network("10.0.0.0/8"))
        with pytest.raises(TunError) as caught:
            open_tun("nb0")
        assert caught.value.code == "busy"
        os.close(descriptor)
        netlink.close()

    in_network(body)


def test_routes_change_by_their_difference(in_network: Callable[..., Any]) -> None:
    def body() -> None:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        netlink, descriptor, index = with_tun()
        netlink.add_address(index, ip_interface("198.18.5.2/30"))
        netlink.set_link(index, up=True)
        subprocess.run(["ip", "route", "add", "172.16.0.0/12", "dev", "lo"], check=True)
        routes = Routes(netlink, index, [ip_interface("198.18.5.2/30")], 2000)
        first = [ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "fd00::/16")]
        installed, skipped = routes.apply(Plan(first, []))
        assert installed == ["10.0.0.0/8"]
        assert skipped == [
            {"route": "172.16.0.0/12", "reason": "the target has a route to it"},
            {"route": "fd00::/16", "reason": "the target has no IPv6 here"},
        ]
        installed, skipped = routes.apply(Plan([ip_network("10.0.0.0/9"), ip_network("10.0.0.0/8")], []))
        assert (installed, skipped) == (["10.0.0.0/9", "10.0.0.0/8"], [])
        assert routes.apply(Plan([ip_network("10.0.0.0/9")], [])) == (["10.0.0.0/9"], [])
        shown = {route["dst"] for route in ip("route", "show") if route["dev"] == "nb0"}
        assert shown == {"198.18.5.0/30", "10.0.0.0/9"}
        os.close(descriptor)
        netlink.close()

    in_network(body)
