"""The DNS service on our own stack, asked from another one: UDP, truncation and TCP all the way."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from typing import Any

import dnslib
import pytest
from dnslib import RR

from netbridge.bridge.dns import DnsService, streams
from netbridge.stack import Stack, memory_link
from netbridge.stack.tcp.config import TcpConfig

SERVICE = ("198.18.0.1", "fd6e:6272::1")


class Client(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.answers.put_nowait(data)


def many(query: bytes) -> list[bytes]:
    record = dnslib.DNSRecord.parse(query).reply()
    record.add_answer(*[
        each for number in range(100) for each in RR.fromZone(f"host.example 60 IN A 10.0.0.{number}")
    ])
    return [bytes(record.pack())]


async def test_both_versions_of_ip_over_udp_then_tcp(world: Any) -> None:
    server = await world.nameserver()
    server.behave = many
    server.behave_tcp = many
    here, there = memory_link()
    async with (
        Stack(here, [f"{SERVICE[0]}/30", f"{SERVICE[1]}/64"]) as local,
        Stack(there, ["198.18.0.2/30", "fd6e:6272::2/64"]) as remote,
        DnsService(local, SERVICE, world.upstream(own_addresses=SERVICE)) as service,
        asyncio.timeout(10),
    ):
        question = bytes(dnslib.DNSRecord.question("host.example").pack())
        for address in SERVICE:
            transport, client = await remote.create_datagram_endpoint(Client, remote_addr=(address, 53))
            transport.sendto(question)
            assert dnslib.DNSRecord.parse(await client.answers.get()).header.tc
            transport.sendto(b"garbage that is long enough")
            assert (await client.answers.get())[3] & 15 in (1, 4)
            transport.close()
            reader, writer = await remote.open_connection(address, 53)
            writer.write(struct.pack(">H", len(question)) + question)
            (length,) = struct.unpack(">H", await reader.readexactly(2))
            assert len(dnslib.DNSRecord.parse(await reader.readexactly(length)).rr) == 100
            writer.close()
        assert service.counters.udp_queries == 4
        assert service.counters.tcp_connections == 2
        assert len(server.queries) == 1


async def test_who_asks_says_goodbye_and_reads_nothing_counts_until_it_is_cut(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers cost memory as long as they wait, so it has a place, and loses place and answers after a while."""
    monkeypatch.setattr(streams, "MAX_CONNECTIONS", 1)
    (await world.nameserver()).behave_tcp = many
    here, there = memory_link()
    async with (
        Stack(here, [f"{SERVICE[0]}/30"]) as local,
        Stack(there, ["198.18.0.2/30"], tcp=TcpConfig(receive_window=4000, max_receive_window=4000)) as remote,
        DnsService(local, SERVICE[:1], world.upstream()) as service,
        asyncio.timeout(10),
    ):
        service._streams.idle = 0.3
        question = bytes(dnslib.DNSRecord.question("host.example").pack())
        reader, writer = await remote.open_connection(SERVICE[0], 53, limit=1)
        writer.write((struct.pack(">H", len(question)) + question) * 30)
        writer.write_eof()
        while service.counters.tcp_queries < 30:
            await asyncio.sleep(0.001)
        other, other_writer = await remote.open_connection(SERVICE[0], 53)
        with pytest.raises(ConnectionResetError):
            await other.readexactly(1)
        other_writer.close()
        assert service.counters.tcp_refused == 1
        while local.tcp.flows:
            await asyncio.sleep(0.01)
        got = b""
        with suppress(ConnectionResetError):
            got = await reader.read()
        assert len(got) < 30 * 1000
        writer.close()
        reader, writer = await remote.open_connection(SERVICE[0], 53)
        writer.write(struct.pack(">H", len(question)) + question)
        await reader.readexactly(2)
        writer.close()


async def test_leaving_with_a_connection_open(world: Any) -> None:
    here, there = memory_link()
    async with Stack(here, [f"{SERVICE[0]}/30"]) as local, Stack(there, ["198.18.0.2/30"]) as remote:
        async with asyncio.timeout(5):
            async with DnsService(local, SERVICE[:1], world.upstream()) as service:
                reader, writer = await remote.open_connection(SERVICE[0], 53)
                while not service.counters.tcp_connections:
                    await asyncio.sleep(0.001)
            with_error = await asyncio.gather(reader.read(), return_exceptions=True)
            assert with_error[0] == b"" or isinstance(with_error[0], ConnectionError)
            writer.close()
