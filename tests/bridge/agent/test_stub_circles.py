"""Conversations with the DNS stub: nameservers that pass every question back to it."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from dnslib import RCODE

from netbridge.bridge.agent import dnsmsg
from netbridge.bridge.agent.loop import READ

from .stub_world import OWN, SERVICE, World, addresses, says, silent

pytestmark = pytest.mark.net


class Circle:
    """A nameserver that passes every question on to the stub; `change` is what it does to it."""

    def __init__(self, world: World, address: str, change: Callable[[bytes], bytes] = lambda data: data) -> None:
        self.passed = 0
        self._server = world.server(address, silent)
        self._clients: dict[bytes, tuple[Any, bytes]] = {}
        self._change = change
        assert world.stub is not None
        self._back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._back.bind((address, 0))
        self._back.connect((world.stub.address, 53))
        world.closing.append(self._back)
        world.loop.watch(self._server.datagrams.fileno(), READ, self._forward)
        world.loop.watch(self._back.fileno(), READ, self._backward)

    def _forward(self, _events: int) -> None:
        data, client = self._server.datagrams.recvfrom(65535)
        self.passed += 1
        ident = struct.pack(">H", 0x7700 + self.passed)
        self._clients[ident] = (client, data)
        self._back.send(ident + self._change(data[2:]))

    def _backward(self, _events: int) -> None:
        reply = self._back.recv(65535)
        client, data = self._clients[reply[:2]]
        end = 12 + len(dnsmsg.parse(data).question.section)  # type: ignore[union-attr]
        self._server.datagrams.sendto(data[:2] + reply[2:12] + data[12:end] + reply[end:], client)


@pytest.mark.parametrize("own", [OWN, "127.99.7.7"])
def test_a_circle_through_the_own_server_ends_at_the_service(play: Callable[..., None], own: str) -> None:
    def conversation(world: World) -> None:
        service = world.server(SERVICE, says("2.2.2.2"))
        world.start(own=(own,))
        circle = Circle(world, own)
        began = time.monotonic()
        assert addresses(world.ask()) == ["2.2.2.2"]
        assert time.monotonic() - began < 0.15  # nobody waited for himself
        assert circle.passed == 1
        assert service.asked == ["udp www.example.org A"]
        service.behave = says(rcode=RCODE.NXDOMAIN)
        assert world.ask("unknown.example.org").header.rcode == RCODE.NXDOMAIN
        assert circle.passed == 2

    play(conversation)


def test_a_circle_that_loses_the_spelling_waits_and_asks_nobody_again(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        service = world.server(SERVICE, says("2.2.2.2"))
        running = world.start()
        circle = Circle(world, OWN, lambda data: data[:10] + data[10:].lower())
        assert addresses(world.ask()) == ["2.2.2.2"]
        assert circle.passed == 1
        assert service.asked == ["udp www.example.org A"]
        assert running._running == {}

    play(conversation)


def test_a_server_of_the_circle_that_puts_equal_questions_together(play: Callable[..., None]) -> None:
    """As dnsmasq does: asked by itself, it never answers what the stub asks it back."""

    def conversation(world: World) -> None:
        own = world.server(OWN, silent)
        service = world.server(SERVICE, says(rcode=RCODE.NXDOMAIN))
        running = world.start()
        running._circle_until = time.monotonic() + 60  # it was seen to ask us
        began = time.monotonic()
        assert world.ask("unknown.example.org").header.rcode == RCODE.NXDOMAIN
        assert 0.09 < time.monotonic() - began < 0.18
        assert len(own.asked) == len(service.asked) == 1

    play(conversation)


@pytest.mark.parametrize("mode", ["auto", "all"])
def test_a_circle_through_the_service(play: Callable[..., None], mode: str) -> None:
    """This machine's resolver asks the codespace: what comes back is SERVFAIL at once, or what the others said."""

    def conversation(world: World) -> None:
        own = world.server(OWN, says(rcode=RCODE.NXDOMAIN))
        world.start(mode)
        circle = Circle(world, SERVICE)
        began = time.monotonic()
        told = RCODE.NXDOMAIN if mode == "auto" else RCODE.SERVFAIL
        assert world.ask().header.rcode == told
        assert time.monotonic() - began < 0.15
        assert circle.passed == 1
        assert len(own.asked) == (mode == "auto")
        assert world.ask("db.corp.example").header.rcode == told  # here the service is first, and the own are left
        assert circle.passed == 2
        assert len(own.asked) == (3 if mode == "auto" else 0)

    play(conversation)


def test_two_circles_at_once(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        world.start()
        circles = Circle(world, OWN), Circle(world, SERVICE)
        for number in range(5):
            assert world.ask(f"n{number}.example.org").header.rcode == RCODE.SERVFAIL
        assert sum(circle.passed for circle in circles) <= 5 * 4
        assert world.stub is not None
        assert world.stub._running == world.stub._sent == {}

    play(conversation)


def test_a_name_without_letters_has_one_spelling_and_is_answered(play: Callable[..., None]) -> None:
    def conversation(world: World) -> None:
        own = world.server(OWN, says("1.1.1.1"))
        world.start()
        assert addresses(world.ask("1.2.3")) == ["1.1.1.1"]
        assert world.ask(".", "NS").header.rcode == RCODE.NOERROR
        assert own.asked == ["udp 1.2.3 A", "udp  NS"]

    play(conversation)
