"""The local machine's network on Linux, by rtnetlink: links, addresses, policy rules and routes, dumped in some
milliseconds.

Linux has many routing tables, and rules that say which is looked into for which packet (ip-rule(8)). Tailscale keeps
its routes in table 52, wg-quick in 51820, OpenVPN in main. The rules are followed here as the kernel would for a
packet of an ordinary socket of this user: no mark, no source address yet, made on this machine. Rules for marked
packets, for other users, for forwarded packets or for one source address send such a packet nowhere, so their tables
do not count.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

import pyroute2

from ..aside import aside
from .local import Address, Interface, LocalNetworks, LocalNetworksError, Network, Route, Snapshot

_TABLE_NAMES = {253: "default", 254: "main"}
_LOCAL_TABLE = 255
"""This machine's own addresses and broadcasts: nothing of it is reached by a network."""
_LOCAL, _ANYCAST = 2, 4
"""RTN_LOCAL, RTN_ANYCAST: what arrives at this machine, as a whole network if need be (AnyIP)."""

_UNICAST = 1
"""RTN_UNICAST; the others (local, broadcast, blackhole, unreachable, prohibit, throw ...) lead nowhere."""
_DEAD = 1
"""RTNH_F_DEAD: the route's device is down. A route whose device has no carrier is kept: an empty docker bridge is back
as soon as a container starts."""
_CLONED = 0x200
"""RTM_F_CLONED: a cache entry, no route."""
_TO_TABLE = 1
"""FR_ACT_TO_TBL: the rule names a table."""
_INVERT = 2
"""FIB_RULE_INVERT: the rule holds for what its selector does not match ("not")."""

_NARROW = ("FRA_IP_PROTO", "FRA_SPORT_RANGE", "FRA_DPORT_RANGE", "FRA_TUN_ID")
"""Selectors that leave out most packets of a destination; a network is not captured for the sake of the rest."""

_IFF_UP, _IFF_LOOPBACK, _IFF_POINTOPOINT = 0x1, 0x8, 0x10
_TUNNEL_KINDS = frozenset(
    ("wireguard", "tun", "ppp", "ipip", "ip6tnl", "sit", "gre", "gretap", "ip6gre", "xfrm", "vti", "vti6", "ovpn")
)
"""Kinds that are tunnels even without the point-to-point flag (a TAP, for one)."""


PATIENCE = 10.0
"""Seconds for a look, which takes milliseconds. Where pyroute2 could not watch its socket it waits for ever."""
DESCRIPTORS = 12
"""More than the look at the routes opens: an event loop's three, and netlink sockets."""


class LinuxNetworks(LocalNetworks):
    """Netlink of this network namespace, or of the one named."""

    def __init__(self, netns: str | None = None) -> None:
        self._netns = netns

    async def snapshot(self) -> Snapshot:
        try:
            return await aside(self._dump, PATIENCE)
        except LocalNetworksError:
            raise
        except TimeoutError:
            raise LocalNetworksError(f"the kernel did not tell its routes within {PATIENCE:.0f} s") from None
        except OSError as error:  # no thread
            raise LocalNetworksError(f"the routes cannot be looked at: {error}") from error

    def _dump(self) -> Snapshot:
        if self._netns and not os.path.exists(f"/run/netns/{self._netns}"):  # pyroute2 would leak a loop and sockets
            raise LocalNetworksError(f"there is no network namespace {self._netns}")
        _want_descriptors(DESCRIPTORS)
        try:
            with pyroute2.IPRoute(netns=self._netns, flags=0) as netlink:
                links = list(netlink.get_links())
                addresses = list(netlink.get_addr())
                rules = {family: list(netlink.get_rules(family=family)) for family in _FAMILIES}
                routes = {family: list(netlink.get_routes(family=family)) for family in _FAMILIES}
        except (OSError, pyroute2.NetlinkError) as error:
            raise LocalNetworksError(f"the kernel does not tell its routes: {error}") from error
        interfaces = _interfaces(links, addresses)
        found: list[Route] = []
        for family in _FAMILIES:
            found += _effective(rules[family], routes[family], interfaces, 4 if family == socket.AF_INET else 6)
        local = tuple(
            _network(message.get_attr("RTA_DST"), message["dst_len"], 4 if family == socket.AF_INET else 6)
            for family in _FAMILIES for message in routes[family] if message["type"] in (_LOCAL, _ANYCAST)
        )
        return Snapshot(tuple(interfaces.values()), tuple(dict.fromkeys(found)), local)


def _want_descriptors(count: int) -> None:
    """Raise LocalNetworksError unless so many descriptors can be opened.

    pyroute2 makes an event loop of its own, and one that fails half-way prints a traceback when it is collected.
    """
    opened: list[int] = []
    try:
        while len(opened) < count:
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise LocalNetworksError(f"the routes cannot be looked at: {error.strerror}") from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def _interfaces(links: list[Any], addresses: list[Any]) -> dict[int, Interface]:
    """By index."""
    own: dict[int, list[Address]] = {}
    for each in addresses:
        text = each.get_attr("IFA_LOCAL") or each.get_attr("IFA_ADDRESS")
        if text:
            own.setdefault(each["index"], []).append(ipaddress.ip_address(text))
    found = {}
    for link in links:
        kind = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or ""
        flags = link["flags"]
        found[link["index"]] = Interface(
            name=link.get_attr("IFLA_IFNAME"), kind=kind,
            up=bool(flags & _IFF_UP), loopback=bool(flags & _IFF_LOOPBACK),
            tunnel=bool(flags & _IFF_POINTOPOINT) or kind in _TUNNEL_KINDS, addresses=tuple(own.get(link["index"], ())),
        )
    return found


def _effective(rules: list[Any], routes: list[Any], interfaces: dict[int, Interface], version: int) -> Iterator[Route]:
    """The routes that an ordinary packet may meet, in the order of the rules."""
    by_table: dict[int, list[tuple[int, Route]]] = {}
    for message in routes:
        route = _route(message, interfaces, version)
        if route is not None:
            by_table.setdefault(_table(message, "RTA_TABLE"), []).append((message.get_attr("RTA_PRIORITY") or 0, route))
    for rule in sorted(rules, key=lambda rule: rule.get_attr("FRA_PRIORITY") or 0):
        table = _table(rule, "FRA_TABLE")
        if rule["action"] != _TO_TABLE or table == _LOCAL_TABLE or not _applies(rule):
            continue
        suppressed = rule.get_attr("FRA_SUPPRESS_PREFIXLEN")
        shortest = 0 if suppressed is None or suppressed >= 0xFFFFFFFF else suppressed + 1
        only = _destination(rule, version)
        for _, route in sorted(by_table.get(table, ()), key=lambda item: item[0]):
            if route.network.prefixlen >= shortest:
                yield from _within(route, only)


def _applies(rule: Any) -> bool:
    """Whether the rule is for a packet of an ordinary socket; its destination is looked at elsewhere."""
    mark = rule.get_attr("FRA_FWMARK") or 0
    mask = rule.get_attr("FRA_FWMASK")
    first, _, last = (rule.get_attr("FRA_UID_RANGE") or "0:4294967295").partition(":")
    incoming = rule.get_attr("FRA_IIFNAME")
    matches = (
        not mark & (0xFFFFFFFF if mask is None else mask)
        and not rule["src_len"]
        and not rule["tos"]
        and incoming in (None, "", "lo")  # "lo" stands for packets made on this machine
        and not rule.get_attr("FRA_OIFNAME")
        and not rule.get_attr("FRA_L3MDEV")
        and not any(rule.get_attr(name) for name in _NARROW)
        and int(first) <= os.geteuid() <= int(last)
    )
    return matches != bool(rule["flags"] & _INVERT and not rule["dst_len"])


def _destination(rule: Any, version: int) -> Network | None:
    """The network a rule is for ("to"); None for all. "not to" is taken for all: it leaves out one network of many."""
    if not rule["dst_len"] or rule["flags"] & _INVERT:
        return None
    return _network(rule.get_attr("FRA_DST"), rule["dst_len"], version)


def _within(route: Route, only: Network | None) -> Iterator[Route]:
    """The route, cut to the network its rule is for."""
    if only is None or route.network.subnet_of(only):  # type: ignore[arg-type]  # both are of one version
        yield route
    elif only.subnet_of(route.network):  # type: ignore[arg-type]
        yield Route(only, route.interface, route.gateway, route.table)


def _route(message: Any, interfaces: dict[int, Interface], version: int) -> Route | None:
    """One route of a dump; None when it leads nowhere."""
    if message["type"] != _UNICAST or message["flags"] & (_DEAD | _CLONED):
        return None
    index, gateway = message.get_attr("RTA_OIF"), message.get_attr("RTA_GATEWAY")
    if index is None:
        hops = message.get_attr("RTA_MULTIPATH") or []
        if not hops:
            return None
        index, gateway = hops[0]["oif"], hops[0].get_attr("RTA_GATEWAY")
    if gateway is None and (via := message.get_attr("RTA_VIA")):  # an IPv4 route by way of an IPv6 neighbour
        gateway = via.get("addr")
    interface = interfaces.get(index)
    if interface is None:
        return None
    table = _table(message, "RTA_TABLE")
    return Route(
        _network(message.get_attr("RTA_DST"), message["dst_len"], version), interface.name,
        ipaddress.ip_address(gateway) if gateway else None, _TABLE_NAMES.get(table, str(table)),
    )


def _network(address: str | None, length: int, version: int) -> Network:
    default = "0.0.0.0" if version == 4 else "::"  # noqa: S104  (a route's network)
    return ipaddress.ip_network(f"{address or default}/{length}", strict=False)


def _table(message: Any, attribute: str) -> int:
    """The whole number of a table; the header has room for numbers below 256 only."""
    table = message.get_attr(attribute)
    return int(message["table"] if table is None else table)
