"""This machine's part: names through a nameserver played here, real connects over loopback, real routes."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dnslib
import pytest

from netbridge.bridge.dns import Upstream
from netbridge.bridge.dns.answer import Answer, parse_answer
from netbridge.bridge.dns.message import Query
from netbridge.bridge.trace import here
from netbridge.bridge.trace.place import Place

NAMESERVER = "127.100.0.1"


class Server(asyncio.DatagramProtocol):
    """Knows www.corp.test, and nothing else."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dnslib.DNSRecord.parse(data)
        reply = query.reply()
        if query.q.qname.matchGlob("www.corp.test."):
            if query.q.qtype == dnslib.QTYPE.A:
                reply.add_answer(dnslib.RR(query.q.qname, dnslib.QTYPE.A, rdata=dnslib.A("10.1.2.3"), ttl=60))
        else:
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
        self.transport.sendto(reply.pack(), addr)  # type: ignore[attr-defined]


@asynccontextmanager
async def upstream(folder: Path, hosts: str = "") -> AsyncIterator[Upstream]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Server, local_addr=(NAMESERVER, 0))
    port = transport.get_extra_info("sockname")[1]
    (folder / "resolv.conf").write_text(f"nameserver {NAMESERVER}\nsearch else.test corp.test\n")
    (folder / "hosts").write_text(hosts)
    (folder / "nsswitch.conf").write_text("hosts: files dns\n")
    try:
        yield Upstream(
            resolv_conf=str(folder / "resolv.conf"), hosts=str(folder / "hosts"), port=port,
            nsswitch=str(folder / "nsswitch.conf"),
        )
    finally:
        transport.close()


async def test_a_short_name_goes_through_the_search_list(tmp_path: Path) -> None:
    async with upstream(tmp_path) as resolver:
        names = await here.resolve(Place("www", 0), resolver)
    assert (names.addresses, names.name, names.who, names.server) == (["10.1.2.3"], "www.corp.test", "here", NAMESERVER)
    asked = [(it.name, it.rcode) for it in names.answers]
    assert asked == [("www.else.test", "NXDOMAIN"), ("www.corp.test", "NOERROR")]


async def test_the_hosts_file_comes_first(tmp_path: Path) -> None:
    async with upstream(tmp_path, "10.9.9.9 www.corp.test\n") as resolver:
        names = await here.resolve(Place("www.corp.test", 0), resolver)
    assert (names.addresses, names.who) == (["10.9.9.9"], "hosts")


async def test_an_unknown_name_and_a_literal(tmp_path: Path) -> None:
    async with upstream(tmp_path) as resolver:
        assert (await here.resolve(Place("nobody.corp.test", 0), resolver)).addresses == []
        assert (await here.resolve(Place("fd00::1", 0), resolver)).who == "literal"


@pytest.mark.parametrize("name", ["x" * 64 + ".test", "\udcff.test", "xn--\N{SNOWMAN}"])
async def test_what_cannot_be_asked_is_an_error_not_an_exception(tmp_path: Path, name: str) -> None:
    async with upstream(tmp_path) as resolver:
        assert (await here.resolve(Place(name, 0), resolver)).addresses == []


async def test_a_chain_of_pointers_and_a_thousand_addresses(tmp_path: Path) -> None:
    """Answers are no more than bytes: nothing in them is followed, and few of their addresses are taken."""
    async with upstream(tmp_path) as resolver:
        resolver.ask = endless  # type: ignore[method-assign]
        names = await here.resolve(Place("www.corp.test.", 0), resolver)
    assert names.addresses[:2] == ["10.0.0.0", "10.0.0.1"]
    assert len(names.addresses) <= 2 * here.MOST


async def endless(query: Query) -> tuple[Answer, str]:
    """4,000 pointers, each to the one before, and 1,000 addresses of the name that the last one means."""
    begin = 12 + len(query.question) + 12
    records = b"\xc0\x0c" + struct.pack(">HHIH", 65280, 1, 60, 8000) + b"\xc0\x0c"
    records += b"".join(struct.pack(">H", 0xC000 | begin + 2 * number) for number in range(3999))
    pointer = struct.pack(">H", 0xC000 | begin + 7998)
    for number in range(1000):
        records += pointer + struct.pack(">HHIHBBH", 1, 1, 60, 4, 10, 0, number)
    return parse_answer(struct.pack(">6H", 0, 0x8180, 1, 1001, 0, 0) + query.question + records, 0, query), "x"


async def test_connects() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = await here.connect("127.0.0.1", server.getsockname()[1])
        assert (connect.code, connect.error) == ("", "")
        port = server.getsockname()[1]
    assert (await here.connect("127.0.0.1", port)).code == "ECONNREFUSED"


async def test_a_connect_that_nobody_answers_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        full = []
        for _ in range(3):  # its queue is full then, and further SYNs are dropped
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
            full.append(waiting)
        connect = await here.connect(*server.getsockname())
        for waiting in full:
            waiting.close()
    assert connect.code == "ETIMEDOUT"
    assert connect.seconds < 2


@pytest.mark.skipif(sys.platform != "linux", reason="routes are looked up by netlink")
def test_the_way_to_loopback() -> None:
    way = here.way("127.0.0.1")
    assert (way.interface, way.kind, way.source, way.error) == ("lo", "local", "127.0.0.1", "")
