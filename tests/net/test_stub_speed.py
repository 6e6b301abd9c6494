"""What the stub costs: names that the codespace resolves by itself make no detour, and a flood stops nobody."""

from __future__ import annotations

import socket
import statistics
import struct
import time
from collections.abc import Callable

import pytest
from dnslib import DNSRecord

from tests.world import Bridge, World
from tests.world.addresses import CODESPACE_RESOLVER, CORP

from .conftest import TARGET
from .watch import counter

pytestmark = [pytest.mark.net, pytest.mark.alone]

Start = Callable[..., Bridge]
STUB = "127.83.0.1"
QUESTIONS = 1000
ADDED = 0.003
"""Seconds; the median is some 0.2 ms on an idle machine."""


def medians(world: World, name: str, *servers: str) -> list[float]:
    """Seconds from question to answer, the median of QUESTIONS for each server; in turns, so that they share the
    machine's moods. As dig does it: each from a socket of its own."""
    query = DNSRecord.question(name).pack()

    def measure() -> list[float]:
        found: dict[str, list[float]] = {server: [] for server in servers}
        for number in range(QUESTIONS):
            for server in servers:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.settimeout(5)
                    client.connect((server, 53))
                    began = time.perf_counter()
                    client.send(struct.pack(">H", number) + query[2:])
                    reply = client.recv(4096)
                    found[server].append(time.perf_counter() - began)
                assert reply[:2] == struct.pack(">H", number)
                assert reply[3] & 15 == 0
        return [statistics.median(times) for times in found.values()]

    return world.codespace.inside(measure)


def test_the_codespaces_own_names_cost_no_detour(idle: World, start: Start) -> None:
    bridge = start(TARGET, "--ssh", "openssh").ready()
    before = counter(bridge, "dns.udp_queries")
    alone, stubs = medians(idle, "www.public.test", CODESPACE_RESOLVER, STUB)
    print(f"median of {QUESTIONS}: {alone * 1e3:.3f} ms without the stub, {stubs * 1e3:.3f} ms with it")
    assert stubs - alone < ADDED
    assert counter(bridge, "dns.udp_queries") == before  # this machine was not asked


def test_a_flood_of_questions_stops_neither_names_nor_packets(idle: World, start: Start) -> None:
    """Unknown names, from many ports and from clients that are gone when the answer comes."""
    bridge = start(TARGET, "--ssh", "openssh").ready()
    query = DNSRecord.question("x0000.flood.test").pack()
    answered, slowest = 0, 0.0

    def flood() -> None:
        nonlocal answered, slowest
        began, number = time.monotonic(), 0
        while time.monotonic() - began < 3:
            for _ in range(40):
                number += 1
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
                    gone.sendto(query.replace(b"x0000", b"x%04d" % (number % 10_000)), (STUB, 53))
            asked = time.monotonic()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(3)
                client.connect((STUB, 53))
                client.send(DNSRecord.question("www.public.test").pack())
                try:
                    client.recv(4096)
                    answered += 1
                except TimeoutError:
                    pass
            slowest = max(slowest, time.monotonic() - asked)
        print(f"{number} questions of the flood; {answered} others answered, the slowest after {slowest * 1e3:.0f} ms")

    with idle.corp.listen(CORP[4]) as listener:
        client = idle.codespace.connect(CORP[4], listener.getsockname()[1])
        with client, listener.accept()[0] as server:
            idle.codespace.inside(flood)
            server.sendall(b"still here")
            client.settimeout(5)
            assert client.recv(100) == b"still here"
    assert answered > 10
    assert slowest < 3
    assert idle.codespace.run("dig", "+short", "+tries=1", "v4only.corp.test").stdout == f"{CORP[4]}\n"
    assert bridge.program.running
