from __future__ import annotations

import asyncio
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6

from netbridge.stack.udp.transport import UdpTransport, open_endpoint
from tests.stack.fake import CLIENT4, CLIENT6, GATEWAY4, GATEWAY6, FakeStack, packed, whole


class Protocol(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.events: list[Any] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.events.append((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.events.append(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(("lost", exc))


def opened(
    stack: FakeStack, port: int = 53, *, remote: tuple[str, int] | None = None, any_address: bool = False,
) -> tuple[UdpTransport, Protocol]:
    gateway = packed(GATEWAY4)
    return open_endpoint(
        stack.udp, Protocol, gateway, (bytes(4) if any_address else gateway, port),
        remote and (packed(remote[0]), remote[1]),
    )


async def test_a_server_as_asyncio_runs_it() -> None:
    stack = FakeStack()
    transport, protocol = opened(stack)
    assert transport.get_extra_info("sockname") == (GATEWAY4, 53)
    assert transport.get_extra_info("peername") is None
    stack.udp.packet_received(whole(IP(src=CLIENT4, dst=GATEWAY4) / UDP(sport=5000, dport=53) / b""))
    assert protocol.events == ["made", (b"", (CLIENT4, 5000))]
    transport.sendto(bytearray(b"answer"), (CLIENT4, 5000))
    transport.sendto(b"", (CLIENT4, 5000))
    answer, empty = stack.sent()
    assert (answer.src, answer[UDP].sport, answer[UDP].dport) == (GATEWAY4, 53, 5000)
    assert bytes(answer[UDP].payload) == b"answer"
    assert empty[UDP].len == 8
    with pytest.raises(ValueError, match="not connected"):
        transport.sendto(b"nowhere")


async def test_ipv6_addresses_have_four_parts() -> None:
    stack = FakeStack()
    transport, protocol = open_endpoint(stack.udp, Protocol, packed(GATEWAY6), (bytes(16), 53), None)
    stack.udp.packet_received(whole(IPv6(src=CLIENT6, dst=GATEWAY6) / UDP(sport=5000, dport=53) / b"six"))
    assert protocol.events[1] == (b"six", (CLIENT6, 5000, 0, 0))
    transport.sendto(b"x", protocol.events[1][1])
    assert stack.sent()[0].src == GATEWAY6


async def test_connected() -> None:
    stack = FakeStack()
    transport, protocol = opened(stack, 0, remote=(CLIENT4, 5000))
    assert transport.get_extra_info("peername") == (CLIENT4, 5000)
    transport.sendto(b"hello")
    transport.sendto(b"hello", (CLIENT4, 5000))
    with pytest.raises(ValueError, match="connected to"):
        transport.sendto(b"hello", (CLIENT4, 5001))
    sent = stack.sent()
    assert len(sent) == 2
    stack.icmp.packet_received(whole(IP(src=CLIENT4, dst=GATEWAY4) / ICMP(type=3, code=3) / sent[0]))
    assert isinstance(protocol.events[-1], ConnectionRefusedError)


async def test_what_does_not_fit_is_an_error_of_the_socket() -> None:
    stack = FakeStack()
    transport, protocol = opened(stack)
    transport.sendto(bytes(65508), (CLIENT4, 5000))
    assert protocol.events[-1].strerror == "Message too long"


async def test_closing() -> None:
    stack = FakeStack()
    transport, protocol = opened(stack, any_address=True)
    transport.close()
    transport.close()
    assert transport.is_closing()
    assert protocol.events == ["made"]  # connection_lost comes later, as with sockets
    transport.sendto(b"late", (CLIENT4, 5000))
    stack.udp.packet_received(whole(IP(src=CLIENT4, dst=GATEWAY4) / UDP(sport=5000, dport=53) / b"late"))
    await asyncio.sleep(0)
    assert protocol.events == ["made", ("lost", None)]
    assert [packet[ICMP].code for packet in stack.sent()] == [3]
    opened(stack)


async def test_the_end_of_the_stack_is_told() -> None:
    stack = FakeStack()
    transport, protocol = opened(stack)
    error = OSError("the link broke")
    stack.udp.close(error)
    await asyncio.sleep(0)
    assert transport.is_closing()
    assert protocol.events == ["made", ("lost", error)]


async def test_a_protocol_that_fails_does_not_stop_the_stack() -> None:
    stack = FakeStack()
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    class Failing(Protocol):
        def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
            raise ZeroDivisionError

    open_endpoint(stack.udp, Failing, packed(GATEWAY4), (packed(GATEWAY4), 53))
    stack.udp.packet_received(whole(IP(src=CLIENT4, dst=GATEWAY4) / UDP(sport=5000, dport=53)))
    assert isinstance(reported[0]["exception"], ZeroDivisionError)


async def test_a_factory_that_fails_leaves_the_port_free() -> None:
    stack = FakeStack()

    def factory() -> Protocol:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        open_endpoint(stack.udp, factory, packed(GATEWAY4), (packed(GATEWAY4), 53))
    opened(stack)
