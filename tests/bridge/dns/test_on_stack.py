"""The DNS service on our own stack, asked from another one: UDP, truncation and TCP all the way."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import dnslib
from dnslib import RR

from netbridge.bridge.dns import DnsService
from netbridge.stack import Stack, memory_link

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
