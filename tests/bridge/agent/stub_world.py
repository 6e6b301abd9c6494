"""What the stub's conversations happen in: an agent loop, the stub, its clients and fake nameservers on 127.x port 53.

All of it in one private network namespace; the times the stub waits are a tenth of the real ones.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from dnslib import AAAA, QTYPE, RR, A, DNSRecord

from netbridge.bridge.agent.loop import READ, Loop
from netbridge.bridge.agent.netlink import Netlink
from netbridge.bridge.agent.stub import Stub

OWN, OTHER, SERVICE = "127.99.0.1", "127.99.0.2", "127.98.0.1"
Behaviour = Callable[[DNSRecord], "bytes | list[bytes] | None"]


def says(address: str = "", rcode: int = 0, *, truncated: bool = False) -> Behaviour:
    """Answers with one A record, or with nothing but an rcode."""

    def behave(query: DNSRecord) -> bytes:
        reply = query.reply()
        reply.header.rcode = rcode
        reply.header.tc = truncated
        if address and query.q.qtype == QTYPE.A:
            reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A(address), ttl=60))
        elif address and query.q.qtype == QTYPE.AAAA:
            reply.add_answer(RR(query.q.qname, QTYPE.AAAA, rdata=AAAA("::" + address), ttl=60))
        return bytes(reply.pack())

    return behave


def silent(query: DNSRecord) -> None:
    return None


class Server:
    """A fake nameserver, on UDP and TCP."""

    def __init__(self, world: World, address: str, behave: Behaviour) -> None:
        self.asked: list[str] = []
        self.behave = behave
        self.world = world
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.open: list[socket.socket] = [self.datagrams, self.listener]
        for own in self.open:
            own.bind((address, 53))
        self.listener.listen()
        world.loop.watch(self.datagrams.fileno(), READ, self._datagram)
        world.loop.watch(self.listener.fileno(), READ, self._connection)

    def _note(self, data: bytes, kind: str) -> list[bytes]:
        query = DNSRecord.parse(data)
        self.asked.append(f"{kind} {str(query.q.qname).rstrip('.').lower()} {QTYPE[query.q.qtype]}")
        reply = self.behave(query)
        return reply if isinstance(reply, list) else [reply] if reply else []

    def _datagram(self, _events: int) -> None:
        data, client = self.datagrams.recvfrom(65535)
        for reply in self._note(data, "udp"):
            self.datagrams.sendto(reply, client)

    def _connection(self, _events: int) -> None:
        connection, _ = self.listener.accept()
        self.open.append(connection)

        def readable(_events: int) -> None:
            data = connection.recv(65535)
            if data:
                for reply in self._note(data[2:], "tcp"):
                    for byte in struct.pack(">H", len(reply)) + reply:
                        connection.send(bytes([byte]))
            else:
                self.world.loop.unwatch(connection.fileno())

        self.world.loop.watch(connection.fileno(), READ, readable)

    def close(self) -> None:
        for own in self.open:
            self.world.loop.unwatch(own.fileno())
            own.close()


class World:
    """The loop, the stub and its surroundings."""

    def __init__(self) -> None:
        netlink = Netlink()
        for link in netlink.links():
            if link.name == "lo":
                netlink.set_link(link.interface, up=True)
        netlink.close()
        self.loop = Loop()
        self.closing: list[Any] = []
        self.stub: Stub | None = None

    def server(self, address: str, behave: Behaviour) -> Server:
        server = Server(self, address, behave)
        self.closing.append(server)
        return server

    def start(self, mode: str = "auto", own: tuple[str, ...] = (OWN,), service: tuple[str, ...] = (SERVICE,)) -> Stub:
        self.stub = Stub(self.loop, mode, service, own, ["corp.example", ".168.192.in-addr.arpa"])
        self.closing.append(self.stub)
        return self.stub

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Serve for so long, or until something is the case."""
        deadline = time.monotonic() + seconds

        def look() -> None:
            if until() or time.monotonic() >= deadline:
                self.loop.stop()
            else:
                self.loop.call_later(0.002, look)

        self.loop._running = True
        look()
        self.loop.run()

    def ask(self, name: str = "www.example.org", kind: str = "A", *, seconds: float = 3.0) -> DNSRecord:
        """The stub's answer to a question over UDP."""
        client = self.client()
        query = DNSRecord.question(name, kind)
        client.send(query.pack())
        replies = self.replies(client, 1, seconds)
        assert replies, "no answer"
        assert replies[0].header.id == query.header.id
        assert replies[0].q.qname == query.q.qname
        return replies[0]

    def client(self) -> socket.socket:
        assert self.stub is not None
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect((self.stub.address, 53))
        self.closing.append(client)
        return client

    def replies(self, client: socket.socket, count: int, seconds: float) -> list[DNSRecord]:
        found: list[DNSRecord] = []
        self.loop.watch(client.fileno(), READ, lambda _events: found.append(DNSRecord.parse(client.recv(65535))))
        self.run(seconds, lambda: len(found) >= count)
        self.loop.unwatch(client.fileno())
        return found

    def close(self) -> None:
        for thing in reversed(self.closing):
            thing.close()
        self.loop.close()


def addresses(reply: DNSRecord) -> list[str]:
    return [str(answer.rdata) for answer in reply.rr]
