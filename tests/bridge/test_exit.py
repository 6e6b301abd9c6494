"""An entrance, a link, an exit: what this machine's sockets reach is reached, and nothing else."""

from __future__ import annotations

import asyncio
import errno
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import dnslib
import pytest

import netbridge.bridge
from netbridge.bridge import Entrance, Exit
from netbridge.bridge.dns import Upstream
from netbridge.bridge.forward.policy import Policy
from netbridge.stack import LinkError, Stack, memory_link
from netbridge.stack.link import FaultLink, Faults

HERE = "127.0.0.1"
ALIAS = "10.77.0.1"
"""Stands for this machine's loopback, which no packet on a wire may name (RFC 1122, section 3.2.1.3 (g))."""
ALIASES = {socket.inet_aton(ALIAS): socket.inet_aton(HERE)}
PATIENCE = 10.0


@pytest.fixture
async def joined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[tuple[Entrance, Exit]]:
    """Both on a link that loses a packet now and then; this machine's loopback is allowed, and knows a device."""
    (tmp_path / "hosts").write_text(f"{ALIAS} device.corp.test\n")
    (tmp_path / "resolv.conf").write_text("")
    monkeypatch.setattr(
        "netbridge.bridge.exit.Upstream",
        partial(Upstream, hosts=str(tmp_path / "hosts"), resolv_conf=str(tmp_path / "resolv.conf")),
    )
    one, other = memory_link()
    lossy = FaultLink(one, seed=5, sent=Faults(loss=0.01), received=Faults(loss=0.01), offload=False)
    async with (
        asyncio.timeout(60),
        Exit(other, policy=Policy(allow=[HERE], aliases=ALIASES)) as exit_,
        Entrance(lossy) as entrance,
    ):
        yield entrance, exit_


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server of this machine that answers in capitals and closes."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data.upper())
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(shout, HERE, 0) as server:
        yield server.sockets[0].getsockname()[1]


async def asked(opened: tuple[asyncio.StreamReader, asyncio.StreamWriter], data: bytes) -> bytes:
    reader, writer = opened

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    sending = asyncio.ensure_future(send())
    answer = await reader.read()
    await sending
    writer.close()
    await writer.wait_closed()
    return answer


async def test_tcp_to_a_server_of_this_machine(joined: tuple[Entrance, Exit], echo: int) -> None:
    entrance, exit_ = joined
    data = b"hello " * 100_000
    assert await asked(await entrance.open_connection(HERE, echo), data) == data.upper()
    counted = exit_.statistics()
    assert counted.tcp.connected == 1
    assert counted.stack.tcp.bytes_in >= len(data)
    assert counted.flows == {}
    assert "flows=0" in repr(exit_)


async def test_a_closed_port_is_refused(joined: tuple[Entrance, Exit]) -> None:
    with socket.socket() as free:
        free.bind((HERE, 0))
        with pytest.raises(ConnectionRefusedError):
            await joined[0].open_connection(HERE, free.getsockname()[1])


async def test_udp(joined: tuple[Entrance, Exit]) -> None:
    class Shout(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(data.upper(), addr)

    class Hear(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.heard: asyncio.Queue[bytes] = asyncio.Queue()

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.heard.put_nowait(data)

    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(Shout, local_addr=(HERE, 0))
    client, hear = await joined[0].create_datagram_endpoint(
        Hear, remote_addr=(ALIAS, server.get_extra_info("sockname")[1])
    )
    for _ in range(20):  # the link may lose it
        client.sendto(b"datagram")
        try:
            assert await asyncio.wait_for(hear.heard.get(), 0.5) == b"DATAGRAM"
            break
        except TimeoutError:
            continue
    else:
        pytest.fail("no answer")
    assert joined[1].statistics().udp.packets_down >= 1
    server.close()


async def test_ping_through_and_of_the_exit_itself(joined: tuple[Entrance, Exit]) -> None:
    entrance, exit_ = joined
    for host in ("198.18.255.1", "fd6e:6272:ff::1", ALIAS):
        for _ in range(5):
            try:
                assert await entrance.ping(host) < 1
                break
            except TimeoutError:
                continue
            except PermissionError:
                pytest.skip("this machine's kernel gives this user no ICMP socket")
        else:
            pytest.fail(f"{host} does not answer")
    assert exit_.statistics().icmp.packets_down >= 1


async def test_what_the_policy_denies_is_prohibited(echo: int) -> None:
    one, other = memory_link()
    async with Exit(other) as exit_, Entrance(one) as entrance:
        for host in (HERE, "169.254.169.254"):
            with pytest.raises(PermissionError):
                await entrance.open_connection(host, echo)
        assert exit_.statistics().tcp.dropped_policy == 2


async def test_routes_confine_both_ends(echo: int) -> None:
    one, other = memory_link()
    policy = Policy(allow=[HERE, "127.0.0.2"])
    async with (
        Exit(other, routes=["127.0.0.1/32"], policy=policy) as exit_,
        Entrance(one, routes=["127.0.0.0/8"]) as entrance,
    ):
        assert await asked(await entrance.open_connection(HERE, echo), b"x") == b"X"
        with pytest.raises(PermissionError):
            await entrance.open_connection("127.0.0.2", echo)
        with pytest.raises(OSError, match="unreachable") as caught:
            await entrance.open_connection("10.0.0.1", echo)
        assert caught.value.errno == errno.ENETUNREACH
        assert exit_.statistics().tcp.dropped_policy == 1


def test_routes_of_a_policy() -> None:
    policy = Policy(allow=["127.0.0.1"])

    def packed(text: str) -> bytes:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)

    assert policy.check(packed("10.0.0.1"), 80, 6)
    policy.confine(["192.168.0.0/16", "64:ff9b::/96", "::/1"])
    for reached in ("192.168.3.4", "64:ff9b::8.8.8.8", "1::1", "::ffff:192.168.3.4"):
        assert policy.check(packed(reached), 80, 6), reached
    for other in ("10.0.0.1", "127.0.0.1", "fd00::1", "::ffff:10.0.0.1", "::1"):
        assert not policy.check(packed(other), 80, 6), other
    assert policy.check(packed("10.0.0.1"), 80, 6).reason == "no route leads there"
    with pytest.raises(ValueError, match="host bits"):
        policy.confine(["10.0.0.1/8"])


def test_a_policy_of_two_exits_is_not_widened_by_the_second() -> None:
    policy = Policy()
    narrow, wide = (memory_link()[0] for _ in range(2))
    Exit(narrow, ["10.0.0.0/8"], policy=policy)
    assert not policy.check(socket.inet_aton("192.168.1.1"), 80, 6)
    Exit(wide, ["0.0.0.0/0"], policy=policy)
    assert not policy.check(socket.inet_aton("192.168.1.1"), 80, 6)
    assert policy.check(socket.inet_aton("10.1.1.1"), 80, 6)


# -- names


async def test_names_are_asked_for_at_the_exit(joined: tuple[Entrance, Exit]) -> None:
    entrance, exit_ = joined
    assert await entrance.resolve("device.corp.test") == [ALIAS]
    assert await entrance.resolve("10.1.2.3") == ["10.1.2.3"]
    assert await entrance.resolve("fd00::1") == ["fd00::1"]
    counted = exit_.statistics().dns
    assert counted is not None
    assert counted.positive >= 1
    entrance.resolver = None
    assert HERE in await entrance.resolve("localhost")
    assert exit_.statistics().dns == counted
    with pytest.raises(socket.gaierror, match="cannot be a name"):
        entrance.resolver = "198.18.255.1"
        await entrance.resolve("a" * 64 + ".test")


class Nameserver(asyncio.DatagramProtocol):
    """Answers by name: A record, nothing, SERVFAIL, silence, the truth by TCP only."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def answer(self, data: bytes, *, tcp: bool) -> bytes | None:
        query = dnslib.DNSRecord.parse(data)
        name = str(query.q.qname).rstrip(".")
        self.asked.append(name)
        reply = query.reply()
        if name == "silent.test":
            return None
        if name == "broken.test":
            reply.header.rcode = dnslib.RCODE.SERVFAIL
        elif name == "nobody.test":
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
        elif name == "long.test" and not tcp:
            reply.header.tc = 1
        elif query.q.qtype == dnslib.QTYPE.A:
            reply.add_answer(dnslib.RR(name, dnslib.QTYPE.CNAME, rdata=dnslib.CNAME("other.test")))
            reply.add_answer(dnslib.RR("other.test", dnslib.QTYPE.A, rdata=dnslib.A("10.9.9.9")))
        packed: bytes = reply.pack()
        return packed

    def datagram_received(self, data: bytes, addr: Any) -> None:
        wrong = dnslib.DNSRecord.parse(data).reply()
        wrong.header.id ^= 1
        for reply in (b"nonsense", wrong.pack(), self.answer(data, tcp=False)):
            if reply is not None:
                self.transport.sendto(reply, addr)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        reply = self.answer(await reader.readexactly(size), tcp=True)
        assert reply is not None
        writer.write(len(reply).to_bytes(2, "big") + reply)
        writer.close()


async def test_a_nameserver_and_all_it_can_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netbridge.bridge.exitnames.TRIES", (0.05, 0.05))
    one, other = memory_link()
    async with (
        Stack(other, ["10.0.0.2/24"]) as there,
        Entrance(one, ["10.0.0.1/24", "fd00::1/64"], resolver="10.0.0.2") as entrance,
    ):
        with pytest.raises(socket.gaierror, match="could not be asked") as caught:
            await entrance.resolve("anything.test")
        assert caught.value.errno == socket.EAI_AGAIN
        _, nameserver = await there.create_datagram_endpoint(Nameserver, local_addr=("10.0.0.2", 53))
        await there.start_server(nameserver.talk, "10.0.0.2", 53)
        assert await entrance.resolve("there.test") == ["10.9.9.9"]
        monkeypatch.setattr("netbridge.bridge.exitnames.TRIES", (5.0,))
        assert await entrance.resolve("long.test") == ["10.9.9.9"]
        for name, number in (("nobody.test", socket.EAI_NONAME), ("broken.test", socket.EAI_AGAIN)):
            with pytest.raises(socket.gaierror) as caught:
                await entrance.resolve(name)
            assert caught.value.errno == number
        monkeypatch.setattr("netbridge.bridge.exitnames.TRIES", (0.05, 0.05))
        nameserver.asked.clear()
        with pytest.raises(socket.gaierror, match="does not answer"):
            await entrance.resolve("silent.test")
        assert nameserver.asked == ["silent.test"] * 4  # both versions, twice


# -- a local port


async def test_a_local_port_leads_through(joined: tuple[Entrance, Exit], echo: int) -> None:
    entrance, exit_ = joined
    async with await entrance.forward("device.corp.test", echo) as server:
        host, port = server.sockets[0].getsockname()
        data = b"forwarded " * 50_000
        assert await asked(await asyncio.open_connection(host, port), data) == data.upper()
        with socket.socket() as free:
            free.bind((HERE, 0))
            async with await entrance.forward(HERE, free.getsockname()[1]) as dead:
                reader, writer = await asyncio.open_connection(*dead.sockets[0].getsockname())
                with pytest.raises(ConnectionResetError):
                    if not await asyncio.wait_for(reader.read(), PATIENCE):
                        raise ConnectionResetError
                writer.close()
    assert exit_.statistics().tcp.connected >= 1


# -- life


async def test_the_end_of_the_link_is_told() -> None:
    one, other = memory_link()
    async with Exit(other) as exit_:
        async with Entrance(one):
            waiting = asyncio.ensure_future(exit_.wait_closed())
            await asyncio.sleep(0)
            assert not waiting.done()
        with pytest.raises(LinkError, match="closed the link"):
            await asyncio.wait_for(waiting, PATIENCE)
    one, other = memory_link()
    async with Exit(other, dns=False) as exit_:
        exit_.stack.close()
        await asyncio.wait_for(exit_.wait_closed(), PATIENCE)  # closed as asked
        assert exit_.statistics().dns is None


async def test_what_is_not_started_says_so() -> None:
    exit_ = Exit(memory_link()[0])
    with pytest.raises(RuntimeError, match="not started"):
        exit_.statistics()
    with pytest.raises(RuntimeError, match="not started"):
        await exit_.wait_closed()


async def test_leaving_resets_open_flows(echo: int) -> None:
    one, other = memory_link()
    async with Entrance(one) as entrance:
        async with Exit(other, policy=Policy(allow=[HERE])):
            reader, writer = await entrance.open_connection(HERE, echo)
            writer.write(b"x")
            assert await reader.read(1) == b"X"
        with pytest.raises(ConnectionError):
            await reader.read()
        writer.close()


async def test_arguments_that_make_no_sense() -> None:
    wrong: list[dict[str, Any]] = [{"routes": ["10.0.0.1/8"]}, {"addresses": []}, {"mtu": 5}]
    for more in wrong:
        with pytest.raises(ValueError, match=r"host bits|address|MTU"):
            Exit(memory_link()[0], **more)


def test_the_package_is_light_until_they_are_asked_for() -> None:
    program = (
        "import sys, netbridge.bridge as bridge\n"
        "assert 'netbridge.stack' not in sys.modules\n"
        "from netbridge.bridge import Entrance, Exit\n"
        "assert issubclass(Entrance, sys.modules['netbridge.stack'].Stack)\n"
    )
    source = Path(netbridge.bridge.__file__).parents[1].parent
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": str(source)})
    with pytest.raises(AttributeError):
        netbridge.bridge.Nothing  # noqa: B018
