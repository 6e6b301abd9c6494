"""The agent's part of a trace: routes as `ip` shows them, nameservers one by one, and messages that are nonsense.

Each in a private network namespace, on one agent loop, with nameservers played at 127.x port 53.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dnslib
import pytest

from netbridge.bridge.agent import dnsask, resolvconf, tracing
from netbridge.bridge.agent.loop import READ, Loop
from netbridge.bridge.agent.netlink import Netlink
from netbridge.bridge.agent.routelookup import lookup
from netbridge.bridge.agent.tracing import Tracing, candidates, in_hosts, ndots
from netbridge.bridge.errors import BridgeError
from netbridge.stack.link.base import LinkError

from .conftest import SETUP, Place

pytestmark = pytest.mark.net

OWN, SERVICE = "127.99.0.1", "127.98.0.1"


def network() -> None:
    """Loopback, and a link with a gateway and some routes that lead nowhere."""
    for line in (
        "link set lo up", "link add br0 type bridge", "link set br0 up", "addr add 192.0.2.2/24 dev br0",
        "route add 10.0.0.0/8 via 192.0.2.1", "route add unreachable 10.9.0.0/16", "route add prohibit 10.8.0.0/16",
        "route add blackhole 10.7.0.0/16", "route add 10.6.0.0/16 dev br0 table 77", "rule add to 10.6.0.0/16 table 77",
    ):
        subprocess.run(["ip", *line.split()], check=True)


class Bench:
    """A Tracing on a loop of its own in a network of its own, and nameservers beside it."""

    def __init__(self) -> None:
        network()
        self.loop = Loop()
        self.netlink = Netlink()
        self.told: list[dict[str, Any]] = []
        self.tracing = Tracing(self.loop, self.netlink, self.told.append)
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.tracing.close()
        for sock in self._sockets:
            self.loop.unwatch(sock.fileno())
            sock.close()
        self.netlink.close()
        self.loop.close()

    def silent(self, address: str) -> socket.socket:
        """A nameserver that takes questions and says nothing."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, 53))
        self._sockets.append(sock)
        return sock

    def nameserver(self, address: str, knows: dict[str, str]) -> list[str]:
        """One that knows these A records; the names it was asked for are collected."""
        asked: list[str] = []
        sock = self.silent(address)

        def readable(_events: int) -> None:
            data, client = sock.recvfrom(65535)
            query = dnslib.DNSRecord.parse(data)
            name = str(query.q.qname).rstrip(".")
            asked.append(name)
            reply = query.reply()
            if name not in knows:
                reply.header.rcode = dnslib.RCODE.NXDOMAIN
            elif query.q.qtype == dnslib.QTYPE.A:
                reply.add_answer(dnslib.RR(query.q.qname, query.q.qtype, rdata=dnslib.A(knows[name]), ttl=1))
            sock.sendto(reply.pack(), client)

        self.loop.watch(sock.fileno(), READ, readable)
        return asked

    def run(self, until: Callable[[], object], seconds: float = 12.0) -> None:
        """Run the loop until something is so."""

        def look() -> None:
            if until() or time.monotonic() > deadline:
                self.loop.stop()
            else:
                self.loop.call_later(0.01, look)

        deadline = time.monotonic() + seconds
        self.loop.call_later(0.0, look)
        self.loop._running = True
        self.loop.run()
        assert until(), f"not within {seconds:g} s"

    def trace(self, **fields: Any) -> dict[str, Any]:
        """Ask, and wait for the answer."""
        before = len(self.told)
        self.tracing.ask({"number": before, **fields})
        self.run(lambda: len(self.told) > before)
        return self.told[-1]


def test_routes_are_those_that_ip_shows(in_network: Callable[..., Any]) -> None:
    def body() -> None:
        network()
        netlink = Netlink()
        try:
            found = lookup(netlink, ip_address("10.1.2.3"))
            (shown,) = json.loads(subprocess.check_output(["ip", "-j", "route", "get", "10.1.2.3"]))
            assert (found["interface"], found["gateway"], found["source"]) == (
                shown["dev"], shown["gateway"], shown["prefsrc"],
            )  # fmt: skip
            assert (found["route"], found["kind"], found["error"]) == ("10.0.0.0/8", "unicast", "")
            assert lookup(netlink, ip_address("192.0.2.9"))["route"] == "192.0.2.0/24"
            assert lookup(netlink, ip_address("10.6.0.1"))["route"] == "10.6.0.0/16"  # by a rule, in another table
            assert lookup(netlink, ip_address("192.0.2.2"))["kind"] == "local"
            assert lookup(netlink, ip_address("10.9.0.1"))["error"] == "No route to host"
            assert lookup(netlink, ip_address("10.8.0.1"))["error"] == "Permission denied"
            assert lookup(netlink, ip_address("10.7.0.1"))["error"]
            assert lookup(netlink, ip_address("203.0.113.1"))["error"] == "Network is unreachable"
            assert lookup(netlink, ip_address("::1"))["interface"] == "lo"
            assert netlink.links()  # the conversation is still in step
        finally:
            netlink.close()

    in_network(body)


@pytest.mark.parametrize(("host", "dots", "expected"), [
    ("www", 1, ["www.a", "www.b", "www"]), ("www.c", 1, ["www.c", "www.c.a", "www.c.b"]),
    ("www.c", 5, ["www.c.a", "www.c.b", "www.c"]), ("www.c.", 5, ["www.c"]),
])
def test_what_a_name_may_stand_for(host: str, dots: int, expected: list[str]) -> None:
    assert candidates(host, ["a", ".b.", ""], dots) == expected


def test_few_full_names_are_tried() -> None:
    assert len(candidates("www", [f"s{number}" for number in range(32)])) == tracing.NAMES


def test_the_hosts_file_and_options(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("10.0.0.1 Db.corp db # db2\n#10.0.0.2 db\nfd00::1 db\n")
    assert in_hosts("DB", str(tmp_path / "hosts")) == ["10.0.0.1", "fd00::1"]
    assert in_hosts("db2", str(tmp_path / "hosts")) == in_hosts("db", str(tmp_path / "none")) == []
    assert (ndots(b"options edns0 ndots:5\n"), ndots(b""), ndots(b"options ndots:x")) == (5, 1, 1)


def test_each_nameserver_is_asked_by_itself(in_network: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own resolver knows nothing here; both nameservers are heard, the silent one is named."""
    text = f"search corp.example\nnameserver {OWN}\nnameserver 127.99.0.77\nnameserver 127.83.0.1\n".encode()
    monkeypatch.setattr(resolvconf, "read", lambda: text)
    monkeypatch.setattr(tracing, "ASK_SECONDS", 0.3)

    def body() -> dict[str, Any]:
        with Bench() as bench:
            asked = bench.nameserver(OWN, {})
            bench.nameserver(SERVICE, {"www.corp.example": "10.1.2.3"})
            bench.silent("127.99.0.77")
            told = bench.trace(host="www", port=80, service=[SERVICE], tun="nb0")
            assert {"www", "www.corp.example"} <= set(asked)
            return told

    message = in_network(body)
    assert (message["type"], message["number"], message["search"]) == ("traced", 0, ["corp.example"])
    assert message["nameservers"] == [OWN, "127.99.0.77"]  # ours is none of them
    by_name = {(it["who"], it["server"], it["name"]): it for it in message["answers"]}
    assert by_name["bridge", SERVICE, "www.corp.example"]["addresses"] == ["10.1.2.3"]
    assert by_name["own", OWN, "www.corp.example"]["rcode"] == "NXDOMAIN"
    assert by_name["own", "127.99.0.77", "www"]["error"].startswith("no answer")
    json.dumps(message)


def test_what_is_not_carried_is_tried_from_here(in_network: Callable[..., Any]) -> None:
    def body() -> list[dict[str, Any]]:
        with Bench() as bench:
            with socket.create_server(("192.0.2.2", 0)) as server:
                port = server.getsockname()[1]
                bench.trace(host="192.0.2.2", port=port, tun="nb0")
            bench.trace(host="192.0.2.2", port=port, tun="nb0")
            bench.trace(host="192.0.2.2", port=port, tun="lo")  # as if that led to the bridge
            bench.trace(host="10.1.2.3", tun="nb0")
            return bench.told

    told = in_network(body)
    assert [it["addresses"][0]["connect"] and it["addresses"][0]["connect"]["code"] for it in told] == [
        "", "ECONNREFUSED", None, None,
    ]  # fmt: skip


def test_too_many_and_the_end(in_network: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than are traced at a time is told so at once; after `close` nobody is answered any more."""
    monkeypatch.setattr(resolvconf, "read", lambda: b"nameserver 127.99.0.77\n")

    def body() -> list[dict[str, Any]]:
        with Bench() as bench:
            bench.silent("127.99.0.77")
            for number in range(tracing.MOST + 1):
                bench.tracing.ask({"number": number, "host": "www.corp.example", "port": 0})
            assert [it["number"] for it in bench.told] == [tracing.MOST]
            bench.tracing.close()
            deadline = time.monotonic() + 0.3
            bench.run(lambda: time.monotonic() > deadline)
            return bench.told

    assert len(in_network(body)) == 1


@pytest.mark.parametrize("reply", [
    b"", b"\0" * 11, b"\0" * 12, b"\xff" * 600, b"\0\0\x80\0\0\1\0\1\0\0\0\0\3www",
    b"\0\0\x80\0\0\0\0\1\0\0\0\0\xc0\x0c\0\1\0\1\0\0\0\1\0\4\1\2", b"\0\0\x80\0\0\0\xff\xff\0\0\0\0" + b"\xc0" * 400,
])
def test_replies_that_are_none_have_no_addresses(reply: bytes) -> None:
    assert dnsask.addresses(reply) == []


@pytest.mark.parametrize("name", ["x" * 64, "a..b", ".".join(["x" * 60] * 5)])
def test_names_that_are_none_are_not_asked(name: str) -> None:
    with pytest.raises(ValueError):
        dnsask.query(name, dnsask.A)


def test_a_question_is_as_others_read_it() -> None:
    asked = dnslib.DNSRecord.parse(dnsask.query("Www.corp.test.", dnsask.AAAA)).q
    assert (str(asked.qname), asked.qtype, asked.qclass) == ("Www.corp.test.", dnslib.QTYPE.AAAA, 1)
    assert dnslib.DNSRecord.parse(dnsask.query("", dnsask.NS)).q.qname == "."


async def test_probing_changes_nothing_and_tells(place: Place) -> None:
    """Before `setup`, as the doctor asks; a TUN of ours does not stay."""
    agent = await place.agent()
    enter = place.enter(agent)
    before = subprocess.check_output([*enter, "ip", "-o", "link"])
    resolv = place.resolv_conf.read_bytes()
    found = await agent.probe()
    assert found["tun"] == {"node": True, "code": "", "detail": "", "offload": True}
    assert found["packet"]["code"] == "no_packet"  # there is no default route here
    assert found["capabilities"]["net_admin"] is True
    assert found["resolv_conf"] == {"exists": True, "link": "", "error": "", "edited": False}
    assert [it["server"] for it in found["nameservers"]] == ["127.99.0.1"]
    assert found["nameservers"][0]["rcode"] == ""
    assert subprocess.check_output([*enter, "ip", "-o", "link"]) == before
    assert place.resolv_conf.read_bytes() == resolv
    assert len("".join((await agent.probe(fill=300_000))["data"])) == 300_000
    assert len("".join((await agent.probe(fill=1 << 40))["data"])) < 1 << 20
    with pytest.raises(BridgeError):
        await agent.probe(fill="much")
    await agent.stop()


async def test_traces_wait_for_nothing_else(place: Place) -> None:
    """While one waits for a dead resolver, routes change and other traces are answered."""
    agent = await place.agent()
    await agent.setup(SETUP)
    slow = asyncio.ensure_future(agent.trace({"host": "www.nowhere.example", "port": 0, "service": []}, 20.0))
    await asyncio.sleep(0)
    quick = await agent.trace({"host": "10.1.2.3", "port": 0, "service": [], "tun": "nb0"}, 5.0)
    assert quick["addresses"][0]["interface"] == "nb0"
    assert (await agent.change_routes(["10.1.0.0/16"], []))["routes"] == ["10.1.0.0/16"]
    assert not slow.done()
    await agent.stop()
    with pytest.raises(LinkError):  # a trace ends with its agent
        await slow


async def test_a_trace_that_is_nonsense_harms_nobody(place: Place) -> None:
    agent = await place.agent()
    await agent.setup({**SETUP, "dns": {**SETUP["dns"], "mode": "off"}})
    for request in ({"host": "x" * 5000, "port": 80}, {"host": "a\0b"}, {"host": "\udcff"}, {"host": "", "port": 1}):
        told = await agent.trace({"service": [], **request}, 20.0)
        assert told["system"]["addresses"] in ([], ["127.0.0.1"], ["::1"])
    with pytest.raises(TimeoutError):
        await agent.trace({"port": "much"}, 0.5)
    assert (await agent.change_routes(["10.1.0.0/16"], []))["routes"]
    await agent.stop()
